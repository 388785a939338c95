"""websockets: its client against its own server, which looks at the handshake."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from http import HTTPStatus
from typing import Any

import pytest
from tests.clients.contract import CHALLENGE
from tests.clients.long_lived import LongLived
from tests.clients.sdk_contract import SdkContract, Service
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI

from evertoken import GrantRejected, TokenManager, TokenUnavailable
from evertoken.clients.websockets import connect

# Real seconds, far beyond what a busy machine needs.
PATIENCE = 60.0


class Feed(Service):
    """It greets each client with a good token, and can send others away."""

    uri: str

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[list[str]] = []
        self.seen: list[str | None] = []
        self.leads_to: str | None = None
        self.refusal: tuple[HTTPStatus, dict[str, str]] = (HTTPStatus.UNAUTHORIZED, CHALLENGE)
        self.open: set[Any] = set()

    def admit(self, connection: Any, request: Any) -> Any:
        fields = request.headers.get_all("Authorization")
        self.fields.append(fields)
        self.seen.append(request.headers.get("X-Tenant"))
        if self.leads_to is not None:
            response = connection.respond(HTTPStatus.TEMPORARY_REDIRECT, "")
            response.headers["Location"] = self.leads_to
            return response
        if fields and self.accepts(fields[0].removeprefix("Bearer ")):
            return None
        status, headers = self.refusal
        response = connection.respond(status, "who?")
        response.headers.update(headers)
        return response

    async def greet(self, connection: Any) -> None:
        self.open.add(connection)
        await connection.send("hello")
        await connection.wait_closed()


@contextlib.asynccontextmanager
async def feeding():
    feed = Feed()
    async with serve(feed.greet, "127.0.0.1", 0, process_request=feed.admit) as server:
        feed.uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/feed"
        yield feed


@contextlib.asynccontextmanager
async def at_feed(*errors: Exception):
    """A manager whose first fetches raise *errors*, and a feed that takes all of its tokens."""
    ahead = list(errors)
    fetched: list[str] = []

    def fetch() -> tuple[str, float]:
        if ahead:
            raise ahead.pop(0)
        fetched.append(f"secret-{len(fetched) + 1}")
        return fetched[-1], 3600.0

    async with TokenManager(fetch) as tokens, feeding() as feed, asyncio.timeout(PATIENCE):
        feed.good = {f"secret-{number}" for number in range(1, 9)}
        yield tokens.handle(), feed, fetched


class TestWebsockets(SdkContract):
    name = "websockets.connect"
    extra = "websockets"
    lines = "async for websocket in connect(handle, uri): ..."
    without = 5

    def server(self):
        return feeding()

    def given(self, handle):
        return handle

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def call() -> None:
            async with connect(given, server.uri, proxy=None) as websocket:
                assert await websocket.recv() == "hello"

        yield call


async def test_each_reconnect_has_the_token_of_its_time():
    """U1: The iterator shows the token that is in service at each reconnect, and heals one that is refused."""
    async with at_feed() as (handle, feed, fetched):
        turns = 0
        async for websocket in connect(handle, feed.uri, proxy=None, reconnect_delays=lambda: iter([0.0] * 9)):
            assert await websocket.recv() == "hello"
            turns += 1
            if turns == 1:
                await handle.refresh()
            elif turns == 2:
                feed.good.discard("secret-2")
            else:
                break
            for connection in feed.open:
                connection.transport.abort()
            with contextlib.suppress(ConnectionClosed):
                await websocket.recv()
        assert feed.shown == ["secret-1", "secret-2", "secret-2", "secret-3"]
        assert len(fetched) == 3


async def test_the_iterator_goes_on_without_a_token():
    """R4: If there is no token, the iterator tries again, as it does without a server."""
    async with at_feed(ConnectionError("down")) as (handle, feed, _):
        async for websocket in connect(handle, feed.uri, proxy=None, reconnect_delays=lambda: iter([1.0] * 9)):
            assert await websocket.recv() == "hello"
            break
        assert feed.shown == ["secret-1"]


async def test_a_person_must_act():
    """F4: A grant that is rejected ends the iterator, and so does an answer that does not blame the token."""
    async with at_feed(GrantRejected("log in again")) as (handle, feed, _):
        with pytest.raises(GrantRejected):
            async for _websocket in connect(handle, feed.uri, proxy=None):
                pass
    async with at_feed() as (handle, feed, fetched):
        feed.good.clear()
        feed.refusal = (HTTPStatus.FORBIDDEN, {})
        with pytest.raises(InvalidStatus, match="403"):
            async for _websocket in connect(handle, feed.uri, proxy=None):
                pass
        assert len(fetched) == 1


async def test_a_rule_of_the_callers_is_kept():
    """R4: The caller's own `process_exception` decides alone."""
    async with at_feed(ConnectionError("down")) as (handle, feed, _):
        with pytest.raises(TokenUnavailable):
            async for _websocket in connect(handle, feed.uri, proxy=None, process_exception=lambda error: error):
                pass


async def test_a_lasting_refusal_is_the_callers():
    """U1: If a token is refused again, the caller gets the refusal, and no further token is fetched."""
    async with at_feed() as (handle, feed, fetched):
        feed.good.clear()
        for _ in range(3):
            with pytest.raises(InvalidStatus, match="401"):
                await connect(handle, feed.uri, proxy=None)
        assert len(fetched) == 2


async def test_redirects():
    """U4: A redirect to another origin goes on without the token, costs no fetch, and is not remembered."""
    async with at_feed() as (handle, feed, fetched), feeding() as other:
        feed.leads_to = other.uri
        uses = connect(handle, feed.uri, proxy=None)
        for _ in range(2):
            with pytest.raises(InvalidStatus, match="401"):
                await uses
        assert feed.fields == [["Bearer secret-1"]] * 2
        assert other.fields == [[]] * 2
        assert len(fetched) == 1
        feed.leads_to = None
        websocket = await uses
        await websocket.close()


async def test_redirects_within():
    """U4: A redirect within the origin carries the token, and is healed."""
    async with at_feed() as (handle, feed, fetched):
        feed.good.discard("secret-1")
        feed.leads_to = "/feed"

        def admit_once(connection: Any, request: Any) -> Any:
            answer = Feed.admit(feed, connection, request)
            feed.leads_to = None
            return answer

        async with serve(feed.greet, "127.0.0.1", 0, process_request=admit_once) as server:
            uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/moved"
            async with connect(handle, uri, proxy=None):
                pass
        assert feed.fields == [["Bearer secret-1"], ["Bearer secret-1"], ["Bearer secret-2"]]
        assert len(fetched) == 2


async def test_in_the_clear():
    """U4: ws outside loopback needs `allow_http=True`. A text that is not a URI is refused too."""
    async with at_feed() as (handle, _, _fetched):
        with pytest.raises(ValueError, match=r"ws://api\.example\.com in the clear; use wss"):
            connect(handle, "ws://api.example.com/feed")
        assert connect(handle, "ws://api.example.com/feed", allow_http=True)
        assert connect(handle, "wss://api.example.com/feed")
        with pytest.raises(ValueError, match="names a user") as caught:
            connect(handle, "wss://alice:secret-9@api.example.com/feed")
        assert "secret-9" not in str(caught.value)
        with pytest.raises(InvalidURI):
            connect(handle, "https://api.example.com/feed")


async def test_a_token_that_lives_long_enough():
    """R2: Each handshake asks for a token with `min_ttl` seconds left."""
    reader: Any = LongLived()
    async with feeding() as feed:
        feed.good.add("secret-1")
        async with connect(reader, feed.uri, proxy=None, min_ttl=600.0):
            pass
        assert reader.asked == [600.0]
        with pytest.raises(ValueError, match="min_ttl"):
            connect(reader, feed.uri, min_ttl=float("nan"))


async def test_other_fields():
    """U1: Other header fields are sent; an Authorization of the caller's is not."""
    async with at_feed() as (handle, feed, _):
        for fields in ({"X-Tenant": "7", "authorization": "stray"}, [("X-Tenant", "7"), ("Authorization", "stray")]):
            async with connect(handle, feed.uri, proxy=None, additional_headers=fields):
                pass
        assert feed.seen == ["7", "7"]
        assert feed.fields == [["Bearer secret-1"]] * 2


async def test_the_log_shows_no_token(caplog):
    """S1: The library writes all header fields at level DEBUG, and the token is not shown."""
    async with at_feed() as (handle, feed, _):
        for logger in (None, logging.getLogger("of.mine")):
            caplog.clear()
            with caplog.at_level(logging.DEBUG):
                websocket = await connect(handle, feed.uri, proxy=None, logger=logger)
                assert isinstance(websocket, ClientConnection)
                await websocket.close()
            client = [one for one in caplog.records if one.name in ("websockets.client", "of.mine")]
            assert "> Authorization: '[secure]'" in [one.getMessage() for one in client]
            assert not [one for one in client if "secret-1" in one.getMessage()]
        assert "secret-1" not in repr(websocket.request)
