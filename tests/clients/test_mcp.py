"""The MCP SDK as a client, against its own server on uvicorn."""

from __future__ import annotations

import contextlib

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests.clients.mcp_server import HELLO, McpService
from tests.clients.sdk_contract import SdkContract


async def greeting(url: str, auth: httpx2.Auth) -> str:
    """Connect, call the tool of the server, and return what it said."""
    async with httpx2.AsyncClient(auth=auth) as http_client:
        async with Client(streamable_http_client(url, http_client=http_client)) as client:
            found = await client.call_tool("greet", {})
            text: str = found.content[0].text
            return text


class TestMcp(SdkContract):
    name = "mcp.Client"
    extra = "httpx2"
    lines = (
        "http_client = httpx2.AsyncClient(auth=handle.auth(), timeout=httpx2.Timeout(30, read=300))\n"
        "Client(streamable_http_client(url, http_client=http_client))"
    )
    without = 3
    origins = True

    def given(self, handle):
        return handle.auth()

    @contextlib.asynccontextmanager
    async def server(self):
        async with McpService() as service:
            yield service

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def call():
            assert await greeting(server.url, given) == HELLO

        yield call

    async def test_an_open_session_is_healed(self):
        """U1: A token that is revoked within a session is healed there, and the session goes on."""
        async with self.setting() as at:
            async with httpx2.AsyncClient(auth=at.tokens.auth()) as http_client:
                transport = streamable_http_client(at.server.url, http_client=http_client)
                async with Client(transport) as client:
                    for token in ("secret-1", "secret-2"):
                        found = await client.call_tool("greet", {})
                        assert found.content[0].text == HELLO
                        assert at.server.shown[-1] == token
                        await at.server.revoke("secret-1")
            assert at.source.fetches == 2
