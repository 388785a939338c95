"""The token storage of an MCP client as a source: real logins at the SDK's own server, which rotates refresh tokens."""

from __future__ import annotations

import logging
from typing import Any

import httpx2
import pytest
from mcp.shared.auth import OAuthToken
from tests.clients.mcp_server import McpService, MemoryStorage, login

from evertoken import FetchRequest, GrantRejected, Token, TokenManager, TransientRefreshError
from evertoken.sources import OAuthClient
from evertoken.sources.mcp import Storage


@pytest.fixture
async def service():
    async with McpService() as found:
        yield found


@pytest.fixture
async def storage(service):
    """The storage of a program whose user has logged in through the SDK."""
    found = MemoryStorage()
    await visit(service, login(service.url, found))
    assert (found.tokens.refresh_token, found.client_info.issuer) == ("refresh-1", service.origin)
    return found


async def visit(service, auth) -> int:
    async with httpx2.AsyncClient(auth=auth) as client:
        # An MCP server answers a request that is no message with an error; the token is judged before.
        return (await client.post(service.url, json={})).status_code


async def test_a_stored_login_is_refreshed_and_written_back(service, storage):
    """K1: The source refreshes as the client that the SDK registered, and the storage has each new token."""
    async with TokenManager(Storage(storage)) as tokens:
        assert (await tokens.get()).access_token == "secret-2"
        assert storage.tokens == OAuthToken(access_token="secret-2", refresh_token="refresh-2", expires_in=3600)
        await tokens.refresh()
        assert await visit(service, tokens.auth()) != 401
    assert service.presented == ["refresh-1", "refresh-2"]
    assert storage.tokens.refresh_token == "refresh-3"


async def test_a_token_is_written_before_it_is_used(storage):
    """K1: When `get` returns the first token, the storage has it."""
    seen = []

    class Slow(MemoryStorage):
        async def set_tokens(self, tokens):
            seen.append(manager.peek())
            await super().set_tokens(tokens)

    slow = Slow()
    slow.tokens, slow.client_info = storage.tokens, storage.client_info
    async with TokenManager(Storage(slow)) as manager:
        assert (await manager.get()).access_token == slow.tokens.access_token
    assert seen == [None]


async def test_life_is_counted_from_the_request(storage):
    """T1: The stored token has no instant, so its life is not trusted; the new one expires when the server said."""
    async with TokenManager(Storage(storage)) as tokens:
        token = await tokens.get()
        assert token.access_token == "secret-2"
        assert token.lifetime == 3600


async def test_a_failed_write_loses_nothing(service, storage, caplog):
    """K1: A storage that is full keeps nobody from the token, is told of in the log, and has the next one again."""
    storage.error = OSError("disk full: secret-2")
    async with TokenManager(Storage(storage)) as tokens:
        with caplog.at_level(logging.WARNING, "evertoken"):
            assert (await tokens.get()).access_token == "secret-2"
        assert "did not keep a new token" in caplog.text
        assert "secret-2" not in caplog.text
        assert storage.tokens.refresh_token == "refresh-1"
        # The refresh token in the storage is spent. It is not presented, however often the write fails.
        await tokens.refresh()
        storage.error = None
        await tokens.refresh()
        assert storage.tokens.refresh_token == "refresh-4"
    assert service.presented == ["refresh-1", "refresh-2", "refresh-3"]


async def test_what_was_spent_is_known_after_a_good_write(service, storage):
    """K1: A write that fails after one that worked leaves a spent refresh token in the storage; it stays there."""
    async with TokenManager(Storage(storage)) as tokens:
        await tokens.get()
        await tokens.refresh()
        storage.error = OSError("disk full")
        for _turn in range(3):
            await tokens.refresh()
    assert service.presented == [f"refresh-{number}" for number in range(1, 6)]


async def test_the_sdk_never_has_the_refresh_token(service, storage):
    """K1: A provider that is given the source logs in and refreshes nothing, also when its token has ended."""
    source = Storage(storage)
    assert await source.get_tokens() == OAuthToken(access_token="secret-1")
    provider: Any = login(service.url, source)
    service.good.clear()
    service.lifetime = 0
    for _turn in range(2):
        await visit(service, provider)
    assert (service.logins, service.presented) == (3, [])
    assert provider.context.current_tokens.refresh_token is None
    assert storage.tokens.refresh_token == "refresh-3"


async def test_what_was_written_back_is_no_new_login(storage):
    """K6: The refresh token that this source wrote into the storage belongs to the grant that it came from."""
    source, request = Storage(storage), FetchRequest(None, None, 5.0)
    await source.fetch(request)
    current = Token("secret-2", issued_at=0.0, refresh_token="refresh-2")
    again = FetchRequest(None, current, 5.0, origins=request.origins)
    await source.fetch(again)
    assert not again.began_anew
    assert len(again.origins) == 2


async def test_a_new_login_wins(service, storage):
    """K6: After a login through the SDK, `refresh` presents the refresh token of that login."""
    source = Storage(storage)
    async with TokenManager(source) as tokens:
        await tokens.get()
        # Somebody ends the login. The SDK asks for another one.
        service.good.clear()
        await visit(service, login(service.url, source))
        assert storage.tokens.refresh_token == "refresh-3"
        await tokens.refresh()
        assert await visit(service, tokens.auth()) != 401
    assert service.presented == ["refresh-1", "refresh-3"]


@pytest.mark.parametrize("meanwhile", [OAuthToken(access_token="secret-9", refresh_token="refresh-9"), None])
async def test_a_login_during_a_fetch_is_not_overwritten(storage, meanwhile):
    """K6: A login, or a sign-out, that reaches the storage while the server is asked stays there."""

    class Busy(MemoryStorage):
        asked = 0

        async def get_tokens(self):
            self.asked += 1
            return storage.tokens if self.asked == 1 else meanwhile

    busy = Busy()
    busy.client_info = storage.client_info
    await Storage(busy).fetch(FetchRequest(None, None, 5.0))
    assert (busy.asked, busy.tokens) == (2, None)


async def test_nobody_has_logged_in(service):
    """F4: An empty storage is a rejection that says what to do, and a login ends it."""
    storage = MemoryStorage()
    source = Storage(storage, resource=service.url)
    async with TokenManager(source) as tokens:
        with pytest.raises(GrantRejected, match="nobody has logged in: the MCP token storage is empty"):
            await tokens.get()
        await visit(service, login(service.url, source))
        await tokens.refresh()
        assert await visit(service, tokens.auth()) != 401


async def test_a_token_without_refresh_token_is_used_until_it_is_refused(service, storage):
    """T1: Its life is not known. After a refusal somebody has to log in."""
    storage.tokens = OAuthToken(access_token="secret-1", expires_in=60)
    async with TokenManager(Storage(storage)) as tokens:
        token = await tokens.get()
        assert (token.access_token, token.expires_at) == ("secret-1", None)
        assert await visit(service, tokens.auth()) != 401
        with pytest.raises(GrantRejected, match="no refresh token; log in again"):
            await tokens.refused(token)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": None}, "names no issuer"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "names the client authentication 'private_key_jwt'"),
        (None, "names no client"),
    ],
)
async def test_a_client_that_is_not_known(storage, changes, said):
    """F4: Without a client to refresh as, the error names the missing part and the argument that supplies it."""
    storage.client_info = None if changes is None else storage.client_info.model_copy(update=changes)
    with pytest.raises(GrantRejected, match=f"{said}, so nobody can be asked: give Storage an OAuthClient"):
        await Storage(storage).fetch(FetchRequest(None, None, 5.0))


async def test_a_client_that_is_given(service, storage):
    """K1: A client of the program's own is used instead of the registered one."""
    info = storage.client_info
    client = OAuthClient(
        token_endpoint=f"{service.origin}/token", client_id=info.client_id, client_secret=info.client_secret
    )
    storage.client_info = None
    async with TokenManager(Storage(storage, client)) as tokens:
        assert (await tokens.get()).access_token == "secret-2"


async def test_revoke_tells_the_server(service):
    """K5: The server is told as the client that was registered, and does not accept the token any more."""
    storage = MemoryStorage()
    await visit(service, login(service.url, storage, "client_secret_post"))
    assert storage.client_info.client_secret
    async with TokenManager(Storage(storage)) as tokens:
        assert (await tokens.get()).access_token == "secret-2"
        # The access token of before is good as well, until the server ends the login.
        assert service.good
        await tokens.revoke()
    assert not service.good


async def test_it_shows_no_secret(storage):
    """S1: The error of a server that is down, raised by a direct call, shows no token in its frames."""
    storage.client_info = storage.client_info.model_copy(update={"issuer": "http://127.0.0.1:1"})
    source = Storage(storage)
    with pytest.raises(TransientRefreshError) as caught:
        await source.fetch(FetchRequest(None, None, 5.0))
    frames, trace = [], caught.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    assert not [frame for frame in frames[1:] if "refresh-1" in str(frame.f_locals)]
    assert (repr(source), vars(source)) == ("Storage(MemoryStorage)", {})
