"""A real MCP server on uvicorn, which is its own authorization server. It rotates refresh tokens."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import uvicorn
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.server.auth.provider import AccessToken, AuthorizationCode, AuthorizationParams, RefreshToken, TokenError
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions, RevocationOptions
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken, TokenEndpointAuthMethod
from pydantic import AnyUrl
from tests.clients.sdk_contract import Service

#: The answer of its tool.
HELLO = "Hello"


class McpService(Service):
    """
    The server. A refresh token that was spent ends the login, as RFC 9700 section 4.14.2 recommends.

    It logs in every client with a code, and answers to refresh requests that need no client secret.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lifetime = 3600
        self.logins = 0
        #: The refresh tokens that were presented, in their order.
        self.presented: list[str] = []
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self._codes: dict[str, AuthorizationCode] = {}
        self._newest: set[str] = set()
        self._issued = 0

    async def __aenter__(self) -> Self:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"{self.origin}/mcp"
        # From text, because an `AnyHttpUrl` made here would end in a slash, and issuers are compared as text.
        settings = AuthSettings.model_validate(
            {
                "issuer_url": self.origin,
                "resource_server_url": self.url,
                "validate_token_resource": False,
                "client_registration_options": ClientRegistrationOptions(enabled=True),
                "revocation_options": RevocationOptions(enabled=True),
            }
        )
        provider: Any = self
        server = MCPServer("tests", auth_server_provider=provider, auth=settings, log_level="CRITICAL")

        @server.tool()
        def greet() -> str:
            return HELLO

        app = server.streamable_http_app(json_response=False)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1, ws="none")
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._serving
        self._socket.close()

    # The methods that the SDK's server calls

    async def load_access_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="any", scopes=[]) if self.accepts(token) else None

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        code = f"code-{len(self._codes) + 1}"
        self._codes[code] = AuthorizationCode(
            code=code,
            scopes=params.scopes or [],
            expires_at=1e12,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
        )
        return f"{params.redirect_uri}?{urlencode({'code': code, 'state': params.state or '', 'iss': self.origin})}"

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self._codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        self.logins += 1
        return await self._tokens()

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        return RefreshToken(token=refresh_token, client_id=client.client_id, scopes=[])

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        self.presented.append(refresh_token.token)
        if refresh_token.token not in self._newest:
            # Somebody has a copy: no token of this login is good any more.
            self._newest.clear()
            self.good.clear()
            raise TokenError("invalid_grant", "the refresh token was spent")
        return await self._tokens()

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        self._newest.clear()
        self.good.clear()

    async def _tokens(self) -> OAuthToken:
        self._issued += 1
        await self.issue(f"secret-{self._issued}")
        self._newest = {f"refresh-{self._issued}"}
        return OAuthToken(
            access_token=f"secret-{self._issued}",
            refresh_token=f"refresh-{self._issued}",
            expires_in=self.lifetime,
        )


class MemoryStorage:
    """The token storage of a program, in memory."""

    def __init__(self) -> None:
        self.tokens: Any = None
        self.client_info: Any = None
        self.error: Exception | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return None if self.tokens is None else self.tokens.model_copy()

    async def set_tokens(self, tokens: OAuthToken) -> None:
        if self.error is not None:
            raise self.error
        self.tokens = tokens.model_copy()

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client_info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client_info = client_info


#: A client that was registered beforehand.
CLIENT = OAuthClientInformationFull(
    client_id="desk", redirect_uris=[AnyUrl("http://127.0.0.1:1/back")], token_endpoint_auth_method="none"
)


class Person:
    """Somebody who opens the login page and says yes at once."""

    def __init__(self) -> None:
        self._came_back: dict[str, str] = {}

    async def open_browser(self, address: str) -> None:
        async with httpx2.AsyncClient() as browser:
            answer = await browser.get(address)
        self._came_back = dict(parse_qsl(urlsplit(answer.headers["location"]).query))

    async def receive_code(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**self._came_back)


def login(url: str, storage: Any, method: TokenEndpointAuthMethod = "none") -> OAuthClientProvider:
    """Return the SDK's provider of such a person, and of a client that authenticates by *method*."""
    person = Person()
    metadata = OAuthClientMetadata(redirect_uris=CLIENT.redirect_uris, token_endpoint_auth_method=method)
    return OAuthClientProvider(url, metadata, storage, person.open_browser, person.receive_code)
