"""The credentials for google-auth, in its sessions and in a client of Google Cloud, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from google.auth.aio.transport.sessions import AsyncAuthorizedSession
from google.auth.credentials import TokenState
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from tests.clients.sdk_contract import SdkContract
from tests.clients.test_callables import Gateway
from tests.sources.wire import Asked, Wire, http

from evertoken import Token, TokenManager
from evertoken.clients.google import AsyncCredentials, Credentials


class Refused(Exception):
    """The answer was a 401."""


class Api(Gateway):
    """An API that takes note of bodies."""

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        self.bodies.append(asked.body)
        return await super().answer(asked, writer)


class Bucket(Gateway):
    """An endpoint of Cloud Storage with one bucket."""

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        answered = await super().answer(asked, writer)
        return http(200, {"name": "b"}) if b" 200 " in answered else answered


class _Google(SdkContract):
    extra = "google"
    library: ClassVar[str | None] = "google-auth"
    api: ClassVar[type[Gateway]] = Api

    @contextlib.asynccontextmanager
    async def server(self):
        api = self.api()
        async with Wire(api.answer) as wire:
            api.url = wire.url("")
            yield api


class TestAuthorizedSession(_Google):
    name = "google.auth.transport.requests.AuthorizedSession"
    lines = "session = AuthorizedSession(Credentials(tokens.handle()))"
    without = 14
    blocking = True
    bodies = True
    differs: ClassVar[dict[str, str]] = {
        "test_used_up_bodies": "google-auth itself sends an empty generator again. Give it bytes, or "
        "use a `requests.Session` with `BearerAuth`"
    }

    def given(self, handle):
        return Credentials(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        with AuthorizedSession(given) as session:

            def call(body: Any = None) -> None:
                if session.post(server.url, data=body).status_code == 401:
                    raise Refused

            yield call

    async def test_used_up_bodies(self):
        """U3: google-auth sends a generator again, which is empty by then, with credentials of any kind."""
        async with self.setting() as at, self.using(at) as call:
            await at.tokens.get()
            await at.server.revoke("secret-1")
            await asyncio.to_thread(call, iter([b"one", b"two"]))
            assert at.server.bodies == [b"onetwo", b""]


class TestAsyncAuthorizedSession(_Google):
    name = "google.auth.aio.transport.sessions.AsyncAuthorizedSession"
    lines = "session = AsyncAuthorizedSession(AsyncCredentials(tokens.handle()))"
    without = 14
    bodies = True

    def given(self, handle):
        return AsyncCredentials(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        session = AsyncAuthorizedSession(given)

        async def call(body: Any = None) -> None:
            response = await session.post(server.url, data=body)
            await response.close()
            if response.status_code == 401:
                raise Refused

        try:
            yield call
        finally:
            await session.close()

    async def streamed(self, call):
        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        await call(pieces())


class TestStorage(_Google):
    name = "google.cloud.storage.Client"
    lines = 'client = storage.Client(project="p", credentials=Credentials(tokens.handle()))'
    library: ClassVar[str | None] = "google-cloud-storage"
    without = 14
    blocking = True
    api: ClassVar[type[Gateway]] = Bucket

    def given(self, handle):
        return Credentials(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        client = storage.Client(project="p", credentials=given, client_options={"api_endpoint": server.url})
        try:
            yield lambda: client.get_bucket("b", retry=None)
        finally:
            client.close()


@pytest.fixture
async def tokens():
    async with TokenManager(lambda: ("secret-1", 3600.0)) as manager:
        await manager.get()
        yield manager


async def test_state(tokens):
    """U1: google-auth takes the credentials for valid, and never for expired: it keeps no end of the token."""
    credentials = Credentials(tokens.handle())
    assert (credentials.token, credentials.expiry) == ("secret-1", None)
    assert (credentials.valid, credentials.expired, credentials.token_state) == (True, False, TokenState.FRESH)


async def test_nothing_is_fetched_for_the_state():
    """U5: Without a token the credentials are invalid, which is known on the manager's loop without a fetch."""
    async with TokenManager(lambda: ("secret-1", 3600.0)) as tokens:
        credentials = Credentials(tokens.handle())
        assert (credentials.valid, credentials.token_state) == (False, TokenState.INVALID)
        with pytest.raises(RuntimeError, match="event loop"):
            credentials.apply({})
        await asyncio.to_thread(credentials.refresh, None)
        assert credentials.valid


async def test_sync_credentials_in_an_async_session():
    """U5: An async session refreshes credentials without a token in a thread, and so can be used on the loop."""
    api = Api()

    async def fetch() -> tuple[str, float]:
        await api.issue("secret-1")
        return "secret-1", 3600.0

    async with Wire(api.answer) as wire, TokenManager(fetch) as tokens:
        session = AsyncAuthorizedSession(Credentials(tokens.handle()))
        response = await session.get(wire.url())
        assert response.status_code == 200
        await response.close()
        await session.close()


async def test_refresh_with_nothing_given():
    """U1: `refresh` before a token was given fetches one, and reports none."""
    fetches = []

    def fetch():
        fetches.append(len(fetches))
        return f"secret-{len(fetches)}", 3600.0

    async with TokenManager(fetch) as tokens:
        await asyncio.to_thread(Credentials(tokens.handle()).refresh, None)
        assert len(fetches) == 1
        credentials = AsyncCredentials(tokens.handle())
        assert credentials.token is None
        await credentials.refresh(None)
        assert len(fetches) == 1


async def test_late_refresh(tokens):
    """U1: `refresh` in a task that was given an old token does not report the new one."""
    credentials = AsyncCredentials(tokens.handle())
    headers: dict[str, str] = {}
    await credentials.apply(headers)
    await tokens.put(Token("secret-2", issued_at=0.0, expires_at=4e9))

    async def another() -> None:
        await credentials.apply(headers)
        assert headers == {"authorization": "Bearer secret-2"}

    await asyncio.create_task(another())
    await credentials.refresh(None)
    assert (await tokens.get()).access_token == "secret-2"


async def test_refresh_in_another_thread(tokens):
    """U1: `refresh` in a thread that was given no token reports the one that was given last."""
    credentials = Credentials(tokens.handle())
    assert credentials.token == "secret-1"
    await tokens.put(Token("secret-2", issued_at=0.0, expires_at=4e9))
    assert credentials.token == "secret-2"
    thread = threading.Thread(target=credentials.refresh, args=(None,))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert credentials.token == "secret-1"


async def test_universe(tokens):
    """A client of another universe takes credentials of that universe, and refuses others."""
    there = {"universe_domain": "apis.example", "api_endpoint": "http://127.0.0.1:9"}
    credentials = Credentials(tokens.handle(), universe_domain="apis.example")
    client = storage.Client(project="p", credentials=credentials, client_options=there)
    client.close()
    assert client.universe_domain == credentials.universe_domain
    assert Credentials(tokens.handle()).universe_domain == "googleapis.com"


async def test_quota_project():
    """A project that the token names is sent as the one that pays."""
    answer = {"access_token": "secret-1", "expires_in": 3600, "quota_project_id": "payer"}
    async with TokenManager(lambda: answer) as tokens:
        headers: dict[str, str] = {}
        await AsyncCredentials(tokens.handle()).before_request(None, "GET", "https://a.example", headers)
    assert headers == {"authorization": "Bearer secret-1", "x-goog-user-project": "payer"}


@pytest.mark.parametrize("kind", [Credentials, AsyncCredentials])
async def test_another_token(tokens, kind):
    """U1: A token that is passed to `apply` is used; one that is set is refused, and the message shows none of it."""
    credentials = kind(tokens.handle())
    headers: dict[str, str] = {}
    done = credentials.apply(headers, "other")
    if done is not None:
        await done
    assert headers == {"authorization": "Bearer other"}
    with pytest.raises(AttributeError, match=r"TokenManager\.put"):
        credentials.token = "other"
