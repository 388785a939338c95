"""
What a manager can be told about a key: refresh it, a resource refused its token, somebody logged in or signs out.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, cast

from evertoken._model.generic import OfToken, TokenT
from evertoken._model.guarded import Hidden, guarded
from evertoken._model.token import Token

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._engine.lifecycle import Lifecycle

__all__ = ["KeyCommands"]

# What runs on the session's own loop, wherever it is called.
_REFRESH = attrgetter("commands.refresh")
_REFUSED = attrgetter("commands.refused")
_INVALIDATE = attrgetter("commands.invalidate")
_FORGET = attrgetter("commands.forget")
_PUT = attrgetter("commands.put")
_REVOKE = attrgetter("commands.revoke")


class KeyCommands(OfToken[TokenT]):
    """The commands of a manager, which `_life` brings to its session."""

    _life: Lifecycle

    async def refresh(self, key: Hashable = None) -> TokenT:
        """
        Fetch a new token now, whatever the retry schedule says, or join the fetch under way.

        Raises:
            TokenUnavailable: The fetch failed. A valid token stays in service all the same.
            GrantRejected: The authorization server rejected the grant.
            ManagerClosed: The manager is closed.
        """
        return await self._life.call(_REFRESH, key)

    @guarded
    async def invalidate(self, token: Token | str, key: Hashable = None) -> bool:
        """
        Take *token* out of service, and fetch another, if it is the one in service; say whether it was.

        A token that was replaced already costs nothing. Nor does one that is refused again and again: a growing
        cool-down keeps it in service, and no fetch is started.

        Args:
            token: The token, or its value, that a resource server refused.

            key: Which key it is of.
        """
        refused = Hidden(token.access_token if isinstance(token, Token) else token)
        return bool(await self._life.call(_INVALIDATE, key, refused) == "taken")

    @guarded
    async def refused(self, token: Token, key: Hashable = None, *, wait: bool = True) -> TokenT | None:
        """
        Report that a resource server refused *token* (401), and return another to try with.

        This is `invalidate` for clients: it returns None where there is no other token to be had, that is in the
        cool-down, or without *wait*.

        Raises:
            TokenUnavailable: Another token is needed and cannot be fetched now.
            GrantRejected: Another token is needed and the grant is rejected.
        """
        return await self._life.call(_REFUSED, key, Hidden(token.access_token), wait)

    @guarded
    def refused_sync(self, token: Token, key: Hashable = None, *, wait: bool = True) -> TokenT | None:
        """Do what `refused` does for callers without a loop, in another thread than the manager's."""
        return cast("TokenT | None", self._life.call_sync(_REFUSED, key, Hidden(token.access_token), wait))

    async def forget(self, key: Hashable = None) -> bool:
        """Drop what memory holds of *key* and begin anew. Return whether it was there. What a store keeps stays."""
        return await self._life.call(_FORGET, key)

    @guarded
    async def put(self, token: Token, key: Hashable = None) -> None:
        """
        Take into service, and keep in the store, a token that was obtained elsewhere, as by a person who logged in.

        It replaces whatever there is, a tombstone included. A store that does not keep it is offered it again.
        """
        if not isinstance(token, Token):
            msg = f"token must be a Token, not {type(token).__name__}"
            raise TypeError(msg)
        await self._life.call(_PUT, key, token)

    async def revoke(self, key: Hashable = None) -> None:
        """
        Sign *key* out everywhere: no member of the fleet serves its token any more, and the server is told so.

        The token goes out of service here at once, then in the store, where a tombstone tells peers, and at the
        server, if the source has a `revoke` method (RFC 7009). Then `get` raises `GrantRejected`, until `put` or
        `refresh`.

        Raises:
            TransientRefreshError: The store or the server could not be told. The token is out of service here.
            GrantRejected: The server does not let this client revoke it. The token is out of service everywhere else.
        """
        await self._life.call(_REVOKE, key)
