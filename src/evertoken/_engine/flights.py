"""
The flights under way. Each key has at most one flight, and each flight has its own task.

Callers that need a token join the registered flight of a key. Only that flight changes the key.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, cast, final

from evertoken._engine.flight import CANCEL_GRACE, INSIDE, LOOKS, Flight
from evertoken._engine.refresh import RefreshPath
from evertoken._engine.settlement import Settlement
from evertoken._engine.tasks import spawn
from evertoken._model.errors import ManagerClosed, TransientRefreshError
from evertoken._model.failures import Overdue, failure_of
from evertoken._model.redaction import describe

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._engine.refresh import Outcome
    from evertoken._engine.session import Session
    from evertoken._model.key_state import KeyState

__all__ = ["Flights"]


@final
class Flights:
    """The flights of one session."""

    def __init__(self, session: Session) -> None:
        self._clock = session.clock
        self._limits = session.limits
        self._providers = session.providers
        self._provider_of = session.registry.provider_of
        self._settlement = Settlement(session)
        self._run = RefreshPath(session).run
        self._strays = session.strays
        self._loop = session.loop
        self._flying: dict[asyncio.Task[Outcome], tuple[KeyState, Flight]] = {}
        # Flights that ended without their task. An answer may still come.
        self._late: dict[KeyState, asyncio.Task[Outcome]] = {}

    @property
    def in_flight(self) -> int:
        """The number of flights with a task."""
        return len(self._flying)

    def launch(self, state: KeyState, reason: str, *, urgent: bool) -> Flight:
        """
        Return the flight of *state*: the one under way, or a new one.

        With an eager task factory the flight may already have landed when this returns.
        """
        flight = cast("Flight | None", state.flight)
        inside = INSIDE.get()
        if flight is not None:
            if inside is not None:
                flight.wanted_by(inside)
            if reason not in LOOKS and flight.reason in LOOKS:
                flight.reason = reason
            if urgent:
                flight.urgent = True
                if not flight.started:
                    self._enter(state, flight, urgent=True)
                elif flight.shut:
                    self._limits.urge(flight.provider, flight)
            return flight
        # It is registered before it starts, because an eager task may land before create_task() returns.
        state.flight = flight = Flight(reason, after=self._late.get(state), limits=self._limits)
        if inside is not None:
            flight.wanted_by(inside)
        self._enter(state, flight, urgent=urgent)
        return flight

    def hold(self, state: KeyState, reason: str) -> Flight:
        """
        Return a new flight of *state*, which has none. Call `release` later to begin it.

        A caller that joins it and waits begins it earlier. Then it is not held any longer.
        """
        state.flight = flight = Flight(reason, after=self._late.get(state), limits=self._limits)
        return flight

    def holds(self, state: KeyState, flight: Flight) -> bool:
        """Tell whether *flight* is the flight of *state*, and has not begun."""
        return state.flight is flight and not flight.started and not flight.landed

    def land(self, state: KeyState, flight: Flight, outcome: Outcome) -> None:
        """End a flight that was held."""
        self._settlement.settle(state, flight, outcome)

    def release(self, state: KeyState, flight: Flight) -> None:
        """Begin a flight that was held, when its turn has come."""
        self._enter(state, flight, urgent=False)

    def replace(self, state: KeyState, reason: str, *, decided: bool = False) -> Flight:
        """
        Make the flight of *state* void, and start a new one in its place.

        If the old flight has sent the refresh token that the key would present next, it may finish, and its response is
        kept. The new flight does nothing before the old one has ended.
        """
        before = cast("Flight | None", state.flight)
        after = self._late.get(state)
        if before is not None:
            before.void = True
            after = before.task or after
            if before.task is not None and before.response is None and not before.spends_what(state.token):
                before.task.cancel()
        state.flight = flight = Flight(reason, after=after, decided=decided, limits=self._limits)
        if before is not None:
            before.land(None)
        self._enter(state, flight, urgent=True)
        return flight

    async def drain(self, grace: float, bound: float) -> None:
        """
        Wait for the flights under way, for at most *grace* seconds. Then cancel those that have received nothing.

        Wait at most *bound* more seconds for flights that have received a token, so that it can be kept.
        """
        await self._wait(grace)
        for task, (_, flight) in list(self._flying.items()):
            if flight.response is None:
                task.cancel()
        await self._wait(bound if any(flight.response for _, flight in self._flying.values()) else CANCEL_GRACE)
        for task in list(self._flying):
            task.cancel()
        await self._wait(CANCEL_GRACE)
        for task, (state, flight) in list(self._flying.items()):
            self._strays.add(task)
            self._settlement.settle(state, flight, _closed())

    def drop(self) -> list[asyncio.Task[Outcome]]:
        """Forget the flights of a loop that is gone, and return their tasks. Responses that arrived are kept."""
        flying, self._flying = self._flying, {}
        for state, flight in flying.values():
            self._settlement.settle(state, flight, _closed())
        return list(flying)

    # How

    def _enter(self, state: KeyState, flight: Flight, *, urgent: bool) -> None:
        provider = self._provider_of(state)
        flight.urgent = flight.urgent or urgent
        start = partial(self._start, state, flight, provider)
        counts = flight.reason not in LOOKS
        try:
            left = math.inf if urgent else self._left(state)
            self._limits.enter(provider, flight, start, urgent=urgent, counts=counts, left=left)
        except Exception as error:
            # If the clock raises, no flight may be left behind that never starts.
            if flight.started:
                raise
            self._settlement.settle(state, flight, TransientRefreshError(describe(error)))

    def _left(self, state: KeyState) -> float:
        # A refresh ahead of expiry counts as urgent after half of the token's remaining life.
        now = self._clock.time()
        token = state.in_service(now)
        return math.inf if token is None else token.remaining(now) / 2.0

    def _start(self, state: KeyState, flight: Flight, provider: Hashable) -> bool:
        if flight.landed or flight.started or state.flight is not flight:
            return False
        flight.started = True
        flight.provider = flight.place = provider
        flight.stuck = partial(self._stuck, state, flight)
        run = self._run(state, flight)
        # The context is clean, so that a fetch does not inherit the trace or the locals of its first caller.
        try:
            task = spawn(self._loop, run, f"evertoken:refresh:{state.key!r}")
        except Exception as error:  # noqa: BLE001 - a key without repr, or a task factory without context
            run.close()
            self._settlement.settle(state, flight, TransientRefreshError(describe(error)))
            flight.place = None
            return False
        flight.task = task
        self._flying[task] = state, flight
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[Outcome]) -> None:
        found = self._flying.pop(task, None)
        if found is None:
            # It was settled already, because it did not end in time. A response that came since then is kept.
            return
        state, flight = found
        outcome: Outcome
        if task.cancelled():
            # It was cancelled from outside, perhaps before its first step.
            outcome = TransientRefreshError("the fetch was cancelled", ambiguous=flight.sent)
        else:
            error = task.exception()
            outcome = task.result() if error is None else TransientRefreshError(describe(error), ambiguous=flight.sent)
        try:
            self._settlement.settle(state, flight, outcome)
        finally:
            self._leave(flight)

    def _stuck(self, state: KeyState, flight: Flight) -> None:
        # The task ignores its cancellation. It is left running, and its late answer is taken when it comes.
        task = flight.task
        if task is None or task.done() or self._flying.pop(task, None) is None:
            return
        # A second cancellation could destroy the answer that the task is about to return.
        self._strays.add(task, cancel=not flight.irreplaceable)
        self._late[state] = task
        task.add_done_callback(partial(self._came_late, state, flight))
        failure: Outcome = TransientRefreshError("the store did not answer in time")
        if flight.request is not None:
            failure = failure_of(Overdue(), flight.request)
            self._providers.judge(flight, state, failure)
        try:
            self._settlement.settle(state, flight, failure)
        finally:
            self._leave(flight)

    def _came_late(self, state: KeyState, flight: Flight, task: asyncio.Task[Outcome]) -> None:
        if self._late.get(state) is task:
            del self._late[state]
        if flight.response is not None:
            self._settlement.settle(state, flight, None)

    def _leave(self, flight: Flight) -> None:
        place, flight.place = flight.place, None
        self._limits.ended(flight.provider, flight, asked=flight.request is not None, placed=place is not None)

    async def _wait(self, seconds: float) -> None:
        # This uses the loop's own timers, so that a close ends in time even if the given clock is broken.
        if self._flying:
            await asyncio.wait(set(self._flying), timeout=seconds)


def _closed() -> ManagerClosed:
    return ManagerClosed("the manager was closed")
