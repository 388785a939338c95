"""Tokens as plain strings, for libraries that accept a function that returns one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.token import Token

__all__ = ["BareTokens"]


class BareTokens:
    """The methods of a manager that return a token as a string."""

    # The manager provides these two methods.
    if TYPE_CHECKING:
        get: Any
        get_sync: Any

    async def access_token(
        self, key: Hashable = None, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Return the bare access token, for libraries that take an async function. Otherwise it works as `get`."""
        token: Token = await self.get(key, min_ttl, timeout)
        return token.access_token

    def access_token_sync(
        self, key: Hashable = None, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Return the bare access token, for libraries that take a plain function. Otherwise it works as `get_sync`."""
        token: Token = self.get_sync(key, min_ttl, timeout)
        return token.access_token
