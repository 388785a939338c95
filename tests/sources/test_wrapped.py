"""Sources that wrap what a program has: an Authlib client, credentials of google-auth, a session of botocore."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import google.auth.credentials
import google.oauth2.credentials
import pytest
from aiobotocore.credentials import AioCredentialResolver, AioRefreshableCredentials
from aiobotocore.session import AioSession
from authlib.integrations.httpx_client import AsyncOAuth2Client
from botocore.credentials import CredentialResolver, RefreshableCredentials
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)
from botocore.session import Session
from google.auth import exceptions
from tests.sources.wire import Asked, Wire, a_request, granted, http

from evertoken import GrantRejected, Token, TokenManager, TransientRefreshError
from evertoken._model.token_response import read_response
from evertoken.clients.google import AsyncCredentials
from evertoken.sources import AuthlibClient
from evertoken.sources.aws import BotocoreSession
from evertoken.sources.google import GoogleAuthCredentials


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
    """AuthlibClient."""

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

    async def test_refresh_token_that_nobody_asked_for(self):
        """A client that began without a refresh token calls `fetch_token` each time, and spends none."""
        server = Server(rotates=True)
        async with Wire(server.answer) as wire, authlib(wire) as client:
            async with TokenManager(AuthlibClient(client)) as tokens:
                await tokens.refresh()
                await tokens.refresh()
        assert server.presented == [None, None]

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
        """K1: The newest grant of a peer is presented, and not the older one in the client."""
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
        """F4: An error that needs a person is a rejection, with the server's code and words."""
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
        """F4: A temporary error is transient, with the Retry-After and the status of the answer."""
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

    async def test_no_secret_is_shown(self):
        """S1: If the server, or a hook, echoes a secret, the error does not show it."""
        server = Server()
        server.answers = [http(400, {"error": "invalid_grant", "error_description": "s3cret and wonderland-1"})]
        login = {"username": "alice", "password": "wonderland-1"}
        async with Wire(server.answer) as wire, authlib(wire) as client:
            with pytest.raises(GrantRejected) as caught:
                await AuthlibClient(client, parameters=login).fetch(a_request())
        assert server.forms[0]["grant_type"] == "password"
        assert "wonderland" not in str(caught.value)
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("client", "error"),
        [
            (object(), TypeError),
            (AsyncOAuth2Client("app"), ValueError),
            (AsyncOAuth2Client("app", token_endpoint="http://as.example/token"), ValueError),
        ],
    )
    async def test_no_client(self, client, error):
        """A client that cannot work is refused at once."""
        with pytest.raises(error, match=r"client|token_endpoint"):
            AuthlibClient(client)

    async def test_identity(self):
        """K5: The identity names the server, the client and the requested access. A login needs a namespace."""
        asked: Callable[..., AsyncOAuth2Client] = lambda **more: AsyncOAuth2Client(  # noqa: E731
            "app", token_endpoint="https://as.example/token", **more
        )
        plain = AuthlibClient(asked()).identity
        assert plain == AuthlibClient(asked()).identity
        assert plain != AuthlibClient(asked(scope="write")).identity
        assert plain != AuthlibClient(asked(), parameters={"audience": "a"}).identity
        assert AuthlibClient(asked(token={"refresh_token": "rt"})).identity is None
        assert repr(AuthlibClient(asked())) == "AuthlibClient('app', 'https://as.example/token')"


def person(wire: Wire, **options: Any) -> Any:
    return google.oauth2.credentials.Credentials(
        None, refresh_token="rt-0", token_uri=wire.url(), client_id="app", client_secret="s3cret", **options
    )


class Failing(google.auth.credentials.Credentials):
    """Credentials of another kind, whose refresh raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def refresh(self, request: Any) -> None:
        raise self.error


def from_transport() -> Exception:
    error = exceptions.RefreshError("metadata")
    error.__cause__ = exceptions.TransportError("no route")
    return error


class TestGoogleAuth:
    """google.GoogleAuthCredentials."""

    async def test_each_fetch_refreshes(self):
        """Each fetch calls `refresh`, and the token lives as long as the server said."""
        server = Server()
        async with Wire(server.answer) as wire:
            async with TokenManager(GoogleAuthCredentials(person(wire, quota_project_id="payer"))) as tokens:
                token = await tokens.get()
                assert token.expires_at == pytest.approx(time.time() + 3600, abs=5)
                assert token.extra["quota_project_id"] == "payer"
                assert (await tokens.refresh()).access_token == "at-2"
        assert server.presented == ["rt-0", "rt-0"]

    @pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
    @pytest.mark.parametrize("aware", [False, True])
    async def test_expiry(self, zone, aware, monkeypatch):
        """T1: A naive expiry is in UTC, wherever the machine is."""
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        credentials = Failing(ValueError())
        at = dt.datetime(2090, 1, 2, 3, 4, 5, tzinfo=dt.UTC)

        def refresh(request: Any) -> None:
            credentials.token = "at-1"
            credentials.expiry = at if aware else at.replace(tzinfo=None)

        credentials.refresh = refresh
        try:
            answer = await GoogleAuthCredentials(credentials).fetch(a_request())
        finally:
            monkeypatch.undo()
            time.tzset()
        assert answer.fields == {"access_token": "at-1", "expires_at": at.timestamp()}

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (http(400, {"error": "invalid_grant", "error_description": "spent"}), ("invalid_grant", "spent")),
            (http(401, {"error": "invalid_client"}), ("invalid_client", None)),
            (http(400, {"error": "invalid_grant", "error_subtype": "rapt"}), ("invalid_grant", "error_subtype rapt")),
        ],
    )
    async def test_rejections(self, answer, expected):
        """F4: An error that google-auth would not retry is a rejection, with the server's code and words."""
        server = Server()
        server.answers = [answer]
        async with Wire(server.answer) as wire:
            with pytest.raises(GrantRejected) as caught:
                await GoogleAuthCredentials(person(wire)).fetch(a_request())
        assert (caught.value.error, caught.value.error_description) == expected

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (exceptions.RefreshError("no file"), "invalid_grant"),
            (exceptions.ReauthFailError("challenge"), "invalid_grant"),
            (exceptions.MalformedError("no key"), "invalid_grant"),
            (exceptions.RefreshError("iam", json.dumps({"error": {"code": 403, "status": "DENIED"}})), "DENIED"),
        ],
    )
    async def test_other_rejections(self, error, code):
        """F4: An error without a code of OAuth is a rejection too."""
        with pytest.raises(GrantRejected) as caught:
            await GoogleAuthCredentials(Failing(error)).fetch(a_request())
        assert caught.value.error == code

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (exceptions.TransportError("no route"), None),
            (exceptions.TimeoutError("late"), None),
            (exceptions.RefreshError("busy", retryable=True), None),
            (exceptions.RefreshError("iam", json.dumps({"error": {"code": 503}})), 503),
            (exceptions.RefreshError("iam", json.dumps({"error": {"code": 429}})), 429),
            (exceptions.RefreshError("sts", json.dumps({"error": "server_error"})), None),
            (exceptions.RefreshError("sts", json.dumps({"error": "slow_down"})), None),
            (exceptions.RefreshError("iam", json.dumps({"error": {"code": 400, "status": "UNAVAILABLE"}})), 400),
            (from_transport(), None),
        ],
    )
    async def test_what_passes(self, error, status):
        """F4: An error that may go away is transient."""
        with pytest.raises(TransientRefreshError, match="google-auth") as caught:
            await GoogleAuthCredentials(Failing(error)).fetch(a_request())
        assert caught.value.status == status

    @pytest.mark.parametrize("body", [b"<html>busy</html>", b"", {"message": "busy"}, b'"busy"'])
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 429, 500, 502, 503, 520])
    async def test_an_error_page_rejects_nothing(self, status, body, monkeypatch):
        """F4: An answer that is no error of OAuth comes from a proxy or a server in trouble, and logs nobody out."""
        monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
        server = Server()
        server.answers = [http(status, body, {"Retry-After": "7"})] * 9
        async with Wire(server.answer) as wire:
            with pytest.raises(TransientRefreshError, match="google-auth") as caught:
                await GoogleAuthCredentials(person(wire)).fetch(a_request())
        assert (caught.value.status, caught.value.retry_after) == (status, 7.0)

    async def test_no_secret_is_shown(self):
        """S1: If the server echoes a secret, the error does not show it."""
        server = Server()
        server.answers = [http(400, {"error": "invalid_grant", "error_description": "rt-0 and s3cret"})]
        async with Wire(server.answer) as wire:
            with pytest.raises(GrantRejected) as caught:
                await GoogleAuthCredentials(person(wire)).fetch(a_request())
        assert "rt-0" not in str(caught.value)
        assert "s3cret" not in str(caught.value)

    async def test_no_credentials(self):
        """Credentials that cannot work are refused at once."""
        with pytest.raises(TypeError, match="not object"):
            GoogleAuthCredentials(object())
        with pytest.raises(TypeError, match="not AsyncCredentials"):
            GoogleAuthCredentials(AsyncCredentials(None))


class Keys:
    """Gives a session of botocore its keys: AKIA1, AKIA2, ..."""

    METHOD = "keys"

    def __init__(self) -> None:
        self.loaded = 0
        self.error: Exception | None = None

    def _metadata(self) -> dict[str, str]:
        if self.error is not None:
            raise self.error
        self.loaded += 1
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(hours=6)
        name = f"{self.loaded}"
        return {"access_key": f"AKIA{name}", "secret_key": "key", "token": name, "expiry_time": ends.isoformat()}

    def load(self) -> Any:
        return RefreshableCredentials.create_from_metadata(self._metadata(), self._metadata, self.METHOD)


class AioKeys(Keys):
    async def load(self) -> Any:
        async def refreshed() -> dict[str, str]:
            return self._metadata()

        return AioRefreshableCredentials.create_from_metadata(self._metadata(), refreshed, self.METHOD)


def session_of(keys: Keys) -> Session:
    session = Session()
    session.register_component("credential_provider", CredentialResolver([keys]))
    return session


def aio_session_of(keys: Keys) -> AioSession:
    session = AioSession()
    session.register_component("credential_provider", AioCredentialResolver([keys]))
    return session


WAYS: dict[str, Callable[[], tuple[Keys, Any]]] = {
    "a session": lambda: (keys := Keys(), session_of(keys)),
    "a function": lambda: (keys := Keys(), lambda: session_of(keys)),
    "a function of boto3": lambda: (keys := Keys(), lambda: boto3.Session(botocore_session=session_of(keys))),
    "an async session": lambda: (keys := AioKeys(), aio_session_of(keys)),
    "a function of async sessions": lambda: (keys := AioKeys(), lambda: aio_session_of(keys)),
}


class TestBotocoreSession:
    """aws.BotocoreSession."""

    @pytest.mark.parametrize("way", WAYS)
    async def test_past_the_cache(self, way):
        """F3: A forced refresh, and one after a refusal, goes past the cache of botocore."""
        _, session = WAYS[way]()
        async with TokenManager(BotocoreSession(session)) as tokens:
            token = await tokens.get()
            assert (token.access_key_id, token.secret_access_key, token.session_token) == ("AKIA1", "key", "1")
            assert token.expires_at == pytest.approx(time.time() + 6 * 3600, abs=10)
            assert (await tokens.refresh()).access_key_id == "AKIA2"
            other = await tokens.refused(await tokens.get())
            assert other is not None
            assert other.access_key_id == "AKIA3"

    async def test_boto3_session(self):
        """A session of boto3 gives the key that it has: boto3 has no public way past its cache."""
        source = BotocoreSession(boto3.Session(botocore_session=session_of(Keys())))
        async with TokenManager(source) as tokens:
            assert {(await tokens.get()).access_key_id, (await tokens.refresh()).access_key_id} == {"AKIA1"}

    async def test_keys_of_the_program(self):
        """K5: Keys that the program has set stay, and no others are looked for in their place."""
        session = session_of(Keys())
        session.set_credentials("AKIAOWN", "key")
        async with TokenManager(BotocoreSession(session)) as tokens:
            token = await tokens.get()
            assert (token.access_key_id, token.session_token, token.expires_at) == ("AKIAOWN", None, None)
            assert (await tokens.refresh()).access_key_id == "AKIAOWN"

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (UnauthorizedSSOTokenError(), "login_required"),
            (ProfileNotFound(profile="p"), "invalid_request"),
            (ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AssumeRole"), "access_denied"),
        ],
    )
    async def test_rejections(self, error, code):
        """F4: An error that needs a person is a rejection."""
        keys = Keys()
        keys.error = error
        with pytest.raises(GrantRejected) as caught:
            await BotocoreSession(session_of(keys)).fetch(a_request())
        assert caught.value.error == code

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (EndpointConnectionError(endpoint_url="https://sts.example"), None),
            (CredentialRetrievalError(provider="process", error_msg="exit 1"), None),
            (
                ClientError(
                    {"Error": {"Code": "Throttling"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "AssumeRole"
                ),
                429,
            ),
            (ClientError({"Error": {"Code": "Internal"}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "X"), 500),
        ],
    )
    async def test_what_passes(self, error, status):
        """F4: An error that may go away is transient."""
        keys = Keys()
        keys.error = error
        with pytest.raises(TransientRefreshError, match="botocore") as caught:
            await BotocoreSession(session_of(keys)).fetch(a_request())
        assert caught.value.status == status

    async def test_no_keys(self):
        """F4: A session without keys is a rejection, and an object that is not a session is refused at once."""
        session = Session()
        session.register_component("credential_provider", CredentialResolver([Nothing()]))
        with pytest.raises(GrantRejected, match="finds no keys"):
            await BotocoreSession(session).fetch(a_request())
        for wrong in (object(), Session):
            with pytest.raises(TypeError, match="session must be"):
                BotocoreSession(wrong)


class Nothing:
    METHOD = "nothing"

    def load(self) -> None:
        return None
