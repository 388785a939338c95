"""A manager as the auth of an HTTP client: httpx and httpx2, async and sync, over real sockets."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import io
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Self

import httpx
import httpx2
import pytest
from tests.gated import until
from tests.sources.wire import Asked, Wire, always, granted, http

from evertoken import (
    GrantRejected,
    OriginRefused,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
    run_in_background,
)
from evertoken._engine.clock import SystemClock
from evertoken.clients import httpx as for_httpx, httpx2 as for_httpx2
from evertoken.sources import ClientCredentials, OAuthClient

LIBRARIES = {
    "httpx": SimpleNamespace(http=httpx, BearerAuth=for_httpx.BearerAuth),
    "httpx2": SimpleNamespace(http=httpx2, BearerAuth=for_httpx2.BearerAuth),
    # The one that `auth()` makes.
    "both": SimpleNamespace(http=httpx2, BearerAuth=for_httpx.BearerAuth),
}


@pytest.fixture(params=LIBRARIES)
def lib(request) -> Any:
    return LIBRARIES[request.param]


@pytest.fixture(params=["async", "sync"])
def kind(request) -> str:
    return str(request.param)


class Issuer:
    """A source of token-1, token-2, ... and the resource's idea of which are good."""

    def __init__(self, *, refuses_all: bool = False) -> None:
        self.fetches = 0
        self.revoked: set[str] = set()
        self.refuses_all = refuses_all
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> tuple[str, float]:
        self.fetches += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return f"token-{self.fetches}", 3600.0

    def revoke(self) -> None:
        self.revoked.update(f"token-{number}" for number in range(1, self.fetches + 1))

    def admits(self, asked: Asked) -> bool:
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        return kind == "Bearer" and not self.refuses_all and bool(token) and token not in self.revoked

    async def resource(self, asked: Asked, writer: asyncio.StreamWriter) -> bytes | None:
        if self.admits(asked):
            return http(200, asked.body)
        return http(401, b"who?", {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def waiters(tokens: TokenManager) -> int:
    return tokens.snapshot().keys[None].waiters


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def tokens(issuer) -> AsyncIterator[TokenManager]:
    async with TokenManager(issuer) as manager:
        yield manager


@pytest.fixture
async def resource(issuer: Issuer) -> AsyncIterator[Wire]:
    async with Wire(issuer.resource) as wire:
        yield wire


class Caller:
    """One client of either kind, asked in one way; the sync one asks from threads."""

    def __init__(self, lib: Any, kind: str, auth: Any, **options: Any) -> None:
        self._client = (lib.http.AsyncClient if kind == "async" else lib.http.Client)(auth=auth, **options)
        self._threads = None if kind == "async" else concurrent.futures.ThreadPoolExecutor(64)

    async def __call__(self, method: str, url: str, **options: Any) -> Any:
        if self._threads is None:
            return await self._client.request(method, url, **options)
        call = functools.partial(self._client.request, method, url, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def get(self, url: str, **options: Any) -> Any:
        return await self("GET", url, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._threads is None:
            await self._client.aclose()
        else:
            self._client.close()
            self._threads.shutdown()


@pytest.fixture
async def call(lib, kind, tokens) -> AsyncIterator[Caller]:
    # Connections are all kept: httpcore's sync pool closes surplus ones under the hands of other threads.
    limits = lib.http.Limits(max_connections=100, max_keepalive_connections=100)
    async with Caller(lib, kind, lib.BearerAuth(tokens.handle()), timeout=20, limits=limits) as caller:
        yield caller


# U1


async def test_sets_the_field(call, resource):
    """U1: each request carries the token in force, in place of what the caller may have set."""
    answer = await call.get(resource.url("/things"), headers={"Authorization": "Basic eDp5"})
    assert answer.status_code == 200
    assert [value for name, value in resource.asked[0].fields if name == "authorization"] == ["Bearer token-1"]


async def test_a_refused_token_is_healed_once(call, resource, issuer):
    """U1: a 401 costs one fetch and one repeat, and the caller sees the 200."""
    await call.get(resource.url())
    issuer.revoke()
    answer = await call.get(resource.url())
    assert answer.status_code == 200
    assert answer.history[0].status_code == 401
    assert [asked.headers["authorization"][-1] for asked in resource.asked] == ["1", "1", "2"]
    assert issuer.fetches == 2


async def test_five_hundred_refusals_at_once(call, resource, issuer, tokens):
    """U1: 500 concurrent 401s of one token cost one fetch, and every request ends 200."""
    await call.get(resource.url())
    issuer.revoke()
    issuer.gate.clear()
    calls = [asyncio.create_task(call.get(resource.url())) for _ in range(500)]
    # As many as there are threads, at least, wait for one fetch.
    await until(lambda: waiters(tokens) >= 64)
    issuer.gate.set()
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {200}
    assert issuer.fetches == 2


async def test_a_late_refusal_costs_nothing(call, resource, issuer, tokens):
    """U1: a 401 of a token that was replaced meanwhile costs no fetch; the request is repeated with the newer one."""
    held, go = asyncio.Event(), asyncio.Event()
    ordinary = resource.handler

    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> Any:
        if asked.target == "/slow" and asked.headers["authorization"] == "Bearer token-1":
            held.set()
            await go.wait()
        return await ordinary(asked, writer)

    resource.handler = slow
    late = asyncio.create_task(call.get(resource.url("/slow")))
    await held.wait()
    issuer.revoke()
    await tokens.refresh()
    go.set()
    assert (await late).status_code == 200
    assert issuer.fetches == 2


@pytest.mark.parametrize(
    ("refusals", "settles_in", "age", "fetches", "requests"),
    [
        # How often a new token is refused, the longest allowed time, the age of the token, and the cost in fetches.
        (1, 5, 0.0, 1, 2),
        (5, 5, 0.0, 1, 6),
        # It is refused for longer: the other token has its own moments.
        (6, 5, 0.0, 2, 7),
        (1, 5, 6.0, 2, 2),
        (1, 0, 0.0, 2, 2),
        (1, "soon", 0.0, 2, 2),
        (1, None, 0.0, 2, 2),
    ],
)
async def test_a_token_that_is_not_known_everywhere_yet(
    lib, kind, monkeypatch, refusals, settles_in, age, fetches, requests
):
    """U1: a new token that servers learn of late, says its source, is sent again after a moment, and not replaced."""
    monkeypatch.setattr("evertoken.clients._bearer._MOMENT", 0.0)
    made: list[str] = []

    async def source() -> dict[str, Any]:
        made.append(f"token-{len(made) + 1}")
        return {"access_token": made[-1], "expires_in": 3600, "settles_in": settles_in}

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return http(401 if len(wire.asked) <= refusals else 200, asked.body)

    async with Wire(handler) as wire, TokenManager(source) as manager:
        await manager.get()
        now = time.time()
        monkeypatch.setattr(SystemClock, "time", staticmethod(lambda: now + age))
        async with Caller(lib, kind, lib.BearerAuth(manager.handle())) as caller:
            answer = await caller("POST", wire.url(), content=b"body")
    assert (answer.status_code, answer.content) == (200, b"body")
    assert (len(made), len(wire.asked)) == (fetches, requests)


async def test_a_fresh_token_that_is_refused_too(call, resource, issuer):
    """U1: where the fresh token is refused too, the 401 is the caller's: no loop."""
    issuer.refuses_all = True
    answer = await call.get(resource.url())
    assert (answer.status_code, answer.content) == (401, b"who?")
    assert len(resource.asked) == 2
    assert issuer.fetches == 2


async def test_a_resource_that_refuses_everything(lib, kind, issuer):
    """U1: 10,000 requests to a resource that refuses every token: fetches bounded by the cool-down, 401 for each."""
    transport = lib.http.MockTransport(lambda request: lib.http.Response(401))
    loop = asyncio.get_running_loop()
    with run_in_background(TokenManager(issuer)) as manager:
        auth = lib.BearerAuth(manager.handle())
        begun = loop.time()
        if kind == "sync":

            def all_of_them() -> set[int]:
                with lib.http.Client(auth=auth, transport=transport) as client:
                    return {client.get("https://api.example.com/").status_code for _ in range(10_000)}

            statuses = await asyncio.to_thread(all_of_them)
        else:
            async with lib.http.AsyncClient(auth=auth, transport=transport) as client:
                statuses = set()
                for _ in range(100):
                    answers = await asyncio.gather(*(client.get("https://api.example.com/") for _ in range(100)))
                    statuses |= {answer.status_code for answer in answers}
        took = loop.time() - begun
    assert statuses == {401}
    # The cool-down is 1 s, then 2 s, 4 s, ...
    assert issuer.fetches <= 2 + (took + 1.0).__ceil__().bit_length()


@pytest.mark.parametrize("status", [400, 403, 404, 407, 500])
async def test_other_statuses_refresh_nothing(call, resource, issuer, status):
    """U1: other statuses never refresh. A 403 refreshes only if it blames the token."""
    challenge = "insufficient_scope" if status == 403 else "invalid_token"
    resource.handler = always(http(status, b"no", {"WWW-Authenticate": f'Bearer error="{challenge}"'}))
    assert (await call.get(resource.url())).status_code == status
    assert (len(resource.asked), issuer.fetches) == (1, 1)


@pytest.mark.parametrize("challenge", ['Bearer error="invalid_token"', "bearer realm=a, ERROR = invalid_token"])
async def test_forbidden_for_the_token(call, resource, issuer, challenge):
    """U1: a 403 that says error="invalid_token" is healed as a 401 is."""
    ordinary = resource.handler

    async def handler(asked: Any, writer: Any) -> bytes | None:
        if len(resource.asked) == 1:
            return http(403, b"no", {"WWW-Authenticate": challenge})
        return await ordinary(asked, writer)

    resource.handler = handler
    assert (await call.get(resource.url())).status_code == 200
    assert (len(resource.asked), issuer.fetches) == (2, 2)


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="a", error="insufficient_scope", scope="b"',
        "bearer error=insufficient_scope",
        'Bearer ERROR = "insufficient_scope"',
        'Bearer error="invalid_request"',
        'Basic realm="x", Bearer error="insufficient_scope"',
    ],
)
async def test_insufficient_scope(call, resource, issuer, challenge):
    """U1: a 401 that blames the scope or the request refreshes nothing."""
    resource.handler = always(http(401, b"no", {"WWW-Authenticate": challenge}))
    assert (await call.get(resource.url())).status_code == 401
    assert (len(resource.asked), issuer.fetches) == (1, 1)


@pytest.mark.parametrize(
    "challenge", ["", "Bearer", 'Bearer error="invalid_token"', 'Basic realm="insufficient_scope"']
)
async def test_any_other_challenge_blames_the_token(call, resource, issuer, challenge):
    """U1: a 401 without a challenge, or with any other, refreshes."""
    ordinary = resource.handler

    async def refusing(asked: Asked, writer: asyncio.StreamWriter) -> Any:
        return (
            await ordinary(asked, writer) if issuer.admits(asked) else http(401, b"", {"WWW-Authenticate": challenge})
        )

    resource.handler = refusing
    await call.get(resource.url())
    issuer.revoke()
    assert (await call.get(resource.url())).status_code == 200
    assert issuer.fetches == 2


@pytest.mark.parametrize(
    ("error", "raised"),
    [(TransientRefreshError("no route"), TokenUnavailable), (GrantRejected("invalid_grant", "gone"), GrantRejected)],
)
async def test_refused_while_the_refresh_fails(call, resource, issuer, error, raised):
    """U1, R4: where no other token can be had after a 401, the caller is told why, and leaves no connection open."""
    await call.get(resource.url())
    issuer.revoke()
    issuer.error = error
    with pytest.raises(raised, match=r"no route|invalid_grant"):
        await call.get(resource.url())
    with pytest.raises(raised):
        await call.get(resource.url())
    assert len(resource.asked) == 2


async def test_no_token_to_begin_with(lib, kind, resource, issuer):
    """R4: where there is no token at all, nothing is sent, and the failure says why."""
    issuer.error = TransientRefreshError("the endpoint is down")
    async with TokenManager(issuer) as manager, Caller(lib, kind, lib.BearerAuth(manager.handle())) as call:
        with pytest.raises(TokenUnavailable, match="the endpoint is down"):
            await call.get(resource.url())
    assert resource.asked == []


async def test_refused_with_one_pool_for_all(lib):
    """U1, U2: where tokens are fetched through the very client that is refused, its pool does not run dry."""
    issuer = Issuer()
    async with lib.http.AsyncClient(limits=lib.http.Limits(max_connections=3), timeout=20) as client:

        async def both(asked: Asked, writer: asyncio.StreamWriter) -> bytes | None:
            if asked.target != "/token":
                return await issuer.resource(asked, writer)
            issuer.fetches += 1
            return granted(access_token=f"token-{issuer.fetches}")

        async with Wire(both) as wire:
            source = ClientCredentials(
                OAuthClient(token_endpoint=wire.url(), client_id="app", client_secret="s", http_client=client)
            )
            async with TokenManager(source) as manager:
                auth = lib.BearerAuth(manager.handle())
                await client.get(wire.url("/things"), auth=auth)
                issuer.revoke()
                answers = await asyncio.gather(*(client.get(wire.url("/things"), auth=auth) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert issuer.fetches == 2


# U2


async def test_an_endless_stream_blocks_nobody(lib, resource, issuer, tokens):
    """U2: while a streamed answer stays open, tokens rotate, 401s heal and other requests run."""
    ordinary = resource.handler

    async def streaming(asked: Asked, writer: asyncio.StreamWriter) -> Any:
        if asked.target != "/stream":
            return await ordinary(asked, writer)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    resource.handler = streaming
    async with lib.http.AsyncClient(auth=lib.BearerAuth(tokens.handle()), timeout=20) as client:
        async with client.stream("GET", resource.url("/stream")) as stream:
            body = stream.aiter_raw()
            await anext(body)
            for _ in range(3):
                await tokens.refresh()
                assert (await client.get(resource.url())).status_code == 200
            issuer.revoke()
            assert (await client.get(resource.url())).status_code == 200
            await anext(body)
            await body.aclose()
    assert issuer.fetches == 5


async def test_no_lock_across_the_yield(lib, tokens, issuer):
    """U2: a flow that stands at its yield keeps no other flow, refresh or refusal waiting, and nothing once closed."""
    auth = lib.BearerAuth(tokens.handle())
    standing = [auth.async_auth_flow(lib.http.Request("GET", "https://a.example/")) for _ in range(10)]
    for flow in standing:
        await anext(flow)
    async with asyncio.timeout(20):
        await tokens.refresh()
        other = auth.async_auth_flow(request := lib.http.Request("GET", "https://a.example/"))
        assert (await anext(other)).headers["authorization"] == "Bearer token-2"
        again = await other.asend(lib.http.Response(401, request=request))
        assert again.headers["authorization"] == "Bearer token-3"
    for flow in (*standing, other):
        await flow.aclose()
    await until(lambda: tokens.snapshot().in_flight == 0)


@pytest.mark.parametrize("at", ["first token", "answer", "refused"])
async def test_cancelled_requests(lib, resource, issuer, at):
    """R3, U1: a request that is cancelled at any point leaves nothing behind, and the next one is served."""
    before = asyncio.all_tasks()
    ordinary, go = resource.handler, asyncio.Event()

    async def held(asked: Asked, writer: asyncio.StreamWriter) -> Any:
        if at == "answer":
            await go.wait()
        return await ordinary(asked, writer)

    resource.handler = held
    async with (
        TokenManager(issuer) as tokens,
        lib.http.AsyncClient(auth=lib.BearerAuth(tokens.handle()), timeout=20) as client,
    ):
        if at != "first token":
            await tokens.get()
        if at == "refused":
            issuer.revoke()
        issuer.gate.clear()
        for number in range(1, 6):
            request = asyncio.create_task(client.get(resource.url()))
            await until(lambda: len(resource.asked) == number if at == "answer" else waiters(tokens) == 1)  # noqa: B023 - awaited at once
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        if at == "answer":
            with pytest.raises(lib.http.ReadTimeout):
                await client.get(resource.url(), timeout=lib.http.Timeout(20, read=0.05))
        issuer.gate.set()
        go.set()
        answer = await client.get(resource.url())
    assert answer.status_code == 200
    assert issuer.fetches == (2 if at == "refused" else 1)
    await until(lambda: all("Wire" in repr(task) for task in asyncio.all_tasks() - before), what="no task is left")


# U3


def multipart(file: Any) -> dict[str, Any]:
    return {"data": {"a": "b"}, "files": {"f": ("name.txt", file)}}


class Unseekable(io.RawIOBase):
    """A stand-in for a pipe or a socket."""

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(buffer)


class ReaderAlone:
    """A file-like object with nothing but `read`."""

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._rest.read(size)


def generate(content: bytes) -> Any:
    for start in range(0, len(content), 3):
        yield content[start : start + 3]


async def agenerate(content: bytes) -> Any:
    for chunk in generate(content):
        yield chunk


BODY = b"0123456789" * 20_000

REPLAYED: dict[str, tuple[Callable[[], dict[str, Any]], bytes]] = {
    "none": (dict, b""),
    "empty": (lambda: {"content": b""}, b""),
    "bytes": (lambda: {"content": BODY}, BODY),
    "text": (lambda: {"content": "häuser"}, "häuser".encode()),
    "json": (lambda: {"json": {"a": 1}}, b'{"a":1}'),
    "form": (lambda: {"data": {"a": "b c"}}, b"a=b+c"),
    "multipart bytes": (lambda: multipart(BODY), BODY),
    "multipart text": (lambda: {"files": {"f": (None, "0123456789")}}, b"0123456789"),
    "multipart seekable": (lambda: multipart(io.BytesIO(BODY)), BODY),
}
ONCE = {
    "multipart unseekable": lambda: multipart(Unseekable(BODY)),
    "multipart reader": lambda: multipart(ReaderAlone(BODY)),
    "file": lambda: {"content": io.BytesIO(BODY)},
    "generator": lambda: {"content": generate(BODY[:300])},
}


@pytest.mark.parametrize("body", REPLAYED)
async def test_bodies_that_are_replayed(call, resource, issuer, body):
    """U3: a body that can be sent twice is, in full, with the same length."""
    make, content = REPLAYED[body]
    await call.get(resource.url())
    issuer.revoke()
    answer = await call("POST", resource.url(), **make())
    assert answer.status_code == 200
    _, first, second = resource.asked
    assert first.body == second.body
    assert content in first.body
    assert first.headers.get("content-length") == second.headers.get("content-length")
    assert issuer.fetches == 2


@pytest.mark.parametrize("body", ONCE)
async def test_bodies_that_are_not(lib, kind, call, resource, issuer, tokens, body):
    """U3: a body that cannot be sent twice is not: the 401 is the caller's at once, and the token is refreshed."""
    options = ONCE[body]()
    if kind == "async" and body in {"generator", "file"}:
        # An async client streams async bodies alone.
        options = {"content": agenerate(b"".join(options["content"])[:3000])}
    await call.get(resource.url())
    issuer.revoke()
    issuer.gate.clear()
    answer = await call("POST", resource.url(), **options)
    # It is here while the refresh, which it began, stands at its gate.
    assert (answer.status_code, answer.content) == (401, b"who?")
    await until(lambda: issuer.fetches == 2)
    assert tokens.snapshot().refreshed == 1
    issuer.gate.set()
    assert len(resource.asked) == 2
    assert resource.asked[1].body
    assert (await call.get(resource.url())).status_code == 200
    assert issuer.fetches == 2


async def test_a_file_that_is_closed_meanwhile(lib, tokens, issuer):
    """U3: a multipart file that is closed by the time of the 401 is not sent again, and nothing breaks."""
    file = io.BytesIO(b"content")
    request = lib.http.Request("POST", "https://a.example/", files={"f": file})
    flow = lib.BearerAuth(tokens.handle()).async_auth_flow(request)
    await anext(flow)
    file.close()
    with pytest.raises(StopAsyncIteration):
        await flow.asend(lib.http.Response(401, request=request))


async def test_a_streamed_refusal(lib, resource, issuer, tokens):
    """U1: a 401 is healed, and passed through readable, where the caller streams the answer."""
    async with lib.http.AsyncClient(auth=lib.BearerAuth(tokens.handle())) as client:
        await client.get(resource.url())
        issuer.revoke()
        async with client.stream("GET", resource.url()) as answer:
            assert answer.status_code == 200
        issuer.refuses_all = True
        async with client.stream("GET", resource.url()) as answer:
            assert answer.status_code == 401
            assert b"".join([chunk async for chunk in answer.aiter_bytes()]) == b"who?"


# U4


async def test_bound_to_the_first_origin(lib, kind, tokens, resource, issuer):
    """U4: an auth without origins is bound to the first it is used with; others are refused before anything is sent."""
    async with Wire(issuer.resource) as other, Caller(lib, kind, lib.BearerAuth(tokens.handle())) as call:
        assert (await call.get(resource.url("/a"))).status_code == 200
        assert (await call.get(resource.url("/b"))).status_code == 200
        for _ in range(2):
            with pytest.raises(OriginRefused, match=r"origins=\[") as caught:
                await call.get(other.url())
        assert str(resource.port) in str(caught.value)
        assert str(other.port) in str(caught.value)
        assert "token-1" not in str(caught.value)
        assert other.asked == []


async def test_listed_origins(lib, kind, tokens, issuer):
    """U4: with a list, each origin on it gets the token and no other does, not even the first one used."""
    async with Wire(issuer.resource) as one, Wire(issuer.resource) as two, Wire(issuer.resource) as three:
        auth = lib.BearerAuth(tokens.handle(), origins=[one.url(""), two.url("/")])
        async with Caller(lib, kind, auth) as call:
            with pytest.raises(OriginRefused):
                await call.get(three.url())
            assert (await call.get(one.url())).status_code == 200
            assert (await call.get(two.url())).status_code == 200
        assert three.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/",
        "https://api.example.com:444/",
        "https://api.example.com:80/",
        "https://example.com/",
        "https://api.example.com.evil.test/",
        "https://api.example.com@evil.test/",
        "https://api.example.com./",
        "wss://api.example.com/",
        "https://[::1]/",
        "ftp://api.example.com/",
        "/relative",
        "https:///nowhere",
    ],
)
@pytest.mark.parametrize("listed", [True, False])
async def test_other_origins(lib, tokens, issuer, url, listed):
    """U4: another scheme, host or port is another origin, and nothing is sent there."""
    sent: list[str] = []

    def handler(request: Any) -> Any:
        sent.append(str(request.url))
        return lib.http.Response(200)

    auth = lib.BearerAuth(tokens.handle(), origins=["https://api.example.com"] if listed else [])
    async with lib.http.AsyncClient(auth=auth, transport=lib.http.MockTransport(handler)) as client:
        await client.get("https://api.example.com/")
        with pytest.raises((OriginRefused, lib.http.InvalidURL)):
            await client.get(url)
    assert sent == ["https://api.example.com/"]


@pytest.mark.parametrize("url", ["/relative", "ftp://files.example.com/", "mailto:x@example.com"])
async def test_a_url_that_is_none_binds_nothing(lib, tokens, url):
    """U4: a first request without host or with a foreign scheme is refused clearly, and does not bind the auth."""
    transport = lib.http.MockTransport(lambda request: lib.http.Response(200))
    auth = lib.BearerAuth(tokens.handle())
    async with lib.http.AsyncClient(auth=auth, transport=transport) as client:
        with pytest.raises(OriginRefused, match="absolute http"):
            await client.get(url)
        assert (await client.get("https://api.example.com/")).status_code == 200


SAME = [
    ("https://api.example.com", "https://api.example.com:443/x"),
    ("https://api.example.com:443", "https://api.example.com/x"),
    ("HTTPS://API.Example.com/", "https://api.example.COM/x"),
    ("http://localhost:80", "http://localhost/x"),
    ("https://münchen.example", "https://münchen.example/x"),
    ("https://MÜNCHEN.example", "https://xn--mnchen-3ya.example/x"),
    ("https://xn--mnchen-3ya.example", "https://münchen.example/x"),
    ("https://XN--MNCHEN-3YA.example:443", "https://MÜNCHEN.example/x"),
    ("https://straße.example", "https://straße.example/x"),
    ("http://[::1]:8080", "http://[::1]:8080/x"),
    ("https://[2001:DB8::1]", "https://[2001:db8:0:0:0:0:0:1]/x"),
    ("https://[2001:db8::1]", "https://[2001:DB8::1]/x"),
    ("https://127.0.0.1:8443", "https://127.0.0.1:8443/x"),
    ("wss://api.example.com", "wss://api.example.com:443/x"),
]


@pytest.mark.parametrize(("origin", "url"), SAME)
@pytest.mark.parametrize("first_used", [False, True])
async def test_one_origin_written_in_two_ways(lib, tokens, origin, url, first_used):
    """U4: case, default ports, IPv6 and international names do not make another origin."""
    sent: list[Any] = []

    def handler(request: Any) -> Any:
        sent.append(request.headers["authorization"])
        return lib.http.Response(401 if len(sent) == 2 - (not first_used) else 200)

    auth = lib.BearerAuth(tokens.handle(), origins=[] if first_used else [origin])
    async with lib.http.AsyncClient(auth=auth, transport=lib.http.MockTransport(handler)) as client:
        if first_used:
            await client.get(origin)
        assert (await client.get(url)).status_code == 200
    assert sent[-2:] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "api.example.com",
        "https://",
        "https://api.example.com/v1",
        "https://api.example.com?x",
        "https://api.example.com#x",
        "https://user:pw@api.example.com",
        "https://*.example.com",
        "*",
        "ftp://api.example.com",
        "https://api.example.com:99999",
        "https://api.example.com:0",
        "https://api.example.com:x",
        "https://api.example.com:",
        "https://[::1",
        "https://[::g]",
        "https://[fe80::1%eth0]",
        "https://a b",
        " https://api.example.com",
        "https://api.example.com\n",
        "https://\u2603\u0301..example",
        None,
        7,
        b"https://api.example.com",
    ],
)
def test_bad_origins(lib, origin):
    """
    U4: a text that is not an origin is rejected at construction. The message names `origins` and shows an example.
    """
    manager = TokenManager(Issuer())
    with pytest.raises(ValueError, match="origins must be written as in"):
        lib.BearerAuth(manager.handle(), origins=[origin])


def test_one_origin_as_a_string(lib):
    """U4: a single string is one origin, not a list of letters."""
    manager = TokenManager(Issuer())
    auth = lib.BearerAuth(manager.handle(), origins="https://b.example:8443")
    assert repr(auth) == "BearerAuth(bound to https://b.example:8443)"
    assert "first origin" in repr(lib.BearerAuth(manager.handle()))
    assert "https://[::1]:1" in repr(lib.BearerAuth(manager.handle(), origins=["https://[::1]:1"]))


async def test_redirect_to_another_origin(call, resource, issuer):
    """U4: a redirect elsewhere goes on without the token, and a 401 from there refreshes nothing."""
    async with Wire(always(http(401, b"stranger"))) as stranger:
        ordinary = resource.handler

        async def moving(asked: Asked, writer: asyncio.StreamWriter) -> Any:
            if asked.target == "/away":
                return http(307, headers={"Location": stranger.url("/there")})
            return await ordinary(asked, writer)

        resource.handler = moving
        for _ in range(3):
            answer = await call.get(resource.url("/away"), follow_redirects=True)
            assert (answer.status_code, answer.content) == (401, b"stranger")
    assert len(stranger.asked) == 3
    assert all("authorization" not in asked.headers for asked in stranger.asked)
    assert issuer.fetches == 1


@pytest.mark.parametrize("listed", [False, True])
async def test_redirect_from_http_to_https(lib, tokens, issuer, listed):
    """U4: https on the same host is another origin, though clients carry Authorization there: unnamed it gets none."""
    seen: list[tuple[str, bool]] = []

    def handler(request: Any) -> Any:
        seen.append((str(request.url), "authorization" in request.headers))
        if request.url.scheme == "http" and request.url.path == "/up":
            return lib.http.Response(301, headers={"Location": "https://api.example.com/"})
        return lib.http.Response(200 if request.headers.get("authorization") == "Bearer token-1" else 401)

    origins = ["http://api.example.com", *(["https://api.example.com"] if listed else [])]
    auth = lib.BearerAuth(tokens.handle(), origins=origins, allow_http=True)
    transport = lib.http.MockTransport(handler)
    async with lib.http.AsyncClient(auth=auth, transport=transport, follow_redirects=True) as client:
        assert (await client.get("http://api.example.com/here")).status_code == 200
        assert (await client.get("http://api.example.com/up")).status_code == (200 if listed else 401)
    away = [sent for url, sent in seen if url.startswith("https:")]
    assert away == ([False, True] if listed else [False])
    assert issuer.fetches == 1


async def test_redirect_to_a_stranger_and_back(call, resource, issuer):
    """U4: a 401 that a stranger brought about by sending us back without the token refreshes nothing."""

    async def back(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return http(307, headers={"Location": resource.url("/back")})

    async with Wire(back) as stranger:
        ordinary = resource.handler

        async def moving(asked: Asked, writer: asyncio.StreamWriter) -> Any:
            if asked.target == "/away":
                return http(307, headers={"Location": stranger.url("/there")})
            return await ordinary(asked, writer)

        resource.handler = moving
        answer = await call.get(resource.url("/away"), follow_redirects=True)
    assert answer.status_code == 401
    assert "authorization" not in resource.asked[-1].headers
    assert issuer.fetches == 1


async def test_redirect_to_another_origin_of_the_list(lib, kind, tokens, resource, issuer):
    """U4: a redirect to another origin that may see the token gets it as well, and no token is blamed for the 401."""
    async with Wire(issuer.resource) as other:
        resource.handler = always(http(307, headers={"Location": other.url("/there")}))
        auth = lib.BearerAuth(tokens.handle(), origins=[resource.url(""), other.url("")])
        async with Caller(lib, kind, auth, follow_redirects=True) as call:
            answer = await call("POST", resource.url("/here"), content=b"a book")
            assert (answer.status_code, answer.content) == (200, b"a book")
            assert (issuer.fetches, len(resource.asked), len(other.asked)) == (1, 1, 2)
            issuer.revoke()
            assert (await call.get(resource.url("/here"))).status_code == 200
    assert issuer.fetches == 2


@pytest.mark.parametrize("status", [302, 307])
async def test_redirect_within_the_origin(call, resource, issuer, status):
    """U4: a redirect within the origin keeps the token, and a 401 after it is healed."""
    ordinary = resource.handler

    async def moving(asked: Asked, writer: asyncio.StreamWriter) -> Any:
        return http(status, headers={"Location": "/new"}) if asked.target == "/old" else await ordinary(asked, writer)

    resource.handler = moving
    assert (await call.get(resource.url("/old"), follow_redirects=True)).status_code == 200
    issuer.revoke()
    assert (await call.get(resource.url("/old"), follow_redirects=True)).status_code == 200
    assert issuer.fetches == 2


async def test_a_post_that_was_done_is_not_done_again(call, resource, issuer):
    """U3: if a POST is answered "see other" and the next request is refused, the POST is not repeated."""
    done: list[bytes] = []
    ordinary = resource.handler

    async def posting(asked: Asked, writer: asyncio.StreamWriter) -> Any:
        if asked.method == "POST":
            done.append(asked.body)
            issuer.revoke()
            return http(303, headers={"Location": "/result"})
        return await ordinary(asked, writer)

    resource.handler = posting
    answer = await call("POST", resource.url("/order"), content=b"a book", follow_redirects=True)
    assert answer.status_code == 200
    assert done == [b"a book"]
    assert issuer.fetches == 2


async def test_a_post_that_is_sent_on_is_repeated(call, resource, issuer):
    """U3: where a POST was sent on with 307 and refused there, all of it is repeated, with its body."""
    ordinary = resource.handler

    async def posting(asked: Asked, writer: asyncio.StreamWriter) -> Any:
        return http(307, headers={"Location": "/b"}) if asked.target == "/a" else await ordinary(asked, writer)

    resource.handler = posting
    await call.get(resource.url())
    issuer.revoke()
    answer = await call("POST", resource.url("/a"), content=b"a book", follow_redirects=True)
    assert (answer.status_code, answer.content) == (200, b"a book")


def test_two_threads_bind_one_origin(lib):
    """U4: two first uses from two threads bind one origin; the other one is refused."""
    with run_in_background(TokenManager(Issuer())) as manager:
        manager.get_sync()
        for _ in range(50):
            auth, barrier = lib.BearerAuth(manager.handle()), threading.Barrier(4)
            outcomes: list[str] = []

            def use(number: int, auth: Any = auth, barrier: Any = barrier, outcomes: Any = outcomes) -> None:
                flow = auth.sync_auth_flow(lib.http.Request("GET", f"https://{number}.example/"))
                barrier.wait()
                try:
                    next(flow)
                except OriginRefused:
                    outcomes.append("refused")
                else:
                    outcomes.append("sent")
                    flow.close()

            threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(outcomes) == ["refused"] * 3 + ["sent"]


# U5


def test_on_another_loop_and_thread(lib):
    """U5: an async client on another loop, in another thread, gets tokens and heals through the owner loop."""
    issuer = Issuer()

    async def elsewhere(auth: Any) -> list[int]:
        async with Wire(issuer.resource) as wire, lib.http.AsyncClient(auth=auth) as client:
            await client.get(wire.url())
            issuer.revoke()
            answers = await asyncio.gather(*(client.get(wire.url()) for _ in range(50)))
            return [answer.status_code for answer in answers]

    with run_in_background(TokenManager(issuer)) as manager:
        assert asyncio.run(elsewhere(lib.BearerAuth(manager.handle()))) == [200] * 50
    assert issuer.fetches == 2


async def test_a_sync_client_on_the_manager_s_own_loop(lib, tokens, issuer):
    """U5: where it would have to block the manager's own loop it says so; with a valid token it works."""
    transport = lib.http.MockTransport(lambda request: lib.http.Response(200 if request.url.path == "/" else 401))
    with lib.http.Client(auth=lib.BearerAuth(tokens.handle()), transport=transport) as client:
        with pytest.raises(RuntimeError, match="await the async form"):
            client.get("https://a.example/")
        await tokens.get()
        assert client.get("https://a.example/").status_code == 200
        with pytest.raises(RuntimeError, match="await the async form"):
            client.get("https://a.example/refused")


async def test_one_auth_for_many_clients(lib, tokens, resource, issuer):
    """U1: one auth serves many clients at once, async and sync, one after another."""
    auth = lib.BearerAuth(tokens.handle())
    for fetches in (1, 2):
        callers = [Caller(lib, "async" if number % 2 else "sync", auth) for number in range(6)]
        answers = await asyncio.gather(*(caller.get(resource.url()) for caller in callers))
        assert {answer.status_code for answer in answers} == {200}
        for caller in callers:
            await caller.__aexit__()
        assert issuer.fetches == fetches
        issuer.revoke()


@pytest.mark.parametrize("client", [httpx.Client, httpx.AsyncClient])
def test_the_other_library_refuses_it(client):
    """U1: httpx refuses a class that is made for httpx2 alone with its own TypeError, at once."""
    with pytest.raises(TypeError, match="auth"):
        client(auth=for_httpx2.BearerAuth(TokenManager(Issuer()).handle()))


async def test_manager_auth(tokens, resource):
    """U1: manager.auth() and handle.auth() are httpx.Auths, bound as told."""
    auth = tokens.auth(origins=[resource.url("")])
    assert isinstance(auth, httpx.Auth)
    async with httpx.AsyncClient(auth=auth) as client:
        assert (await client.get(resource.url())).status_code == 200
    with pytest.raises(ValueError, match="origins"):
        tokens.handle().auth(origins=["nonsense"])


def test_threads_never_mix_tokens(lib):
    """U1: requests of many threads while tokens change carry the very token they report on a 401."""
    reported: list[tuple[str, str]] = []

    class Rotating:
        def __init__(self) -> None:
            self.number = 0

        def get_sync(self) -> Any:
            self.number += 1
            return SimpleNamespace(authorization=f"Bearer {self.number}", number=self.number, extra={})

        def refused_sync(self, token: Any, *, wait: bool = True) -> Any:
            reported.append((str(token.number), seen.pop(threading.get_ident())))

    seen: dict[int, str] = {}
    auth = lib.BearerAuth(Rotating(), origins=["https://a.example"])

    def work() -> None:
        for _ in range(500):
            request = lib.http.Request("GET", "https://a.example/")
            flow = auth.sync_auth_flow(request)
            next(flow)
            seen[threading.get_ident()] = request.headers["authorization"].partition(" ")[2]
            with pytest.raises(StopIteration):
                flow.send(lib.http.Response(401, request=request, content=b""))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reported) == 2000
    assert all(told == sent for told, sent in reported)
