"""The token storage of an MCP client as a source. It does not import the MCP SDK."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.errors import GrantRejected
from evertoken._model.fetch_request import MAX_ORIGINS, FetchRequest
from evertoken._model.guarded import Guarded
from evertoken._model.identity import digest_of
from evertoken._model.parsing import number
from evertoken._model.redaction import describe
from evertoken._model.token import origin_of
from evertoken.sources.oauth_client import OAuthClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.protocols import Answered
    from evertoken._model.token import Token

__all__ = ["Storage"]

_log = logging.getLogger("evertoken")

# The ways in which a registered client shows who it is that need no key (RFC 7591 section 2).
_METHODS: Final = frozenset({None, "none", "client_secret_basic", "client_secret_post"})


@final
class Storage(Guarded):
    """
    The login that a `TokenStorage` of the MCP SDK keeps: this source refreshes it, and writes each new token back.

    Made from the storage that a program has: `TokenManager(Storage(storage))`. The storage keeps how long a token lives
    and not since when. So the first fetch of a manager presents the refresh token, although the access token may still
    be valid. A new token is written back before it is used. If that fails, the log says so, and the manager goes on
    with the new token. The next fetch presents the new refresh token, and writes again.

    A server that rotates refresh tokens ends a login if two programs present the same one. So no other program may
    refresh this login. Give this source, and not the storage itself, to the SDK's `OAuthClientProvider`: it is
    a storage too, which hides the refresh token from the provider.

    Args:
        storage: An object with the methods of the SDK's `TokenStorage`.

        client: The client to refresh as. None: as the SDK registered it, at the issuer that it noted then.

        resource: The URL of the MCP server (RFC 8707), which its authorization server wants to be told. None: nothing
            is sent.
    """

    rotates: bool | None = None

    def __init__(self, storage: Any, client: OAuthClient | None = None, *, resource: str | None = None) -> None:
        self._storage = storage
        self._client = client
        self._fields = () if resource is None else (("resource", resource),)
        # The client that was made of what the SDK registered, and what that was.
        self._registered: tuple[str, OAuthClient] | None = None

    async def fetch(self, request: FetchRequest, /) -> Answered:
        """
        Refresh the login that is in the storage.

        Raises:
            GrantRejected: There is no login, or the server rejects the refresh token.
            TransientRefreshError: The server could not be asked.
        """
        stored = await self._storage.get_tokens()
        if stored is None:
            msg = "nobody has logged in: the MCP token storage is empty; log in through the MCP SDK"
            raise GrantRejected("login_required", msg)
        if stored.refresh_token is None:
            return _without_refresh_token(request, stored)
        client = await self._client_of_login()
        presented = _to_present(request, stored.refresh_token)
        form = (("grant_type", "refresh_token"), ("refresh_token", presented), *self._fields)
        answer = await client.post(request, *form, secrets=(presented,))
        updated = _updated(stored, answer.fields, presented)
        try:
            found = await self._storage.get_tokens()
            # If it changed meanwhile, somebody has logged in or out, and that is newer than this answer.
            if found is not None and found.refresh_token == stored.refresh_token:
                await self._storage.set_tokens(updated)
        except Exception as error:  # noqa: BLE001 - a storage of the user's raises anything
            said = describe(error, (updated.access_token, updated.refresh_token))
            _log.warning("the MCP token storage did not keep a new token, which ends with this process: %s", said)
        return answer

    async def revoke(self, token: Token, /) -> None:
        """
        Tell the server that *token* is no longer needed (RFC 7009). The storage keeps its copy.

        Raises:
            TransientRefreshError: The server could not be told.
            GrantRejected: The server does not know the client.
        """
        await (await self._client_of_login()).revoke(token)

    # The methods that the SDK's provider calls

    async def get_tokens(self) -> Any:
        """Return what the storage has, without the refresh token, as the SDK's provider may have it."""
        stored = await self._storage.get_tokens()
        return None if stored is None else stored.model_copy(update={"refresh_token": None, "expires_in": None})

    async def set_tokens(self, tokens: Any) -> None:
        """Keep the tokens of a new login. *tokens* has no refresh token afterwards. Then call `handle.refresh()`."""
        await self._storage.set_tokens(tokens.model_copy())
        # Not before, for until then the provider has the only copy.
        tokens.refresh_token = None

    async def get_client_info(self) -> Any:
        """Return the client that the SDK registered, if it did."""
        return await self._storage.get_client_info()

    async def set_client_info(self, client_info: Any) -> None:
        """Keep the client that the SDK registered."""
        await self._storage.set_client_info(client_info)

    async def _client_of_login(self) -> OAuthClient:
        if self._client is not None:
            return self._client
        info = await self._storage.get_client_info()
        if info is None or info.issuer is None or info.token_endpoint_auth_method not in _METHODS:
            missing = "no client"
            if info is not None:
                method = info.token_endpoint_auth_method
                missing = "no issuer" if info.issuer is None else f"the client authentication {method!r}"
            msg = f"the MCP token storage names {missing}, so nobody can be asked: give Storage an OAuthClient"
            raise GrantRejected("invalid_client", msg)
        known = digest_of(repr((info.issuer, info.client_id, info.client_secret, info.token_endpoint_auth_method)))
        if self._registered is None or self._registered[0] != known:
            client = OAuthClient(
                issuer=info.issuer,
                client_id=info.client_id,
                client_secret=info.client_secret,
                client_auth=info.token_endpoint_auth_method,
            )
            self._registered = known, client
        return self._registered[1]

    def __repr__(self) -> str:
        return f"Storage({type(self._storage).__name__})"


def _without_refresh_token(request: FetchRequest, stored: Any) -> Mapping[str, Any]:
    current = request.current
    if current is not None and current.access_token == stored.access_token:
        msg = "the MCP token storage has no refresh token; log in again through the MCP SDK"
        raise GrantRejected("login_required", msg)
    # How long it has lived is not known, so it is used until a server refuses it.
    return {"access_token": stored.access_token, "scope": stored.scope}


def _to_present(request: FetchRequest, stored: str) -> str:
    """Return the refresh token to present: that of a new login, or the manager's own if the storage missed that one."""
    origin = origin_of(stored)
    if request.current is not None and request.current.refresh_token == stored:
        # It was written back by this source, and is no new login. It is known from now on as one that was spent.
        if origin not in request.origins:
            request.origins = (*request.origins, origin)[-MAX_ORIGINS:]
        return stored
    return request.refresh_token_for(stored)


def _updated(stored: Any, fields: Mapping[str, Any], presented: str) -> Any:
    lives = number(fields.get("expires_in"))
    changes = {
        "access_token": fields.get("access_token") or stored.access_token,
        "expires_in": None if lives is None else int(lives),
        # An answer may leave these out if they did not change (RFC 6749 section 6).
        "refresh_token": fields.get("refresh_token") or presented,
        "scope": fields.get("scope") or stored.scope,
    }
    return stored.model_copy(update=changes)
