"""Tokens with enough life left for a long request. It imports no HTTP library, and all clients share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from evertoken._engine.read_path import seconds

if TYPE_CHECKING:
    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["long_lived"]


def long_lived(tokens: TokenReader, min_ttl: float | None) -> TokenReader:
    """
    Return a reader of the same tokens that hands out none with less than *min_ttl* seconds left.

    If *min_ttl* is None, return *tokens*.

    Raises:
        ValueError: *min_ttl* is no number of seconds.
    """
    least = seconds("min_ttl", min_ttl)
    return tokens if least is None else _LongLived(tokens, least)


@final
class _LongLived:
    """A handle whose tokens are valid for so many seconds, those that replace a refused one too."""

    def __init__(self, handle: Any, min_ttl: float) -> None:
        self._handle = handle
        self._min_ttl = min_ttl

    async def get(self) -> Token:
        token: Token = await self._handle.get(min_ttl=self._min_ttl)
        return token

    def get_sync(self) -> Token:
        token: Token = self._handle.get_sync(min_ttl=self._min_ttl)
        return token

    async def refused(self, token: Token, /, *, wait: bool = True) -> Token | None:
        other: Token | None = await self._handle.refused(token, wait=wait)
        return await self.get() if wait and other is not None else other

    def refused_sync(self, token: Token, /, *, wait: bool = True) -> Token | None:
        other: Token | None = self._handle.refused_sync(token, wait=wait)
        return self.get_sync() if wait and other is not None else other
