"""
Which flights are under way: at most one a key, each in a task of its own.

Whoever needs a token joins the flight that is registered here, and only the flight that is registered may write to
its entry.
"""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

from evertoken._engine.flight import Flight, Gate
from evertoken._model.errors import TransientRefreshError
from evertoken._model.redaction import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable
    from typing import Any

    from evertoken._engine.rate_limit import Lanes
    from evertoken._engine.settlement import Landing, TokenFlight
    from evertoken._model.events import Reason
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Clock

__all__ = ["LOOKS", "Flights"]

#: Reasons for a flight that only looks at the store.
LOOKS: Final = frozenset({"peer", "repair"})


@final
class Flights:
    """
    The flights of one manager.

    Args:
        run: The refresh path, that each of them takes.

        landing: Where those end that did not get there themselves.
    """

    def __init__(
        self,
        run: Callable[[Entry, TokenFlight], Coroutine[Any, Any, None]],
        *,
        clock: Clock,
        lanes: Lanes,
        provider_of: Callable[[Entry], Hashable],
        landing: Landing,
    ) -> None:
        self._run = run
        self._clock = clock
        self._lanes = lanes
        self._provider_of = provider_of
        self._landing = landing
        self._flying: dict[asyncio.Task[None], Entry] = {}

    @property
    def in_flight(self) -> int:
        """
        How many flights have a task.
        """
        return len(self._flying)

    def launch(self, entry: Entry, reason: Reason, *, urgent: bool) -> TokenFlight:
        """
        Return the flight of *entry*: the one under way, or a new one.

        With an eager task factory it may have landed when this returns.
        """
        flight = cast("TokenFlight | None", entry.flight)
        if flight is not None:
            if reason not in LOOKS and flight.reason in LOOKS:
                flight.reason = reason
            if urgent and not flight.started:
                self._lanes.enter(self._provider_of(entry), partial(self._start, entry, flight), urgent=True)
            return flight
        # Registered before it starts: an eager task may land before create_task() returns.
        entry.flight = flight = Flight(reason)
        self._lanes.enter(self._provider_of(entry), partial(self._start, entry, flight), urgent=urgent)
        return flight

    async def drain(self, grace: float) -> None:
        """
        Wait for the flights under way, for at most *grace* seconds; then cancel what is left, and wait for its end.
        """
        self._lanes.clear()
        gate = Gate()
        for task in self._flying:
            task.add_done_callback(lambda _: gate.wake() if not self._flying else None)
        try:
            if self._flying:
                await gate.wait(self._clock, grace)
        finally:
            for task in self._flying:
                task.cancel()
            if self._flying:
                await asyncio.wait(set(self._flying))

    async def void(self, entry: Entry) -> None:
        """
        End the flight of *entry*, if there is one, and let nothing come of it.
        """
        flight = cast("TokenFlight | None", entry.flight)
        if flight is None:
            return
        flight.void = True
        if flight.task is None:
            entry.flight = None
            flight.land(None)
        else:
            flight.task.cancel()
            await asyncio.wait({flight.task})

    def abandon(self) -> None:
        """
        Forget the flights under way.
        """
        self._flying.clear()

    def _start(self, entry: Entry, flight: TokenFlight) -> bool:
        if flight.landed or flight.started or entry.flight is not flight:
            return False
        flight.started = True
        run = self._run(entry, flight)
        try:
            task = asyncio.get_running_loop().create_task(
                run, name=f"evertoken:refresh:{entry.key!r}", context=contextvars.Context()
            )
        except Exception as error:  # noqa: BLE001 - a key that has no repr, or a task factory that takes no context
            run.close()
            self._landing.end(entry, flight, TransientRefreshError(describe(error)))
            return False
        flight.task = task
        self._flying[task] = entry
        task.add_done_callback(partial(self._ended, entry, flight, self._provider_of(entry)))
        return True

    def _ended(self, entry: Entry, flight: TokenFlight, provider: Hashable, task: asyncio.Task[None]) -> None:
        self._flying.pop(task, None)
        # Cancelled from outside, perhaps before its first step; or its end raised, as a policy may.
        error = None if task.cancelled() else task.exception()
        try:
            if not flight.landed and flight.void:
                entry.flight = None
                flight.land(None)
            elif not flight.landed:
                said = "the fetch was cancelled" if error is None else describe(error)
                self._landing.end(entry, flight, TransientRefreshError(said, ambiguous=True))
        finally:
            self._lanes.leave(provider)
