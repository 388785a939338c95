# mypy: disable-error-code="import-not-found, import-untyped, misc, attr-defined, method-assign, unused-ignore"
"""Libraries for httpx, httpx2 and aiohttp."""

from __future__ import annotations

import json
from typing import Any

import httpx
from tests.comparison._peer import CLIENT_ID, CLIENT_SECRET, FORM, Peer


class Authlib(Peer):
    name = "Authlib"
    package = "authlib"
    imports = "from authlib.integrations.httpx_client import AsyncOAuth2Client"
    due_after = 61.0
    note = "asyncio, a client of its own. Starts with an expired token, because it makes no first fetch. Margin 60 s."

    async def open(self):
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # noqa: PLC0415 - optional

        token = {"access_token": "old", "token_type": "Bearer", "expires_at": 1}
        if self.grant is not None:
            token["refresh_token"] = self.grant
        if self.file is not None and self.file.exists():
            token = json.loads(self.file.read_text())
        grant_type = {} if self.grant is not None else {"grant_type": "client_credentials"}
        self.client = AsyncOAuth2Client(
            CLIENT_ID,
            CLIENT_SECRET,
            token_endpoint=self.server.token_endpoint,
            token=token,
            update_token=self._updated,
            verify=False,
            timeout=30.0,
            limits=httpx.Limits(max_connections=None),
            **grant_type,
        )

    async def _updated(self, token, refresh_token=None, access_token=None):
        if self.file is not None:
            self.file.write_text(json.dumps(token))

    async def get(self):
        # What its request() does before it sends.
        await self.client.ensure_active_token(self.client.token)
        return self.client.token["access_token"]

    async def request(self):
        return (await self.client.get(self.server.resource)).status_code

    def held(self):
        return [self.client, self.client.token]

    async def aclose(self):
        await self.client.aclose()


class Plugged(Peer):
    """A library that plugs into httpx as `auth`, and asks for a token with a request."""

    auth: Any

    async def get(self):
        return (await self.client.get(self.server.resource)).raise_for_status()

    async def request(self):
        return (await self.client.get(self.server.resource)).status_code

    async def reopen(self):
        limits = httpx.Limits(max_connections=None)
        self.client = httpx.AsyncClient(auth=self.auth, verify=False, timeout=60.0, limits=limits)

    async def aclose(self):
        await self.client.aclose()


class HttpxAuth(Plugged):
    name = "httpx-auth"
    package = "httpx-auth"
    imports = "import httpx; from httpx_auth import OAuth2ClientCredentials"
    due_after = 31.0
    note = "asyncio, httpx. Its fetch blocks the event loop, up to 60 s. Margin 30 s."
    many = 200
    plain_hit = False
    lacks = frozenset({"rotating", "two processes"})

    async def open(self):
        from httpx_auth import OAuth2, OAuth2ClientCredentials  # noqa: PLC0415 - optional

        OAuth2.token_cache.clear()
        self.cache = OAuth2.token_cache
        endpoint = self.server.token_endpoint
        self.auth = OAuth2ClientCredentials(endpoint, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
        await self.reopen()

    def held(self):
        return [self.auth, self.cache]


class Singleflight(Plugged):
    name = "singleflight-auth"
    package = "singleflight-auth"
    imports = "import httpx; from singleflight_auth import AsyncSingleFlightAuth"
    due_after = 1.0
    note = "asyncio, httpx. Fetches after a 401 only, with a function that the user writes."
    many = 200
    plain_hit = False
    lacks = frozenset({"lifetimes", "two processes"})

    async def open(self):
        from singleflight_auth import AsyncSingleFlightAuth  # noqa: PLC0415 - optional

        self.token = "old"

        async def refresh():
            form = FORM if self.grant is None else {"grant_type": "refresh_token", "refresh_token": self.grant}
            async with httpx.AsyncClient(verify=False) as client:
                answer = await client.post(self.server.token_endpoint, data=form, auth=(CLIENT_ID, CLIENT_SECRET))
            answered = answer.raise_for_status().json()
            self.token, self.grant = answered["access_token"], answered.get("refresh_token", self.grant)
            return self.token

        self.auth = AsyncSingleFlightAuth(get_token=lambda: self.token, refresh=refresh)
        await self.reopen()

    def held(self):
        return [self.auth]


class AiohttpOAuth2(Peer):
    name = "aiohttp-oauth2-client"
    package = "aiohttp-oauth2-client"
    imports = "import aiohttp_oauth2_client.middleware, aiohttp_oauth2_client.grant.client_credentials"
    due_after = 31.0
    note = "asyncio, aiohttp. Margin 30 s."
    lacks = frozenset({"two processes"})

    async def open(self):
        from aiohttp_oauth2_client.grant.authorization_code import AuthorizationCodeGrant  # noqa: PLC0415 - optional
        from aiohttp_oauth2_client.grant.client_credentials import ClientCredentialsGrant  # noqa: PLC0415 - optional

        endpoint = self.server.token_endpoint
        if self.grant is None:
            self.oauth: Any = ClientCredentialsGrant(endpoint, CLIENT_ID, CLIENT_SECRET)
        else:
            token = {"access_token": "old", "token_type": "Bearer", "expires_in": 1, "expires_at": 1}
            self.oauth = AuthorizationCodeGrant(
                endpoint,
                self.server.url,
                CLIENT_ID,
                token={**token, "refresh_token": self.grant},
                client_secret=CLIENT_SECRET,
            )
            # It sends further arguments with a refresh, and the id of the client is one of them.
            self.oauth.kwargs["client_id"] = CLIENT_ID
        await self.reopen()

    async def reopen(self):
        import aiohttp  # noqa: PLC0415 - optional
        from aiohttp_oauth2_client.middleware import OAuth2Middleware  # noqa: PLC0415 - optional

        # The session of the program. The library has one of its own, for tokens.
        plug = OAuth2Middleware(self.oauth)
        self.client = aiohttp.ClientSession(middlewares=[plug], connector=aiohttp.TCPConnector(limit=0))

    async def get(self):
        return (await self.oauth.prepare_headers())["Authorization"].removeprefix("Bearer ")

    async def request(self):
        async with self.client.get(self.server.resource) as answer:
            await answer.read()
            return answer.status

    def held(self):
        return [self.oauth, self.oauth.token]

    async def aclose(self):
        await self.client.close()
        await self.oauth.close()


class Mcp(Peer):
    name = "mcp"
    package = "mcp"
    imports = "from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider"
    due_after = 1.0
    note = "asyncio, httpx2. `ClientCredentialsOAuthProvider`. No margin. It sends one request at a time."
    many = 200
    plain_hit = False
    # A refresh token of its own needs a login in a browser.
    lacks = frozenset({"rotating", "two processes"})

    async def open(self):
        from mcp.client.auth.extensions.client_credentials import (  # noqa: PLC0415 - optional
            ClientCredentialsOAuthProvider,
        )

        self.storage = _McpStorage()
        # Without an issuer it asks /token of the server, because it cannot read what this server says of itself.
        self.auth = ClientCredentialsOAuthProvider(self.server.resource, self.storage, CLIENT_ID, CLIENT_SECRET)
        await self.reopen()

    async def reopen(self):
        import httpx2  # noqa: PLC0415 - optional

        limits = httpx2.Limits(max_connections=None)
        self.client = httpx2.AsyncClient(auth=self.auth, verify=False, timeout=30.0, limits=limits)

    async def get(self):
        return (await self.client.get(self.server.resource)).raise_for_status()

    async def request(self):
        return (await self.client.get(self.server.resource)).status_code

    def held(self):
        return [self.auth, self.storage.tokens]

    async def aclose(self):
        await self.client.aclose()


class _McpStorage:
    """What a user of mcp writes: it keeps the tokens in memory."""

    tokens = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return None

    async def set_client_info(self, client_info):
        pass
