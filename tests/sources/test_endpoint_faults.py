"""The faults between the library and a token endpoint, byte by byte, and the classification of each fault."""

from __future__ import annotations

import asyncio
import gzip
import socket
import traceback
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest
from tests.sources.wire import Asked, Wire, a_request, always, divided, granted, http, reset

from evertoken import GrantRejected, TokenManager, TokenUnavailable, TransientRefreshError, events
from evertoken.sources import ClientCredentials, OAuthClient, RefreshToken
from evertoken.testing import ManualClock

SECRETS = ("s3cr3t-of-the-client", "rt-0-the-first-one")


def refresh_token(url: str, **options: Any) -> RefreshToken:
    client, grant = divided({"client_secret": SECRETS[0], "refresh_token": SECRETS[1], **options})
    return RefreshToken(OAuthClient(token_endpoint=url, client_id="app", **client), **grant)


@pytest.fixture(params=["owned", "httpx", "httpx2"])
async def options(request) -> AsyncIterator[dict[str, Any]]:
    """The client to use: one of the source's own, and one that is given, of either library."""
    if request.param == "owned":
        yield {}
        return
    async with {"httpx": httpx, "httpx2": httpx2}[request.param].AsyncClient() as client:
        yield {"client": client}


async def failure(source: Any, timeout: float = 5.0) -> TransientRefreshError | GrantRejected:
    """Return what a fetch raises, once it is seen to show no secret."""
    request = a_request(timeout=timeout)
    try:
        answer = await source.fetch(request)
    except (TransientRefreshError, GrantRejected) as error:
        raised = error
    else:
        raise AssertionError(answer)
    shown = "".join(traceback.format_exception(raised)) + repr(raised) + repr(vars(raised))
    assert not any(secret in shown for secret in SECRETS)
    assert raised.__cause__ is None
    assert raised.__context__ is None
    return raised


async def transient(source: Any, *, ambiguous: bool, said: str = "", timeout: float = 5.0) -> TransientRefreshError:
    error = await failure(source, timeout)
    assert isinstance(error, TransientRefreshError), error
    assert error.ambiguous is ambiguous, error
    assert said.lower() in str(error).lower()
    return error


# Before anything is sent


async def test_refused_connection(options):
    """F4: a refused connection is transient, surely not sent, and names the provider."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/token"
        request = a_request()
        error = await transient(refresh_token(url, **options), ambiguous=False, said="ConnectError")
        assert url.removesuffix("/token") in str(error)
        assert not request.sent


async def test_unknown_host(options):
    """F4: a host that does not resolve is transient, surely not sent, and named."""
    await transient(refresh_token("https://as.invalid/token", **options), ambiguous=False, said="https://as.invalid")


async def test_tls_with_a_plain_server(options):
    """F4: a failed TLS handshake is transient and surely not sent; the request's bytes never leave."""
    seen = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.read(1000))
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await transient(refresh_token(f"https://127.0.0.1:{port}/token", **options), ambiguous=False, said="ssl")
    assert b"grant_type" not in seen


async def test_connection_that_is_never_accepted_in_time(options):
    """F7, K4: a fetch cut off by its deadline while it connects is not ambiguous."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            source = refresh_token(f"http://127.0.0.1:{address[1]}/token", **options)
            told: list[Any] = []
            async with TokenManager(source, fetch_timeout=0.4, observers=[told.append]) as manager:
                with pytest.raises(TokenUnavailable):
                    await manager.get()
        finally:
            for filler in fillers:
                filler.close()
    [failed] = [event for event in told if isinstance(event, events.RefreshFailed)]
    assert failed.error.ambiguous is False


async def test_reset_in_the_handshake(options):
    """F4, K4: a connection that is reset before TLS stands is surely not used to send anything."""

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        reset(writer)

    async with await asyncio.start_server(slam, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await transient(refresh_token(f"https://127.0.0.1:{port}/token", **options), ambiguous=False)


async def test_no_proxy_sees_what_goes_in_the_clear(monkeypatch):
    """S2: a proxy of the environment is used for https alone, because it would see all of a request to loopback."""
    async with Wire(always(granted())) as proxy, Wire(always(granted())) as wire:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        await refresh_token(wire.url()).fetch(a_request())
        assert (len(wire.asked), proxy.asked) == (1, [])
        await failure(refresh_token("https://as.example.com/token"))
        assert {asked.method for asked in proxy.asked} == {"CONNECT"}


# After it was sent, or perhaps


async def test_reset_before_the_request_is_read(options):
    """K4: a connection reset at once leaves open whether the request arrived."""

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    async with await asyncio.start_server(slam, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(refresh_token(f"http://127.0.0.1:{port}/token", **options))
    assert isinstance(error, TransientRefreshError)


async def test_reset_after_the_request_is_read(options):
    """K4: a connection reset once the request was read is ambiguous."""

    async def swallow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    async with Wire(swallow) as wire:
        await transient(refresh_token(wire.url(), **options), ambiguous=True)
        assert len(wire.asked) == 1


async def test_close_after_the_request_is_read(options):
    """K4: a connection closed without an answer is ambiguous, and the request is not sent again by itself."""

    async def swallow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with Wire(swallow) as wire:
        await transient(refresh_token(wire.url(), **options), ambiguous=True, said="disconnected")
        assert len(wire.asked) == 1


CUTS = {
    "header": b"HTTP/1.1 200 OK\r\ncontent-le",
    "length": b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"access_token": "at"',
    "chunk": b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{"access_token"',
    "chunks": b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n16\r\n{"access_token": "at1"}\r\n',
    "garbage": b"\x16\x03\x01 nonsense\r\n\r\n",
}


@pytest.mark.parametrize("cut", CUTS)
async def test_answer_cut_off(options, cut):
    """K4: an answer that is cut off or not HTTP is ambiguous, for any part of it that came."""

    async def half(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(CUTS[cut])
        await writer.drain()
        writer.close()

    async with Wire(half) as wire:
        await transient(refresh_token(wire.url(), **options), ambiguous=True)


async def test_cut_off_error_keeps_its_status(options):
    """F3: where the body of an error is cut off, its status and Retry-After still count."""

    async def half(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Down\r\nretry-after: 7\r\ncontent-length: 500\r\n\r\n<html>")
        await writer.drain()
        writer.close()

    async with Wire(half) as wire:
        error = await transient(refresh_token(wire.url(), **options), ambiguous=False, said="503")
        assert error.retry_after == 7.0


@pytest.mark.parametrize("how", ["silence", "trickle", "trickled head"])
async def test_silence_and_trickling(options, how):
    """F7, K4: a server that is silent or trickles is cut off at the fetch's deadline, and that is ambiguous."""
    begun, gone, clock = asyncio.Event(), asyncio.Event(), ManualClock()

    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        begun.set()
        try:
            if how == "trickle":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while how != "silence":
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
            await asyncio.sleep(30)
        finally:
            gone.set()

    told: list[Any] = []
    async with Wire(slow) as wire:
        source = refresh_token(wire.url(), **options)
        async with TokenManager(source, fetch_timeout=9.0, observers=[told.append], clock=clock) as manager:
            waiting = asyncio.create_task(manager.get())
            await begun.wait()
            await clock.advance(8.9)
            assert not waiting.done()
            await clock.advance(0.1)
            with pytest.raises(TokenUnavailable, match="no answer within 9 s") as caught:
                await waiting
        if how != "silence":
            await asyncio.wait_for(gone.wait(), 20)
    assert not any(secret in "".join(traceback.format_exception(caught.value)) for secret in SECRETS)
    [failed] = [event for event in told if isinstance(event, events.RefreshFailed)]
    assert failed.error.ambiguous is True


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_silence_of_a_transport_that_tells_nothing(library):
    """K4: where a given client's transport does not say whether it sent, a fetch cut off counts as sent."""
    begun, clock = asyncio.Event(), ManualClock()

    async def hang(request: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    told: list[Any] = []
    async with library.AsyncClient(transport=library.MockTransport(hang)) as client:
        source = refresh_token("https://as.example.com/token", client=client)
        async with TokenManager(source, observers=[told.append], clock=clock) as manager:
            waiting = asyncio.create_task(manager.get())
            await begun.wait()
            await clock.advance(30.0)
            with pytest.raises(TokenUnavailable):
                await waiting
    [failed] = [event for event in told if isinstance(event, events.RefreshFailed)]
    assert failed.error.ambiguous is True


# Too much


@pytest.mark.parametrize("framing", ["length", "chunked", "endless"])
async def test_large_body(options, framing):
    """S2: at most a bounded part of an answer is read, for any length that it claims."""
    written = 0

    async def large(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        block = b" " * 65536
        head = {"length": b"content-length: 20000000", "chunked": b"transfer-encoding: chunked", "endless": b"a: b"}
        writer.write(b"HTTP/1.1 200 OK\r\n" + head[framing] + b"\r\n\r\n")
        while written < 20_000_000:
            writer.write(b"10000\r\n" + block + b"\r\n" if framing == "chunked" else block)
            await writer.drain()
            written += len(block)

    async with Wire(large) as wire:
        await transient(refresh_token(wire.url(), **options), ambiguous=True, said="more than 1048576 bytes")
    assert written < 16_000_000


async def test_large_body_of_an_error(options):
    """F3, S2: a large error page is not read to its end, and its status and Retry-After still count."""
    async with Wire(always(http(503, b"x" * 2_000_000, {"Retry-After": "9"}))) as wire:
        error = await transient(refresh_token(wire.url(), **options), ambiguous=False, said="503")
        assert error.retry_after == 9.0


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_bomb(options, encoding):
    """S2: the bound holds after decompression: a bomb is not unpacked."""
    plain = b" " * 200_000_000
    packed = gzip.compress(plain, 9) if encoding == "gzip" else zlib.compress(plain, 9)
    assert len(packed) < 1_000_000
    async with Wire(always(http(200, packed, {"content-encoding": encoding}))) as wire:
        await transient(refresh_token(wire.url(), **options), ambiguous=True, said="unpacked")


async def test_honest_compression(options):
    """S2: if a server compresses without being asked, the answer is still understood."""
    async with Wire(always(http(200, gzip.compress(b'{"access_token": "a"}'), {"content-encoding": "gzip"}))) as wire:
        assert (await refresh_token(wire.url(), **options).fetch(a_request())).fields == {"access_token": "a"}
        assert wire.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", b'{"access_token": "a"}'), ("br", b"x"), ("gzip", gzip.compress(b"{}")[:-12]), ("nonsense", b"{}")],
    ids=["plain", "unknown", "cut", "nonsense"],
)
async def test_wrong_encoding(options, encoding, body):
    """F4: an answer in an encoding it is not in, or that is not known, is unreadable and so ambiguous."""
    async with Wire(always(http(200, body, {"content-encoding": encoding}))) as wire:
        await transient(refresh_token(wire.url(), **options), ambiguous=True)


# Answers that are not HTTP


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_redirect(options, status, elsewhere):
    """S2: no redirect is followed, not even by a given client that follows them; the target is never asked."""
    if "client" in options:
        options["client"].follow_redirects = True
    async with Wire(always(granted())) as other:

        async def move(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
            return http(status, headers={"Location": other.url() if elsewhere else "/elsewhere"})

        async with Wire(move) as wire:
            await transient(refresh_token(wire.url(), **options), ambiguous=False, said="redirect")
            assert len(wire.asked) == 1
        assert other.asked == []


UNREADABLE = {
    "html": http(200, b"<html>hello</html>", {"content-type": "text/html"}),
    "empty": http(200, b""),
    "list": http(200, b'[{"access_token": "a"}]', {"content-type": "application/json"}),
    "number": http(200, b"17"),
    "null": http(200, b"null"),
    "deep": http(200, b"[" * 100_000),
    "204": http(204),
    "202": http(202, b"accepted"),
    "odd form": http(200, b"\xff\xfe=\xff", {"content-type": "application/x-www-form-urlencoded"}),
    "many fields": http(200, b"&".join([b"a=b"] * 1000), {"content-type": "application/x-www-form-urlencoded"}),
}


@pytest.mark.parametrize("answer", UNREADABLE)
async def test_unreadable_answer(options, answer):
    """F4: a success that cannot be read is transient, and ambiguous: the server may have spent the refresh token."""
    async with Wire(always(UNREADABLE[answer])) as wire:
        await transient(refresh_token(wire.url(), **options), ambiguous=True, said="not a json object")


async def test_created_is_a_success(options):
    """T1: a token answered with another 2xx status is a token."""
    async with Wire(always(http(201, {"access_token": "a"}))) as wire:
        assert (await refresh_token(wire.url(), **options).fetch(a_request())).fields == {"access_token": "a"}


async def test_form_encoded_answer(options):
    """F4: a form-encoded answer, as GitHub gives, is read; so is a form-encoded error with status 200."""
    form = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    answers = [
        b"access_token=gho_1&scope=repo%2Cgist&token_type=bearer",
        b"error=bad_refresh_token&error_description=x",
    ]

    async def github(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return http(200, answers.pop(0), form)

    async with Wire(github) as wire:
        source = refresh_token(wire.url(), **options)
        answer = await source.fetch(a_request())
        assert answer.fields == {"access_token": "gho_1", "scope": "repo,gist", "token_type": "bearer"}
        async with TokenManager(source) as manager:
            with pytest.raises(TokenUnavailable):
                await manager.get()


async def test_cookies_are_not_kept(options):
    """S2: cookies that the endpoint sets are not sent back, nor left in a given client's jar."""
    setting = http(body={"access_token": "a"}, headers={"Set-Cookie": "sid=1; Path=/"})
    async with Wire(always(setting)) as wire:
        source = refresh_token(wire.url(), **options)
        await source.fetch(a_request())
        await source.fetch(a_request())
        assert [asked.headers.get("cookie") for asked in wire.asked] == [None, None]
    if "client" in options:
        assert len(options["client"].cookies.jar) == 0


# Errors that say so


RETRIED = [
    (429, {"Retry-After": "30"}, b"", 30.0, False),
    (429, {"Retry-After": "0"}, b"{}", 0.0, False),
    (429, {"Retry-After": "-5"}, b"", 0.0, False),
    (429, {"Retry-After": "soon"}, b"", None, False),
    (429, {}, b"slow down", None, False),
    (503, {"Retry-After": "1.5"}, b"", 1.5, False),
    (
        503,
        {"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"},
        b"<html>",
        30.0,
        False,
    ),
    (
        503,
        {"Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"},
        b"",
        0.0,
        False,
    ),
    (503, {"Retry-After": "Wed, 99 Oct 2026 07:27:00 GMT", "Date": "yesterday"}, b"", None, False),
    (500, {}, b"", None, True),
    (502, {}, b"<html>bad gateway</html>", None, True),
    (504, {"Retry-After": "3"}, b"", 3.0, True),
    (503, {}, b'{"error": "temporarily_unavailable"}', None, False),
    (500, {}, b'{"error": "invalid_grant"}', None, True),
    (429, {}, b'{"error": "invalid_client"}', None, False),
    (404, {}, b"<html>not found</html>", None, False),
    (400, {}, b"<html>nginx</html>", None, False),
    (400, {}, b"", None, False),
    (400, {}, b'{"error": 7}', None, False),
    (400, {}, b'{"error": "slow_down"}', None, False),
    (403, {}, b'{"error": "rate_limited"}', None, False),
    (401, {}, b"", None, False),
    (401, {"WWW-Authenticate": "Basic"}, b"no", None, False),
]


@pytest.mark.parametrize(("status", "headers", "body", "retry_after", "ambiguous"), RETRIED)
async def test_transient_errors(options, status, headers, body, retry_after, ambiguous):
    """F4: throttling, server errors and unknown codes pass; Retry-After is read as seconds and as a date."""
    async with Wire(always(http(status, body, headers))) as wire:
        error = await transient(refresh_token(wire.url(), **options), ambiguous=ambiguous, said=str(status))
        assert error.retry_after == (None if retry_after is None else pytest.approx(retry_after))


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(
    "code",
    [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "access_denied",
    ],
)
async def test_rejections(status, code):
    """F4: the codes of RFC 6749 section 5.2 are rejections, and carry code, description and URI."""
    body = {"error": code, "error_description": "because", "error_uri": "https://as.example.com/e"}
    async with Wire(always(http(status, body))) as wire:
        error = await failure(refresh_token(wire.url()))
    assert isinstance(error, GrantRejected)
    assert (error.error, error.error_description, error.error_uri) == (code, "because", "https://as.example.com/e")


async def test_errors_that_echo_secrets(options):
    """S1: what the server echoes of our secrets is taken out of what we say."""
    said = f"refresh token {SECRETS[1]} of client with secret {SECRETS[0]} is unknown"
    answers = [
        http(400, {"error": "invalid_grant", "error_description": said, "error_uri": f"https://e/?t={SECRETS[1]}"}),
        http(503, {"error": "busy", "error_description": said}),
    ]

    async def echo(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return answers.pop(0)

    async with Wire(echo) as wire:
        source = refresh_token(wire.url(), **options)
        rejected, passing = await failure(source), await failure(source)
    assert "unknown" in str(rejected)
    assert "503 busy" in str(passing)


async def test_a_secret_that_is_part_of_a_code():
    """F4: a secret that happens to be a word of the error code does not hide the rejection."""
    async with Wire(always(http(400, {"error": "invalid_grant"}))) as wire:
        source = ClientCredentials(OAuthClient(token_endpoint=wire.url(), client_id="app", client_secret="grant"))
        with pytest.raises(GrantRejected, match="invalid_grant"):
            await source.fetch(a_request())


async def test_connect_of_a_proxy_is_not_the_request():
    """K4: where the proxy refuses the tunnel nothing was sent to the endpoint."""
    async with Wire(always(http(502))) as proxy:
        for library in (httpx, httpx2):
            async with library.AsyncClient(proxy=proxy.url("")) as client:
                await transient(refresh_token("https://as.example.com/token", client=client), ambiguous=False)
        assert {asked.method for asked in proxy.asked} == {"CONNECT"}
