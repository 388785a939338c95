"""Enters and leaves the store, and watches the writes of peers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast, final

from evertoken._coordination.looks import MOST_KEYS, Looks
from evertoken._coordination.store_client import STORE_TIMEOUT, key_of, store_key
from evertoken._engine.flight import LOOKS
from evertoken._engine.tasks import Gate, must_propagate, next_turn, spawn, told_to_end
from evertoken._model.identity import identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from evertoken._coordination.store_client import StoreClient
    from evertoken._engine.session import Session
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Record, Timer, WatchedStore

__all__ = ["Watch"]

#: Seconds before an ended watch starts again. The peers of a flushed store get more time than this.
REWATCH: Final = 1.0

#: Seconds before a record that could not be read is read again. They double each time, up to the cap.
REREAD: Final = 1.0
REREAD_CAP: Final = 30.0

# If a watch lasted this many seconds, its end does not count as another failure in a row.
_LASTED: Final = 30.0


@final
class Watch:
    """
    The reports of a store to one session.

    written: A function that is called with the name of a written record, or None if a write may have been missed.
        written: Called with the store's key that was written, or None where something may have been missed.

        judge: A function that returns a record if it is newer than memory and useful.
    """

    def __init__(
        self,
        client: StoreClient,
        namespace: str | None,
        session: Session,
        *,
        written: Callable[[str | None], object],
        judge: Callable[[KeyState, Record | None], Record | None],
    ) -> None:
        self._client = client
        self._namespace = namespace or ""
        self._session = session
        self._notify = written
        self._looks: Looks | None = None
        if callable(getattr(client.store, "read_many", None)):
            self._looks = Looks(client, session, judge=judge, unread=self.unread)
        self._entered = False
        self._task: asyncio.Task[None] | None = None
        self._missed: dict[KeyState, None] = {}
        self._timer: Timer | None = None
        self._again: Timer | None = None
        self._pause = REREAD

    async def open(self) -> None:
        """Enter the store, and watch it if it supports that."""
        await self._enter_or_leave("open", "__aenter__")
        # isinstance() is not used, because a store may pass its calls on to another one.
        if callable(getattr(self._client.store, "watch", None)):
            self._begin(self._watch)
        elif (every := self._session.settings.check_every) is not None:
            self._begin(partial(self._check, every))

    async def close(self) -> None:
        """End the watch, and leave the store."""
        task, self._task = self._task, None
        for timer in (self._timer, self._again):
            if timer is not None:
                timer.cancel()
        self._timer = self._again = None
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=STORE_TIMEOUT)
        if self._looks is not None:
            await self._looks.close()
        if self._entered:
            self._entered = False
            await self._enter_or_leave("close", "__aexit__", None, None, None)

    def is_told(self, state: KeyState) -> bool:
        """Tell whether a peer has written *state* since the last look."""
        return self._looks is not None and self._looks.wants(state)

    def unread(self, state: KeyState) -> None:
        """
        The record of *state* could not be read. Look again later.

        The store reports a write only once. Without another look, a sign-out would go unnoticed until the token is due.
        """
        if self._task is None:
            return
        self._missed[state] = None
        if self._timer is None:
            self._timer = self._session.clock.call_later(self._pause, self._look_again)
            self._pause = min(2.0 * self._pause, REREAD_CAP)

    async def _enter_or_leave(self, operation: str, method: str, *arguments: object) -> None:
        store: Any = self._client.store
        if not hasattr(type(store), method):
            return

        async def call() -> None:
            await getattr(store, method)(*arguments)
            # This is set here, because a start that is cancelled in this moment has entered the store anyway.
            self._entered = operation == "open"

        await self._client.outside(operation, None, call)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._session.running:
            return
        self._task = task = spawn(asyncio.get_running_loop(), work(), "evertoken:watch")
        task.add_done_callback(partial(self._watch_ended, work))

    def _watch_ended(self, work: Callable[[], Coroutine[Any, Any, None]], task: asyncio.Task[None]) -> None:
        # Somebody cancelled all tasks. The session continues, and so does its watch.
        if self._task is task and self._session.running:
            self._again = self._session.clock.call_later(REWATCH, self._begin, work)

    async def _check(self, every: float) -> None:
        await next_turn()
        while not told_to_end():
            # A part of the keys at a time, so that the store is not asked for all of them at once.
            states = list(self._session.registry.keys.values())
            for start in range(0, max(len(states), 1), MOST_KEYS):
                await Gate().wait(self._session.clock, every * MOST_KEYS / max(len(states), MOST_KEYS))
                for state in states[start : start + MOST_KEYS]:
                    if self._session.running and self._session.registry.keys.get(state.key) is state:
                        self._look(state, self._looks)

    async def _watch(self) -> None:
        store = cast("WatchedStore", self._client.store)
        failures = 0
        await next_turn()
        # A store that swallowed the cancellation is not called again.
        while not told_to_end():
            begun = self._session.clock.monotonic()
            try:
                await store.watch(self._written)
            except BaseException as error:
                if must_propagate(error):
                    raise
                failures = failures + 1 if self._session.clock.monotonic() - begun < _LASTED else 1
                if failures.bit_count() == 1:
                    # Only the first, second, fourth and so on are reported, so that an outage is not reported every
                    # second.
                    self._client.failed("watch", error)
            self._client.hears(watching=False)
            await Gate().wait(self._session.clock, REWATCH)

    def _written(self, name: str | None) -> None:
        if name is None:
            self._client.hears(watching=True)
        elif self._client.is_own_notice(name):
            return
        self._notify(name)
        self._pause = REREAD
        if not self._session.running:
            return
        if name is None:
            # A write may have been missed. A key that is not in service is read when a caller asks for it.
            for state in list(self._session.registry.keys.values()):
                self._look(state, self._looks)
            return
        known = self._session.registry.keys.get(key_of(self._namespace, name))
        if known is not None and store_key(self._namespace, known.key, identity_of(known.source)) == name:
            self._look(known, self._looks)

    def _look(self, state: KeyState, looks: Looks | None) -> None:
        failure = state.failure
        if state.flight is not None:
            if state.flight.reason not in LOOKS:
                return
            # It may have read the record before this write.
            if looks is not None and not state.flight.started:
                looks.add(state)
            else:
                self.unread(state)
        elif looks is not None and state.in_service(self._session.clock.time()) is not None:
            looks.add(state)
        elif state.token is not None or (failure is not None and failure.error is not None):
            # A caller may need a token at any moment, so this is not delayed.
            self._session.flights.launch(state, "peer", urgent=False)

    def _look_again(self) -> None:
        self._timer = None
        missed, self._missed = self._missed, {}
        for state in missed:
            if self._session.running and self._session.registry.keys.get(state.key) is state:
                # It is read alone: if many records are read together, an unreadable one hides the others.
                self._look(state, None)
