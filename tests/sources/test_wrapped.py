"""Sources that wrap what a program has: an Authlib client, credentials of google-auth, a session of botocore."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from tests.sources.wire import Asked, Wire, a_request, granted, http

from evertoken import GrantRejected, Token, TokenManager, TransientRefreshError
from evertoken._model.token_response import read_response
from evertoken.sources import AuthlibClient


class Server:
    """A token endpoint that gives at-1, at-2, ... and, where it is told to, rt-1, rt-2, ..."""

    def __init__(self, *, rotates: bool = False) -> None:
        self.rotates = rotates
        self.count = 0
        self.answers: list[bytes] = []
        self.forms: list[dict[str, str]] = []

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        self.forms.append(dict(asked.form))
        if self.answers:
            return self.answers.pop(0)
        self.count += 1
        more = {"refresh_token": f"rt-{self.count}"} if self.rotates else {}
        return granted(access_token=f"at-{self.count}", **more)

    @property
    def presented(self) -> list[str | None]:
        return [form.get("refresh_token") for form in self.forms]


def authlib(wire: Wire, **options: Any) -> AsyncOAuth2Client:
    return AsyncOAuth2Client("app", "s3cret", token_endpoint=wire.url(), trust_env=False, **options)


class TestAuthlib:
    """AuthlibClient"""

    async def test_client_credentials(self):
        """Without a refresh token it is the client credentials grant, with the parameters that were given."""
        server = Server()
        async with Wire(server.answer) as wire, authlib(wire, scope="read") as client:
            source = AuthlibClient(client, parameters={"audience": "https://api.example"})
            assert (source.rotates, source.provider) == (False, wire.url(""))
            async with TokenManager(source) as tokens:
                token = await tokens.get()
                assert token.access_token == "at-1"
                assert token.expires_at == pytest.approx(time.time() + 3600, abs=5)
                assert (await tokens.refresh()).access_token == "at-2"
        assert server.forms[0] == {
            "grant_type": "client_credentials", "scope": "read", "audience": "https://api.example"
        }  # fmt: skip

    async def test_rotation(self):
        """K1: The newest refresh token is presented, each once."""
        server = Server(rotates=True)
        async with Wire(server.answer) as wire, authlib(wire, token={"refresh_token": "rt-0"}) as client:
            source = AuthlibClient(client)
            assert source.rotates is None
            async with TokenManager(source) as tokens:
                for _ in range(3):
                    await tokens.refresh()
        assert server.presented == ["rt-0", "rt-1", "rt-2"]

    async def test_kept_refresh_token(self):
        """K1: An answer without a refresh token keeps the one there is."""
        server = Server()
        async with Wire(server.answer) as wire, authlib(wire, token={"refresh_token": "rt-0"}) as client:
            async with TokenManager(AuthlibClient(client)) as tokens:
                await tokens.refresh()
                assert (await tokens.refresh()).refresh_token == "rt-0"
        assert server.presented == ["rt-0", "rt-0"]

    async def test_peer_was_faster(self):
        """K1: What a peer has got meanwhile is presented, and not what is left in the client."""
        server = Server(rotates=True)
        async with Wire(server.answer) as wire, authlib(wire, token={"refresh_token": "rt-0"}) as client:
            source = AuthlibClient(client)
            first = a_request()
            await source.fetch(first)
            newer = a_request(Token("at-9", issued_at=0.0, expires_at=1.0, refresh_token="rt-9"))
            newer.origins = first.origins
            await source.fetch(newer)
        assert server.presented == ["rt-0", "rt-9"]
        assert not newer.began_anew

    async def test_new_login(self):
        """K6: A token that the program puts into the client is a new login."""
        server = Server(rotates=True)
        async with Wire(server.answer) as wire, authlib(wire, token={"refresh_token": "rt-0"}) as client:
            async with TokenManager(AuthlibClient(client)) as tokens:
                await tokens.refresh()
                client.token = {"access_token": "x", "refresh_token": "login"}
                await tokens.refresh()
                await tokens.refresh()
        assert server.presented == ["rt-0", "login", "rt-2"]

    async def test_hook_that_fails(self, caplog):
        """K1: A hook of the program that fails after the answer loses nothing, and is told."""
        server = Server(rotates=True)

        async def update(token, refresh_token):
            raise OSError("disk full")

        async with Wire(server.answer) as wire:
            async with authlib(wire, token={"refresh_token": "rt-0"}, update_token=update) as client:
                async with TokenManager(AuthlibClient(client)) as tokens:
                    await tokens.refresh()
                    assert (await tokens.refresh()).refresh_token == "rt-2"
        assert server.presented == ["rt-0", "rt-1"]
        assert "a hook of the Authlib client raised OSError" in caplog.text

    async def test_cancelled_in_a_hook(self):
        """K1: An answer that has arrived is told to the manager, if the fetch is cancelled before it returns."""
        server, there = Server(rotates=True), asyncio.Event()

        async def update(token, refresh_token):
            there.set()
            await asyncio.get_running_loop().create_future()

        async with Wire(server.answer) as wire:
            async with authlib(wire, token={"refresh_token": "rt-0"}, update_token=update) as client:
                request = a_request()
                fetch = asyncio.create_task(AuthlibClient(client).fetch(request))
                await there.wait()
                fetch.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await fetch
        assert request.answer is not None
        token, failure = read_response(request.answer.value, requested_at=time.time())
        assert (token.refresh_token, failure) == ("rt-1", None)

    async def test_unreadable_answer(self):
        """K1: After an answer that holds no token the grant goes on, and no other grant takes its place."""
        server = Server(rotates=True)
        server.answers = [http(200, {})]
        async with Wire(server.answer) as wire, authlib(wire, token={"refresh_token": "rt-0"}) as client:
            source = AuthlibClient(client)
            await source.fetch(a_request())
            await source.fetch(a_request())
        assert server.presented == ["rt-0", "rt-0"]

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (http(400, {"error": "invalid_grant", "error_description": "spent"}), ("invalid_grant", "spent")),
            (http(401, {"error": "invalid_client"}), ("invalid_client", None)),
        ],
    )
    async def test_rejections(self, answer, expected):
        """F4: What a person must act upon is a rejection, with the server's code and words."""
        server = Server()
        server.answers = [answer]
        async with Wire(server.answer) as wire, authlib(wire, token={"refresh_token": "rt-0"}) as client:
            with pytest.raises(GrantRejected) as caught:
                await AuthlibClient(client).fetch(a_request())
            assert (caught.value.error, caught.value.error_description) == expected
            assert caught.value.origin == wire.url("")

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (http(429, {"error": "invalid_request"}, {"Retry-After": "7"}), (7.0, False, 429)),
            (http(503, b"", {"Retry-After": "5"}), (5.0, False, 503)),
            (http(500), (None, True, 500)),
            (http(400, {"error": "temporarily_unavailable"}), (None, False, 400)),
            (http(200, b"<html>"), (None, True, None)),
        ],
    )
    async def test_what_passes(self, answer, expected):
        """F4: What passes is transient, with the Retry-After and the status of the answer."""
        server = Server()
        server.answers = [answer]
        async with Wire(server.answer) as wire, authlib(wire, token={"refresh_token": "rt-0"}) as client:
            with pytest.raises(TransientRefreshError) as caught:
                await AuthlibClient(client).fetch(a_request())
        found = caught.value
        assert (found.retry_after, found.ambiguous, found.status) == expected

    async def test_no_connection(self):
        """K4: A request that never left is not ambiguous; one that was not answered is."""
        client = AsyncOAuth2Client("app", token_endpoint="http://127.0.0.1:9/token", trust_env=False)
        async with client:
            with pytest.raises(TransientRefreshError) as caught:
                await AuthlibClient(client).fetch(a_request())
        assert not caught.value.ambiguous

        async def hang_up(asked: Asked, writer: Any) -> None:
            writer.close()

        async with Wire(hang_up) as wire, authlib(wire) as client:
            with pytest.raises(TransientRefreshError) as caught:
                await AuthlibClient(client).fetch(a_request())
        assert caught.value.ambiguous

    @pytest.mark.parametrize(
        ("client", "error"),
        [
            (object(), TypeError),
            (AsyncOAuth2Client("app"), ValueError),
            (AsyncOAuth2Client("app", token_endpoint="http://as.example/token"), ValueError),
        ],
    )
    async def test_no_client(self, client, error):
        """What cannot work is refused when it is given."""
        with pytest.raises(error, match="client|token_endpoint"):
            AuthlibClient(client)

    async def test_identity(self):
        """K5: The identity names the server, the client and what is asked for; a login needs a namespace."""
        asked: Callable[..., AsyncOAuth2Client] = lambda **more: AsyncOAuth2Client(  # noqa: E731
            "app", token_endpoint="https://as.example/token", **more
        )
        plain = AuthlibClient(asked()).identity
        assert plain == AuthlibClient(asked()).identity
        assert plain != AuthlibClient(asked(scope="write")).identity
        assert plain != AuthlibClient(asked(), parameters={"audience": "a"}).identity
        assert AuthlibClient(asked(token={"refresh_token": "rt"})).identity is None
        assert repr(AuthlibClient(asked())) == "AuthlibClient('app', 'https://as.example/token')"
