"""
The commands of a manager on a key: refresh it, report a refused token, store a login, sign out.
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

# These run on the session's own loop, also if another thread or loop calls them.
_REFRESH = attrgetter("commands.refresh")
_REFUSED = attrgetter("commands.refused")
_INVALIDATE = attrgetter("commands.invalidate")
_FORGET = attrgetter("commands.forget")
_PUT = attrgetter("commands.put")
_REVOKE = attrgetter("commands.revoke")
_IMPORT = attrgetter("grants.bring")

# The number of grants that are passed to the session's loop at once.
_BATCH: Final = 500


class KeyCommands(OfToken[TokenT]):
    """The commands of a manager. `_life` passes them to its session."""

    _life: Lifecycle

    async def refresh(self, key: Hashable = None) -> TokenT:
        """
        Fetch a new token now, without waiting for the retry schedule, or join the fetch under way.

        Raises:
            TokenUnavailable: The fetch failed. A valid token stays in service.
            GrantRejected: The authorization server rejected the grant.
            ManagerClosed: The manager is closed.
        """
        return await self._life.call(_REFRESH, key)

    @guarded
    async def invalidate(self, token: Token | str, key: Hashable = None) -> bool:
        """
        Take *token* out of service and fetch another one, if it is the current token. Return whether it was.

        If the token was already replaced, nothing happens. If tokens are refused again and again, a growing cool-down
        keeps the token in service, and no fetch starts.

        Args:
            token: The token, or its value, that a resource server refused.

            key: The key of the token.
        """
        return bool(await self._life.call(_INVALIDATE, key, _hidden(token)) == "taken")

    @guarded
    async def refused(self, token: Token | str, key: Hashable = None, *, wait: bool = True) -> TokenT | None:
        """
        Report that a resource server refused *token* (401), and return another token to try.

        This is `invalidate` for clients. It returns None if there is no other token: during the cool-down, or without
        *wait*.

        Args:
            token: The token, or its value, that was refused.

            key: The key of the token.

            wait: Whether to wait for another token. If false, it is fetched in the background.

        Raises:
            TokenUnavailable: Another token is needed and cannot be fetched now.
            GrantRejected: Another token is needed and the grant is rejected.
        """
        return await self._life.call(_REFUSED, key, _hidden(token), wait)

    @guarded
    def refused_sync(self, token: Token | str, key: Hashable = None, *, wait: bool = True) -> TokenT | None:
        """Do what `refused` does, from a thread without a loop, other than the manager's."""
        return cast("TokenT | None", self._life.call_sync(_REFUSED, key, _hidden(token), wait))

    async def forget(self, key: Hashable = None) -> bool:
        """Forget *key* in memory, and begin again. Return whether the key was open. The record in a store stays."""
        return await self._life.call(_FORGET, key)

    @guarded
    async def put(self, token: Token | Grant, key: Hashable = None) -> None:
        """
        Take over a login that was made elsewhere, and keep it in the store.

        It replaces the present state, even a sign-out. If the store does not keep it, it is offered to the store again.

        Args:
            token: A `Token`, which is in service at once, or a `Grant`, whose refresh token the next fetch presents.

            key: The key of the login.

        Raises:
            TypeError: *token* is neither a `Token` nor a `Grant`.
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
        Write any number of logins that were made elsewhere into the store, without opening their keys.

        Each is written as `put` does it, and fenced like any write. If the import stops half way, call it again:
        records that exist already are kept.

        Args:
            grants: Pairs of a key and its `Grant` or `Token`. Only one batch of them is held in memory at a time.

            existing: The action for a key that already has a record, even a sign-out: "keep" leaves it alone, "replace"
                treats the import as a new login.

        Returns:
            The number of written and of kept grants, and the failed ones with the reason.

        Raises:
            ValueError: There is no store, or *existing* is neither "keep" nor "replace".
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
        Sign *key* out everywhere: no member of the fleet serves its token any longer, and the server is told.

        The token goes out of service here at once. Then the store receives a tombstone, which peers see. Last, the
        server is told, if the source has a `revoke` method (RFC 7009). After that `get` raises `GrantRejected`, until
        `put` or `refresh` is called.

        Raises:
            TransientRefreshError: The store or the server could not be told. The token is out of service here. Call it
                again: this manager remembers the tokens of which the server has not been told.
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
