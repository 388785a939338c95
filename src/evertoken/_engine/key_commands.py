"""
What a manager can be told about a key: refresh it, a resource refused its token, somebody logged in or signs out.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from evertoken._model.generic import OfToken, TokenT
from evertoken._model.grant import Grant, ImportResult
from evertoken._model.guarded import Hidden, guarded
from evertoken._model.token import Token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Iterable

    from evertoken._engine.lifecycle import Lifecycle

__all__ = ["KeyCommands"]

# What runs on the session's own loop, wherever it is called.
_REFRESH = attrgetter("commands.refresh")
_REFUSED = attrgetter("commands.refused")
_INVALIDATE = attrgetter("commands.invalidate")
_FORGET = attrgetter("commands.forget")
_PUT = attrgetter("commands.put")
_REVOKE = attrgetter("commands.revoke")
_IMPORT = attrgetter("grants.bring")

# So many grants are brought to the session's loop at once.
_BATCH: Final = 500


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
        return bool(await self._life.call(_INVALIDATE, key, _hidden(token)) == "taken")

    @guarded
    async def refused(self, token: Token | str, key: Hashable = None, *, wait: bool = True) -> TokenT | None:
        """
        Report that a resource server refused *token* (401), and return another to try with.

        This is `invalidate` for clients: it returns None where there is no other token to be had, that is in the
        cool-down, or without *wait*.

        Args:
            token: The token, or its value, that was refused.

            key: Which key it is of.

            wait: Whether to wait for another. Without it, one is fetched in the background.

        Raises:
            TokenUnavailable: Another token is needed and cannot be fetched now.
            GrantRejected: Another token is needed and the grant is rejected.
        """
        return await self._life.call(_REFUSED, key, _hidden(token), wait)

    @guarded
    def refused_sync(self, token: Token | str, key: Hashable = None, *, wait: bool = True) -> TokenT | None:
        """Do what `refused` does for callers without a loop, in another thread than the manager's."""
        return cast("TokenT | None", self._life.call_sync(_REFUSED, key, _hidden(token), wait))

    async def forget(self, key: Hashable = None) -> bool:
        """Drop what memory holds of *key* and begin anew. Return whether it was there. What a store keeps stays."""
        return await self._life.call(_FORGET, key)

    @guarded
    async def put(self, token: Token | Grant, key: Hashable = None) -> None:
        """
        Take over a login that was made elsewhere, and keep it in the store.

        It replaces whatever there is, a tombstone included. A store that does not keep it is offered it again.

        Args:
            token: A token, which is in service at once; or a `Grant`, whose refresh token the next fetch presents.

            key: Whose login it is.

        Raises:
            TypeError: *token* is neither.
        """
        if not isinstance(token, Token | Grant):
            msg = f"token must be a Token or a Grant, not {type(token).__name__}"
            del token
            raise TypeError(msg)
        await self._life.call(_PUT, key, token)

    async def import_grants(
        self,
        grants: Mapping[Any, Token | Grant]
        | Iterable[tuple[Any, Token | Grant]]
        | AsyncIterable[tuple[Any, Token | Grant]],
        *,
        existing: Literal["keep", "replace"] = "keep",
    ) -> ImportResult:
        """
        Write logins that were made elsewhere into the store, any number of them, without opening their keys.

        Each is written as `put` does, and fenced like any write. What stops it half way can be repaired by calling it
        again: what is there already is kept.

        Args:
            grants: Pairs of a key and its `Grant` or `Token`, as they come: nothing is held but a batch of them.

            existing: What becomes of a key of which there is a record, a sign-out included: "keep" leaves it alone,
                "replace" takes the import for a new login.

        Returns:
            How many were written and kept, and which failed, and why.

        Raises:
            ValueError: There is no store, or *existing* is neither.
            TransientRefreshError: The store is down, so that the rest was not tried.
            ManagerClosed: The manager is closed.
        """
        if existing not in {"keep", "replace"}:
            msg = f"existing must be 'keep' or 'replace', not {existing!r}"
            raise ValueError(msg)
        counts = {"imported": 0, "kept": 0}
        failed: list[tuple[Hashable, str]] = []
        async for batch in _batches(grants):
            outcomes = await self._life.call(_IMPORT, batch, existing == "replace")
            for (key, _), outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, str):
                    counts[outcome] += 1
                else:
                    failed.append((key, str(outcome)))
        return ImportResult(imported=counts["imported"], kept=counts["kept"], failed=tuple(failed))

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


def _hidden(token: Token | str) -> Hidden[str]:
    return Hidden(token.access_token if isinstance(token, Token) else token)


async def _batches(
    grants: Mapping[Any, Any] | Iterable[tuple[Any, Any]] | AsyncIterable[tuple[Any, Any]],
) -> AsyncIterator[list[tuple[Any, Any]]]:
    batch: list[tuple[Any, Any]] = []
    if isinstance(grants, AsyncIterable):
        async for key, given in grants:
            batch.append((key, given))
            if len(batch) == _BATCH:
                yield batch
                batch = []
    else:
        for key, given in grants.items() if isinstance(grants, Mapping) else grants:
            batch.append((key, given))
            if len(batch) == _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch
