"""
Tokens as they come, for code that must push them into a live connection.

A subscription holds no token. When it is woken it looks at what is in service, so it never hands out a dead one.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Self, cast, final

from evertoken._engine.tasks import ring
from evertoken._model.generic import OfToken, TokenT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from evertoken._model.token import Token

__all__ = ["Subscription", "Subscriptions"]

# Seconds between two looks at whether the session of a subscription on another loop still lives.
_WATCH: Final = 0.5


@final
class Subscription(OfToken[TokenT]):
    """
    An async iterator over the tokens of one key. Made by `TokenManager.subscribe`.

    It begins with the valid token, if there is one. A slow reader is given the newest token and not those between:
    a connection has no use for them. It ends when the manager closes or its loop ends, or with `close`.

    Args:
        subscriptions: Where it is listed.

        key: Of which tokens.

        peek: Returns the token in service, or None.

        begin: Awaited before the first token, until it has ended well.
    """

    __slots__ = ("__weakref__", "_begin", "_closed", "_key", "_last", "_loop", "_peek", "_subscriptions", "_wakeup")

    def __init__(
        self,
        subscriptions: Subscriptions,
        key: Hashable,
        peek: Callable[[], Token | None],
        begin: Callable[[], Awaitable[object]],
    ) -> None:
        self._subscriptions = subscriptions
        self._key = key
        self._peek = peek
        self._begin: Callable[[], Awaitable[object]] | None = begin
        self._loop = asyncio.get_running_loop()
        self._last: str | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._closed = False
        subscriptions.add(key, self)

    def notify(self) -> None:
        """Have the reader look again, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:
            # The reader's loop is gone, and the reader with it.
            self._closed = True

    def close(self) -> None:
        """End the iteration, from any thread."""
        if not self._closed:
            self._closed = True
            self._subscriptions.discard(self._key, self)
            self.notify()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TokenT:
        if self._wakeup is not None:
            msg = "a subscription has one reader; subscribe again for another"
            raise RuntimeError(msg)
        if self._begin is not None and not self._closed:
            await self._begin()
            # Not before: one that failed, or was cancelled, is yet to be begun.
            self._begin = None
        while not self._closed:
            token = self._peek()
            if token is not None and token.access_token != self._last:
                self._last = token.access_token
                return cast("TokenT", token)
            await self._wait()
            if self._subscriptions.lost:
                self.close()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Subscription(closed={self._closed})"

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._wakeup = wakeup = loop.create_future()
        # Another loop than the session's may outlive it without being told.
        watch = None if loop is self._subscriptions.loop else loop.call_later(_WATCH, ring, wakeup)
        try:
            # Held while it waits: nothing else may refer to it, or to its task.
            with self._subscriptions.holding(self):
                await wakeup
        finally:
            self._wakeup = None
            if watch is not None:
                watch.cancel()

    def _ring(self) -> None:
        if self._wakeup is not None:
            ring(self._wakeup)


@final
class _Holding:
    __slots__ = ("_held", "_one")

    def __init__(self, held: set[Any], one: Any) -> None:
        self._held = held
        self._one = one

    def __enter__(self) -> None:
        self._held.add(self._one)

    def __exit__(self, *_: object) -> None:
        self._held.discard(self._one)


@final
class Subscriptions:
    """
    The subscriptions of one session, on whatever loops and threads their readers are.

    Args:
        loop: The session's.

        is_lost: Tells whether the session's loop has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, is_lost: Callable[[], bool]) -> None:
        self.loop = loop
        self._is_lost = is_lost
        self._lock = threading.Lock()
        self._readers: dict[Hashable, weakref.WeakSet[Subscription[Any]]] = {}
        self._waiting: set[Subscription[Any]] = set()
        self._ended = False

    @property
    def lost(self) -> bool:
        """Whether nothing will come any more."""
        return self._ended or self._is_lost()

    def add(self, key: Hashable, reader: Subscription[Any]) -> None:
        """List *reader*."""
        with self._lock:
            self._readers.setdefault(key, weakref.WeakSet()).add(reader)

    def discard(self, key: Hashable, reader: Subscription[Any]) -> None:
        """List *reader* no longer."""
        with self._lock:
            readers = self._readers.get(key)
            if readers is not None:
                readers.discard(reader)
                if not readers:
                    del self._readers[key]

    def has(self, key: Hashable) -> bool:
        """Tell whether somebody subscribes to *key*."""
        return bool(self._of(key))

    def changed(self, key: Hashable) -> None:
        """Have the readers of *key* look again."""
        for reader in self._of(key):
            reader.notify()

    def holding(self, reader: Subscription[Any]) -> _Holding:
        """Return a context in which *reader* is not collected."""
        return _Holding(self._waiting, reader)

    def end(self) -> None:
        """End all of them."""
        self._ended = True
        with self._lock:
            keys = list(self._readers)
        for key in keys:
            for reader in self._of(key):
                reader.close()

    def _of(self, key: Hashable) -> list[Subscription[Any]]:
        if key not in self._readers:
            return []
        with self._lock:
            readers = self._readers.get(key)
            found = [] if readers is None else list(readers)
            if readers is not None and not found:
                # They were dropped without being closed.
                del self._readers[key]
            return found
