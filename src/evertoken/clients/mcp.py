"""A key of a manager as the token storage of the MCP SDK's OAuth provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

try:
    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
except ImportError as _error:
    msg = "evertoken.clients.mcp needs mcp: pip install 'evertoken[mcp]'"
    raise ImportError(msg) from _error

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import GrantRejected
from evertoken._model.guarded import Guarded
from evertoken._model.token import Token

if TYPE_CHECKING:
    from typing import Any

    from evertoken._model.protocols import Clock

__all__ = ["TokenStorage"]


@final
class TokenStorage(Guarded):
    """
    A token storage for the `OAuthClientProvider` of the MCP SDK, which lets a manager do all refreshing.

    Made from a handle, and the client that the source of its key refreshes as:
    `OAuthClientProvider(url, metadata, TokenStorage(tokens.handle(), client_info), ...)`. The provider logs somebody
    in, and the manager takes over the login with its refresh token. The provider is never given a refresh token, and
    the one of a new login is taken out of the provider's own copy. So a refresh token has one user, as servers demand
    that rotate it (OAuth 2.1 section 4.3.1).

    The provider reads the storage once and keeps the token. Use it to log in, and send requests with `handle.auth()`.

    Args:
        handle: A handle of a manager.

        client_info: The client that the manager's source refreshes as. The provider does not register another one.

        clock: Where time comes from: the clock of the manager.
    """

    def __init__(self, handle: Any, client_info: OAuthClientInformationFull, *, clock: Clock = SystemClock()) -> None:
        self._handle = handle
        self._client_info = client_info
        self._clock = clock

    async def get_tokens(self) -> OAuthToken | None:
        """
        Return the valid token without a refresh token, or None if somebody has to log in.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now. A login would not help.
        """
        try:
            token: Token = await self._handle.get()
        except GrantRejected:
            return None
        left = token.remaining(self._clock.time())
        return OAuthToken(
            access_token=token.access_token,
            expires_in=None if token.expires_at is None else max(int(left), 0),
            scope=token.scope,
        )

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Hand the tokens of a new login to the manager. *tokens* has no refresh token afterwards."""
        now = self._clock.time()
        token = Token(
            tokens.access_token,
            issued_at=now,
            expires_at=None if tokens.expires_in is None else now + tokens.expires_in,
            refresh_token=tokens.refresh_token,
            scope=tokens.scope,
        )
        await self._handle.put(token)
        # Not before, for until then the provider has the only copy.
        tokens.refresh_token = None

    async def get_client_info(self) -> OAuthClientInformationFull:
        """Return the client that the manager's source refreshes as."""
        return self._client_info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """
        Take over what the provider learnt of the client.

        Raises:
            ValueError: It is another client, whose tokens the manager could not refresh.
        """
        if client_info.client_id != self._client_info.client_id:
            msg = (
                f"the MCP SDK registered the client {client_info.client_id!r}, and the manager refreshes as "
                f"{self._client_info.client_id!r}; register one client, and give it to the source and to TokenStorage"
            )
            raise ValueError(msg)
        self._client_info = client_info

    def __repr__(self) -> str:
        return f"TokenStorage({self._handle!r}, client_id={self._client_info.client_id!r})"
