"""
One manager as a member of a fleet: its store, entered and left, and the watch over what peers write.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, cast, final

from evertoken._coordination.fleet import Sharing
from evertoken._coordination.store_client import STORE_TIMEOUT, Steps, store_key
from evertoken._engine.flight import Gate, bounded, cancelled_here, told_to_end
from evertoken._engine.flights import LOOKS
from evertoken._engine.observers import SHUTDOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from evertoken._engine.flight import Strays
    from evertoken._engine.observers import Observers
    from evertoken._engine.registry import Registry
    from evertoken._model.events import Reason
    from evertoken._model.failure_state import Rules
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Clock, Timer, TokenStore, WatchedStore

__all__ = ["Fleet"]

#: Seconds before a watch that ended is begun again, and before what could not be read is read again; doubled each
#: time, up to the last.
REWATCH: Final = 1.0
REWATCH_CAP: Final = 30.0


@final
class Fleet:
    """
    Membership in a fleet.

    Args:
        launch: Starts a flight for an entry.
    """

    def __init__(
        self,
        store: TokenStore,
        namespace: str,
        *,
        clock: Clock,
        rules: Rules,
        observers: Observers,
        strays: Strays,
        registry: Registry,
        launch: Callable[[Entry, Reason], object],
    ) -> None:
        self.sharing = Sharing(
            Steps(store, namespace, clock=clock, observers=observers, strays=strays),
            clock=clock,
            rules=rules,
            observers=observers,
        )
        self.sharing.unread = self._unread
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._strays = strays
        self._registry = registry
        self._launch = launch
        self._entered = False
        self._task: asyncio.Task[None] | None = None
        self._missed: dict[Entry, None] = {}
        self._timer: Timer | None = None
        self._pause = REWATCH

    async def start(self) -> None:
        """
        Enter the store, and watch it if it can be watched. A store that is down keeps nothing from starting.
        """
        self._missed, self._timer = {}, None
        await self._life("open", "__aenter__")
        # Not isinstance(): that sees through no store that passes on to another.
        if callable(getattr(self._store, "watch", None)):
            watched = cast("WatchedStore", self._store)
            self._task = asyncio.get_running_loop().create_task(self._watch(watched), name="evertoken:watch")

    async def stop(self) -> None:
        """
        End the watch and leave the store.
        """
        task, self._task = self._task, None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=STORE_TIMEOUT)
        if self._entered:
            self._entered = False
            await self._life("close", "__aexit__", None, None, None)

    async def _life(self, operation: str, method: str, *args: object) -> None:
        store: Any = self._store
        if not hasattr(type(store), method):
            return

        async def call() -> None:
            await getattr(store, method)(*args)
            # Here, for a start that is cancelled in this very round has entered the store all the same.
            self._entered = operation == "open"

        try:
            await bounded(
                call,
                STORE_TIMEOUT,
                clock=self._clock,
                strays=self._strays,
                name=f"evertoken:store:{operation}",
            )
        except (*SHUTDOWN, GeneratorExit):
            raise
        except BaseException as error:
            if cancelled_here(error):
                raise
            self.sharing.steps.failed(operation, error)

    async def _watch(self, store: WatchedStore) -> None:
        pause = REWATCH
        # A store that swallowed the cancellation is not asked again.
        while not told_to_end():
            begun = self._clock.monotonic()
            try:
                await store.watch(self._written)
            except (*SHUTDOWN, GeneratorExit):
                raise
            except BaseException as error:
                if cancelled_here(error):
                    raise
                self.sharing.steps.failed("watch", error)
            pause = REWATCH if self._clock.monotonic() - begun > REWATCH_CAP else min(2.0 * pause, REWATCH_CAP)
            await Gate().wait(self._clock, pause)

    def _written(self, name: str | None) -> None:
        self.sharing.written(name)
        self._pause = REWATCH
        if name is None:
            # Something may have been missed. What is not in service anywhere here is looked up when it is asked for.
            for entry in list(self._registry.entries.values()):
                self._look(entry)
            return
        known = self._registry.entries.get(self._key_of(name))
        if known is not None and store_key(self._namespace, known.key) == name:
            self._look(known)

    def _look(self, entry: Entry) -> None:
        trouble = entry.trouble
        if entry.flight is not None:
            if entry.flight.reason in LOOKS:
                # It may have read the record before this was written.
                self._unread(entry)
        elif entry.token is not None or (trouble is not None and trouble.error is not None):
            self._launch(entry, "peer")

    def _unread(self, entry: Entry) -> None:
        # Nobody says it twice: without another look a sign-out would go unnoticed until the token is due.
        if self._task is None:
            return
        self._missed[entry] = None
        if self._timer is None:
            self._timer = self._clock.call_later(self._pause, self._look_again)
            self._pause = min(2.0 * self._pause, REWATCH_CAP)

    def _look_again(self) -> None:
        self._timer = None
        missed, self._missed = self._missed, {}
        for entry in missed:
            if self._registry.entries.get(entry.key) is entry:
                self._look(entry)

    def _key_of(self, name: str) -> Hashable:
        try:
            namespace, key = json.loads(name)
        except (ValueError, TypeError):
            return _NO_KEY
        return _hashable(key) if namespace == self._namespace else _NO_KEY


_NO_KEY: Final = object()


def _hashable(key: Any) -> Hashable:
    # JSON has no tuples; a key has no lists.
    return tuple(map(_hashable, key)) if isinstance(key, list) else _NO_KEY if isinstance(key, dict) else key
