"""
One manager's calls of its store, each bounded, and none of them able to raise.

A store may be down, slow or wrong at any step. What it does then is told to the observers; the caller gets None.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeVar, final

from evertoken._engine.flight import bounded, cancelled_here
from evertoken._engine.observers import SHUTDOWN
from evertoken._model import events
from evertoken._model.protocols import Lease
from evertoken._model.redaction import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from evertoken._engine.flight import Strays
    from evertoken._engine.observers import Observers
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Clock, Held, Record, TokenStore

__all__ = ["Steps", "store_key"]

#: Seconds a step of the store may take.
STORE_TIMEOUT: Final = 5.0

T = TypeVar("T")


def store_key(namespace: str, key: Hashable, /) -> str:
    """
    Return the text under which *key* stands in a store; different keys never share one.

    Raises:
        TypeError: The key is not made of None, strings, numbers, booleans and tuples of those.
    """
    try:
        return json.dumps([namespace, key], separators=(",", ":"), ensure_ascii=True)
    except TypeError:
        msg = f"with a store, a key must be a string, a number or a tuple of those, not {type(key).__name__}"
        raise TypeError(msg) from None


@final
class Steps:
    """
    A store as the refresh path sees it.

    Args:
        namespace: Sets the keys of this manager apart from those of others in the same store.
    """

    def __init__(
        self, store: TokenStore, namespace: str, *, clock: Clock, observers: Observers, strays: Strays
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._observers = observers
        self._strays = strays

    def key_of(self, entry: Entry) -> str:
        """
        Return the store's key of *entry*.
        """
        return store_key(self._namespace, entry.key)

    async def acquire(self, entry: Entry, owner: str, ttl: float) -> Lease | Held | None:
        """
        Ask for the lease.
        """
        return await self._step("acquire", entry, lambda: self._store.acquire(self.key_of(entry), owner, ttl))

    async def read(self, entry: Entry) -> tuple[Record | None] | None:
        """
        Return the record, or that there is none, in a tuple.
        """

        async def read() -> tuple[Record | None]:
            record = await self._store.read(self.key_of(entry))
            if record is not None and record.key != self.key_of(entry):
                msg = "the store returned a record of another key"
                raise LookupError(msg)
            return (record,)

        return await self._step("read", entry, read)

    async def write(self, entry: Entry, record: Record, lease: Lease) -> bool | None:
        """
        Keep *record*; False where the lease or the version is outdated.
        """
        return await self._step("write", entry, lambda: self._store.write(record, lease))

    async def renew(self, entry: Entry, lease: Lease, ttl: float) -> bool | None:
        """
        Let the lease end *ttl* seconds from now; False where it is lost.
        """
        return await self._step("renew", entry, lambda: self._store.renew(lease, ttl))

    async def release(self, entry: Entry, lease: Lease | Held | None) -> None:
        """
        Give the lease back, if it is one.
        """
        if isinstance(lease, Lease):
            held = lease
            await self._step("release", entry, lambda: self._store.release(held))

    def failed(self, operation: str, error: BaseException, entry: Entry | None = None) -> None:
        """
        Tell the observers what the store did instead of *operation*.
        """
        token = None if entry is None else entry.token
        said = describe(error, () if token is None else (token.access_token, token.refresh_token))
        key = None if entry is None else entry.key
        self._observers.emit(events.StoreFailed(at=self._clock.time(), key=key, operation=operation, error=said))

    async def _step(self, operation: str, entry: Entry, call: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await bounded(
                call, STORE_TIMEOUT, clock=self._clock, strays=self._strays, name=f"evertoken:store:{operation}"
            )
        except (*SHUTDOWN, GeneratorExit):
            raise
        except BaseException as error:
            if cancelled_here(error):
                raise
            self.failed(operation, error, entry)
            return None
