"""The MCP SDK as a client, against its own server on uvicorn."""

from __future__ import annotations

import contextlib
import copy
import pickle
import time
import traceback
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthToken
from tests.clients.mcp_server import CLIENT, HELLO, McpService, login
from tests.clients.sdk_contract import SdkContract

from evertoken import GrantRejected, Token, TokenManager, TokenUnavailable
from evertoken.clients.mcp import TokenStorage
from evertoken.sources import OAuthClient, RefreshToken


async def greeting(url: str, auth: httpx2.Auth) -> str:
    """Connect, call the tool of the server, and return its answer."""
    async with httpx2.AsyncClient(auth=auth) as http_client:
        async with Client(streamable_http_client(url, http_client=http_client)) as client:
            found: Any = await client.call_tool("greet", {})
            return str(found.content[0].text)


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
                        found: Any = await client.call_tool("greet", {})
                        assert found.content[0].text == HELLO
                        assert at.server.shown[-1] == token
                        await at.server.revoke("secret-1")
            assert at.source.fetches == 2


@pytest.fixture
async def service():
    async with McpService() as found:
        found.clients[CLIENT.client_id] = CLIENT
        yield found


def manager(service, **options):
    return TokenManager(RefreshToken(OAuthClient(issuer=service.origin, client_id=CLIENT.client_id)), **options)


async def test_a_login_of_the_sdk_becomes_the_managers(service):
    """K1: The manager takes over the refresh token of a login, and the SDK's provider is left without one."""
    async with manager(service) as tokens:
        handle = tokens.handle()
        with pytest.raises(GrantRejected):
            await handle.get()
        provider: Any = login(service.url, TokenStorage(handle, CLIENT))
        assert await greeting(service.url, provider) == HELLO
        assert (await handle.get()).access_token == "secret-1"
        assert provider.context.current_tokens.refresh_token is None
        assert service.logins == 1
        # From here on the manager alone refreshes.
        await handle.refresh()
        assert await greeting(service.url, handle.auth()) == HELLO
        assert service.presented == ["refresh-1"]
        assert service.shown[-1] == "secret-2"


async def test_the_provider_presents_no_refresh_token(service):
    """K1: A provider whose token has ended logs in again, and never spends what the manager presents."""
    service.lifetime = 0
    async with manager(service) as tokens:
        provider: Any = login(service.url, TokenStorage(tokens.handle(), CLIENT))
        for _turn in range(2):
            assert await greeting(service.url, provider) == HELLO
        assert provider.context.can_refresh_token() is False
        assert len(service.presented) == len(set(service.presented))


async def test_the_provider_starts_with_the_managers_token(service):
    """U1: A provider that finds a valid token sends it, and nobody logs in."""
    await service.issue("secret-9")
    async with manager(service) as tokens:
        handle = tokens.handle()
        await handle.put(Token("secret-9", issued_at=time.time(), expires_at=time.time() + 600, scope="a"))
        storage = TokenStorage(handle, CLIENT)
        found: Any = await storage.get_tokens()
        assert (found.access_token, found.refresh_token, found.scope) == ("secret-9", None, "a")
        assert 590 < found.expires_in <= 600
        assert await greeting(service.url, login(service.url, storage)) == HELLO
        assert service.logins == 0


async def test_an_outage_is_no_reason_to_log_in(service):
    """R4: While the authorization server is down, the storage raises, and nobody is sent to a login page."""
    source = RefreshToken(OAuthClient(token_endpoint="http://127.0.0.1:1/token", client_id="desk"), "refresh-0")
    async with TokenManager(source) as tokens:
        with pytest.raises(TokenUnavailable):
            await TokenStorage(tokens.handle(), CLIENT).get_tokens()


async def test_another_client_is_refused(service):
    """K1: The SDK may not register a client that the manager could not refresh as."""
    async with manager(service) as tokens:
        storage = TokenStorage(tokens.handle(), CLIENT)
        with pytest.raises(ValueError, match=r"registered the client 'other'.*give it to the source and"):
            await storage.set_client_info(CLIENT.model_copy(update={"client_id": "other"}))
        known = CLIENT.model_copy(update={"issuer": service.origin})
        await storage.set_client_info(known)
        assert await storage.get_client_info() is known


async def test_the_storage_shows_no_secret(service):
    """S1, K1: A storage whose manager is not started shows no token, and takes none away. It is not pickled."""
    manager_of_nobody = manager(service)
    storage = TokenStorage(manager_of_nobody.handle(), CLIENT)
    given = OAuthToken(access_token="secret-1", refresh_token="refresh-1")
    with pytest.raises(RuntimeError) as caught:
        await storage.set_tokens(given)
    # `given` is the only copy.
    assert given.refresh_token == "refresh-1"
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    shown = [str(frame.locals) for frame in frames if "tests" not in Path(frame.filename).parts]
    assert shown
    assert not [text for text in [*shown, repr(storage), repr(vars(storage))] if "secret-1" in text]
    assert copy.deepcopy(storage) is storage
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(storage)
