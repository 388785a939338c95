"""Looks at records that peers wrote. The records of many keys are read in one round trip."""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING, Final, final

from evertoken._coordination.store_client import STORE_TIMEOUT
from evertoken._engine.flight import LOOKS
from evertoken._engine.observers import say
from evertoken._engine.tasks import Gate, next_turn, spawn, told_to_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evertoken._coordination.store_client import StoreClient
    from evertoken._engine.flight import Flight
    from evertoken._engine.session import Session
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Record

__all__ = ["LOOK_PAUSE", "MOST_KEYS", "Looks"]

#: Seconds from one look to the next. Writes that are reported in between are read by the next look.
LOOK_PAUSE: Final = 0.2

#: The number of records that are read at a time.
MOST_KEYS: Final = 200


@final
class Looks:
    """
    The looks of one session at keys in service.

    Each key has its own flight while its record is read. The flight has no task at first. It gets a task, and takes the
    whole refresh path, if a caller joins it, if the record cannot be read, or if a look is not enough.

    Args:
        judge: A function that returns the record if it is newer than memory and useful. It may mark the key as unkept.

        unread: A function that is called with a key whose own flight may have read an older record.
    """

    def __init__(
        self,
        client: StoreClient,
        session: Session,
        *,
        judge: Callable[[KeyState, Record | None], Record | None],
        unread: Callable[[KeyState], object],
    ) -> None:
        self._client = client
        self._session = session
        self._judge = judge
        self._unread = unread
        self._wanted: dict[KeyState, None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, state: KeyState) -> None:
        """Look at *state*: now, or together with others if there was a look a moment ago."""
        self._wanted[state] = None
        if self._task is None:
            self._begin()

    def wants(self, state: KeyState) -> bool:
        """Tell whether a look at *state* is still outstanding."""
        return state in self._wanted

    async def close(self) -> None:
        """Stop looking."""
        self._wanted.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=STORE_TIMEOUT)

    def _begin(self) -> None:
        self._task = task = spawn(asyncio.get_running_loop(), self._run(), "evertoken:look")
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            say(logging.ERROR, "reading records of peers raised %s", type(error).__qualname__)
        elif self._wanted and self._session.running:
            # A write was reported at the last moment, or somebody cancelled all tasks.
            self._begin()

    async def _run(self) -> None:
        await next_turn()
        while self._wanted and not told_to_end():
            states = list(islice(self._wanted, MOST_KEYS))
            for state in states:
                del self._wanted[state]
            await self._look(states)
            if len(states) < MOST_KEYS:
                await Gate().wait(self._session.clock, LOOK_PAUSE)

    async def _look(self, states: list[KeyState]) -> None:
        session, held = self._session, []
        for state in states:
            if not session.running or session.registry.keys.get(state.key) is not state:
                continue
            if state.flight is None:
                held.append((state, session.flights.hold(state, "peer")))
            elif state.flight.reason in LOOKS:
                self._unread(state)
        found: Mapping[str, Record] | None = None
        try:
            if held:
                found = await self._client.read_many(held)
        finally:
            for state, flight in held:
                self._end(state, flight, found)

    def _end(self, state: KeyState, flight: Flight, found: Mapping[str, Record] | None) -> None:
        flights = self._session.flights
        if not flights.holds(state, flight):
            # The flight was replaced, or a caller has begun it.
            return
        if not self._session.running:
            flights.land(state, flight, None)
        elif found is None or flight.name is None or state.unkept:
            flights.release(state, flight)
        else:
            try:
                newer = self._judge(state, found.get(flight.name))
            except Exception:  # noqa: BLE001 - a policy raised, and the end of the flight reports it
                flights.release(state, flight)
                return
            # The refresh path begins with the same check.
            if newer is not None or (flight.reason in LOOKS and not state.unkept):
                flights.land(state, flight, newer)
            else:
                flights.release(state, flight)
