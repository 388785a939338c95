"""evertoken, and the code that people write instead."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
from tests.comparison._peer import CLIENT_ID, CLIENT_SECRET, FORM, Peer

from evertoken import TokenManager
from evertoken.sources import OAuthClient, RefreshToken
from evertoken.stores import FileStore


class Evertoken(Peer):
    name = "evertoken"
    package = "evertoken"
    imports = (
        "import httpx; from evertoken import TokenManager; from evertoken.sources import ClientCredentials, OAuthClient"
    )
    due_after = 2.0
    room = (30.0, 24.0)
    note = "asyncio, httpx. Renews in the background when a fifth of the lifetime is left."

    async def open(self):
        client = OAuthClient(
            token_endpoint=self.server.token_endpoint, client_id=CLIENT_ID, client_secret=CLIENT_SECRET
        )
        source: Any = self.server.client_credentials()
        if self.grant is not None:
            source = RefreshToken(client, self.grant, subject="alice")
        store = None if self.file is None else FileStore(self.file)
        self.manager = TokenManager({"key": source}, store=store)
        await self.manager.start()
        self.handle = self.manager.handle("key")
        self.get = self.handle.get
        self.client = self._client()

    def _client(self):
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(auth=self.handle.auth(), verify=False, timeout=30.0, limits=limits)

    async def request(self):
        return (await self.client.get(self.server.resource)).status_code

    async def reopen(self):
        # A client of httpx belongs to its loop, and so does a started manager. It keeps its tokens.
        self.client = self._client()
        await self.manager.start()

    def held(self):
        return [self.manager, self.handle, self.handle.auth(), self.handle.peek()]

    async def aclose(self):
        await self.client.aclose()
        await self.manager.aclose()


class _Bearer(httpx.Auth):
    """The usual plug-in: a token in the header, and another one after a 401."""

    def __init__(self, tokens: ByHand) -> None:
        self.tokens = tokens

    async def async_auth_flow(self, request):
        token = await self.tokens.get()
        request.headers["Authorization"] = f"Bearer {token}"
        if (yield request).status_code == 401:
            self.tokens.tokens.pop("key", None)
            request.headers["Authorization"] = f"Bearer {await self.tokens.get()}"
            yield request


class ByHand(Peer):
    name = "lock + dict"
    imports = "import httpx"
    due_after = 31.0
    note = "asyncio, httpx. The code of [Why not forty lines](why.md), with one more attempt after a 401. Margin 30 s."

    async def open(self):
        self.lock, self.tokens = asyncio.Lock(), {}
        self.client = httpx.AsyncClient(verify=False)
        if self.file is not None and self.file.exists():
            self.tokens["key"] = json.loads(self.file.read_text())
            self.grant = self.tokens["key"]["refresh_token"]
        self._open_resource()

    def _open_resource(self):
        limits = httpx.Limits(max_connections=None)
        self.resource = httpx.AsyncClient(auth=_Bearer(self), verify=False, timeout=30.0, limits=limits)

    async def get(self):
        async with self.lock:
            token = self.tokens.get("key")
            if token is None or token["expires_at"] - 30 < time.time():
                form = FORM if self.grant is None else {"grant_type": "refresh_token", "refresh_token": self.grant}
                answer = await self.client.post(self.server.token_endpoint, data=form, auth=(CLIENT_ID, CLIENT_SECRET))
                token = answer.raise_for_status().json()
                token["expires_at"] = time.time() + token["expires_in"]
                self.grant = token.get("refresh_token", self.grant)
                self.tokens["key"] = token
                if self.file is not None:
                    self.file.write_text(json.dumps(token))
            return token["access_token"]

    async def request(self):
        return (await self.resource.get(self.server.resource)).status_code

    async def reopen(self):
        self._open_resource()

    def held(self):
        return [self.tokens]

    async def aclose(self):
        await self.client.aclose()
        await self.resource.aclose()
