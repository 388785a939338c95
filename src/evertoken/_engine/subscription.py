"""
Tokens as they come, for whoever must push them into a live connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, cast, final

from evertoken._model.generic import OfToken, TokenT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from evertoken._model.token import Token

__all__ = ["Subscription"]


@final
class Subscription(OfToken[TokenT]):
    """
    An async iterator over the tokens of one key. Made by `TokenManager.subscribe`.

    It begins with the valid token, if there is one. A slow reader is given the newest token and not those between:
    a connection has no use for them. It ends when the manager closes, or with `close`.

    Args:
        begin: Awaited before the first token, until it has ended well.

        on_close: Called once, with this.
    """

    __slots__ = ("__weakref__", "_begin", "_closed", "_last", "_loop", "_on_close", "_pending", "_wakeup")

    def __init__(
        self, begin: Callable[[Subscription[Any]], Awaitable[object]], on_close: Callable[[Subscription[Any]], object]
    ) -> None:
        self._begin: Callable[[Subscription[Any]], Awaitable[object]] | None = begin
        self._loop = asyncio.get_running_loop()
        self._pending: Token | None = None
        self._last: Token | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._closed = False
        self._on_close = on_close

    def publish(self, token: Token) -> None:
        """
        Offer *token*, from any thread.
        """
        try:
            self._loop.call_soon_threadsafe(self._offer, token)
        except RuntimeError:
            # The reader's loop is gone, and the reader with it.
            self._closed = True

    def close(self) -> None:
        """
        End the iteration, from any thread.
        """
        if not self._closed:
            self._closed = True
            self._on_close(self)
            try:
                self._loop.call_soon_threadsafe(self._ring)
            except RuntimeError:
                return

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TokenT:
        if self._begin is not None and not self._closed:
            await self._begin(self)
            # Not before: one that failed, or was cancelled, is yet to be begun.
            self._begin = None
        while self._pending is None:
            if self._closed:
                raise StopAsyncIteration
            if self._wakeup is not None:
                msg = "a subscription has one reader; subscribe again for another"
                raise RuntimeError(msg)
            self._wakeup = self._loop.create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None
        token, self._pending = self._pending, None
        return cast("TokenT", token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Subscription(closed={self._closed})"

    def _offer(self, token: Token) -> None:
        if self._last is None or self._last.access_token != token.access_token:
            self._last = self._pending = token
            self._ring()

    def _ring(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
