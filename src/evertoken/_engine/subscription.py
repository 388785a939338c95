"""
A stream of tokens, for code that must push them into a live connection.

A subscription holds no token. When it is woken, it reads the token in service, so it never returns an expired one.
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
    An async iterator over the tokens of one key. `TokenManager.subscribe` makes it.

    It begins with the valid token, if there is one. A slow reader receives only the newest token, because a connection
    has no use for older ones. It ends when the manager closes, when its loop ends, or with `close`.

    Args:
        subscriptions: The list of subscriptions to which it belongs.

        key: The key of the tokens.

        peek: A function that returns the token in service, or None.

        begin: A function that is awaited before the first token, until it succeeds.
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
            # It is cleared only now: if it fails or is cancelled, it must be called again.
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
        """Treat the token with this value as known, so that the next one is different."""
        self._last = access_token

    def again(self) -> None:
        """Return the token in service once more, for example because it could not be used."""
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
        loop: The loop of the session.

        is_lost: A function that tells whether the session's loop has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, is_lost: Callable[[], bool]) -> None:
        super().__init__(loop, is_lost)
        self._lock = threading.Lock()
        self._readers: dict[Hashable, weakref.WeakSet[Subscription[Any]]] = {}

    def add(self, key: Hashable, reader: Subscription[Any]) -> None:
        """Add *reader* to the list."""
        with self._lock:
            self._readers.setdefault(key, weakref.WeakSet()).add(reader)

    def discard(self, key: Hashable, reader: Subscription[Any]) -> None:
        """Remove *reader* from the list."""
        with self._lock:
            readers = self._readers.get(key)
            if readers is not None:
                readers.discard(reader)
                if not readers:
                    del self._readers[key]

    def has(self, key: Hashable) -> bool:
        """Tell whether *key* has a subscription."""
        return bool(self._of(key))

    def changed(self, key: Hashable) -> None:
        """Let the readers of *key* check again."""
        for reader in self._of(key):
            reader.notify()

    def end(self) -> None:
        """End all subscriptions."""
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
                # All readers were garbage-collected without being closed.
                del self._readers[key]
            return found
