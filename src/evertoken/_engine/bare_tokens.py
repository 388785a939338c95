"""Tokens as bare text, for libraries that take a function and know nothing of a token's life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.token import Token

__all__ = ["BareTokens"]


class BareTokens:
    """A manager's tokens as text."""

    # Those of the manager.
    if TYPE_CHECKING:
        get: Any
        get_sync: Any

    async def access_token(
        self, key: Hashable = None, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Return the bare access token, for libraries that take an async function. All else is as with `get`."""
        token: Token = await self.get(key, min_ttl, timeout)
        return token.access_token

    def access_token_sync(
        self, key: Hashable = None, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Return the bare access token, for libraries that take a plain function. All else is as with `get_sync`."""
        token: Token = self.get_sync(key, min_ttl, timeout)
        return token.access_token
