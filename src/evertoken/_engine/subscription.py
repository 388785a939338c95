"""
Tokens as they come, for code that must push them into a live connection.

A subscription holds no token. When it is woken it looks at what is in service, so it never hands out a dead one.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, cast, final

from evertoken._engine.reader import Reader, Readers
from evertoken._model.generic import OfToken, TokenT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Hashable

    from evertoken._model.token import Token

__all__ = ["Subscription", "Subscriptions"]


@final
class Subscription(Reader, OfToken[TokenT]):
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

    __slots__ = ("_begin", "_key", "_last", "_peek", "_subscriptions")

    def __init__(
        self,
        subscriptions: Subscriptions,
        key: Hashable,
        peek: Callable[[], Token | None],
        begin: Callable[[], Awaitable[object]],
    ) -> None:
        super().__init__(subscriptions)
        self._subscriptions = subscriptions
        self._key = key
        self._peek = peek
        self._begin: Callable[[], Awaitable[object]] | None = begin
        self._last: str | None = None
        subscriptions.add(key, self)

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

    def skip(self, access_token: str | None) -> None:
        """Take the token with this value for known, so that the next one is another."""
        self._last = access_token

    def again(self) -> None:
        """Give the token in service once more, as where it could not be used."""
        self._last = None
        self.notify()

    def __repr__(self) -> str:
        return f"Subscription(closed={self._closed})"

    def _leave(self) -> None:
        self._subscriptions.discard(self._key, self)


@final
class Subscriptions(Readers):
    """
    The subscriptions of one session.

    Args:
        loop: The session's.

        is_lost: Tells whether the session's loop has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, is_lost: Callable[[], bool]) -> None:
        super().__init__(loop, is_lost)
        self._lock = threading.Lock()
        self._readers: dict[Hashable, weakref.WeakSet[Subscription[Any]]] = {}

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
