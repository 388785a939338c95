"""
The special features of single clients: WebSockets and foreign redirects with aiohttp, upgrades to https with requests.
"""

from __future__ import annotations

import asyncio
import io
from typing import Any

import aiohttp
import aiohttp.web
import pytest
import requests
from tests.clients.contract import Setting, setting
from tests.sources.wire import Wire, always, http

from evertoken import OriginRefused, TokenManager, run_in_background
from evertoken.clients import requests as for_requests
from evertoken.clients._origin import as_http, origin_in_text, origin_of
from evertoken.clients.aiohttp import BearerMiddleware

# Origins


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.example.com/a?b#c", ("https", "api.example.com", 443)),
        ("HTTPS://API.example.com:8443", ("https", "api.example.com", 8443)),
        ("wss://api.example.com/a", ("https", "api.example.com", 443)),
        ("ws://api.example.com", ("http", "api.example.com", 80)),
        ("ws://api.example.com:8080/a", ("http", "api.example.com", 8080)),
        ("https://user:pass@api.example.com/", ("https", "api.example.com", 443)),
        ("https://api.example.com@evil.test/", ("https", "evil.test", 443)),
        ("https://[2001:DB8::1]:8443/", ("https", "2001:db8::1", 8443)),
        ("https://münchen.example/", ("https", "xn--mnchen-3ya.example", 443)),
        ("/relative", ("", "", 0)),
        ("https:///nowhere", ("https", "", 443)),
        ("https://api.example.com:99999/", ("", "", 0)),
        ("https://[::1/", ("", "", 0)),
        ("mailto:a@b.example", ("mailto", "", 0)),
    ],
)
def test_origin_in_text(url, origin):
    """
    U4: the origin of a text is the origin of the request it makes. A text that is not a URL has no origin to bind.
    """
    assert origin_in_text(url) == origin


@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
def test_websockets_count_as_http(scheme):
    """U4: a WebSocket is opened by an HTTP request, to the same origin."""
    assert as_http(origin_of(f"{scheme}://a.example"))[0] == (
        "https" if scheme.endswith("s") and scheme != "ws" else "http"
    )


# aiohttp


async def echo(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
    if request.headers.get("Authorization") != "Bearer secret-2":
        raise aiohttp.web.HTTPUnauthorized
    socket = aiohttp.web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.parametrize("bound", ["ws", "http", None])
async def test_websocket_of_aiohttp(scheme, bound):
    """U1, U4: a refused handshake is healed, whether the origin is written with ws or with http."""
    app = aiohttp.web.Application()
    app.router.add_get("/", echo)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host = "{}:{}".format(*runner.addresses[0])
    async with setting() as at:
        await at.tokens.get()
        middleware = BearerMiddleware(at.tokens.handle(), origins=[] if bound is None else [f"{bound}://{host}"])
        async with aiohttp.ClientSession(middlewares=[middleware]) as session:
            async with session.ws_connect(f"{scheme}://{host}/") as socket:
                await socket.send_str("hello")
                assert (await socket.receive_str()) == "hello"
    await runner.cleanup()
    assert at.source.fetches == 2


@pytest.mark.parametrize("back", ["/lured", "/lured?a=b%20c", "/lur%C3%A9d#x", "/a/../lured", "//HOST/lured"])
async def test_where_a_stranger_leads_to(back):
    """U4: what a stranger's redirect leads to is not signed, however it is written; the next request is."""
    async with setting() as at:
        host = at.wire.url("").removeprefix("http://")
        target = f"http://{host}{back}" if not back.startswith("//") else back.replace("HOST", host)
        async with Wire(always(http(302, b"", {"Location": target}))) as stranger:
            at.api.leads_to = {"/away": stranger.url("/x")}
            middleware = BearerMiddleware(at.tokens.handle(), origins=[at.wire.url("")])
            async with aiohttp.ClientSession(middlewares=[middleware]) as session:
                statuses = []
                for path in ("/away", "/here"):
                    async with session.get(at.wire.url(path)) as response:
                        statuses.append(response.status)
        assert statuses == [401, 200]
        assert [asked.headers.get("authorization") for asked in stranger.asked] == [None]
        assert at.sent == ["Bearer secret-1", None, "Bearer secret-1"]


async def test_two_middlewares_share_a_session():
    """U4: each sends its token to its own origins alone."""
    async with setting() as one, setting() as two:
        await two.tokens.get()
        await two.tokens.refresh()
        middlewares = [BearerMiddleware(at.tokens.handle(), origins=[at.wire.url("")]) for at in (one, two)]
        async with aiohttp.ClientSession(middlewares=middlewares) as session:
            for at in (one, two):
                async with session.get(at.wire.url()) as response:
                    assert response.status == 200
        assert (one.sent, two.sent) == (["Bearer secret-1"], ["Bearer secret-2"])


async def test_healed_with_one_connection():
    """U1: the refused answer gives its connection back before another token is fetched by the same session."""
    async with setting() as at, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        await at.tokens.get()
        at.api.revoked.add("secret-1")
        # More than comes with the header fields.
        at.api.says = b"x" * 1_000_000
        fetch = at.source.fetch

        async def through_the_session(request: Any) -> Any:
            async with session.get(at.other.url()) as response:
                await response.read()
            return await fetch(request)

        at.source.fetch = through_the_session
        async with asyncio.timeout(10.0):
            middleware = BearerMiddleware(at.tokens.handle())
            async with session.get(at.wire.url(), middlewares=[middleware]) as response:
                assert response.status == 200


# requests

LIBRARIES = {"requests": (requests, for_requests.BearerAuth)}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("origins", "sent"),
    [
        (["http://api.example.com"], ["Bearer secret-1", None]),
        (["http://api.example.com", "https://api.example.com"], ["Bearer secret-1", "Bearer secret-1"]),
    ],
)
async def test_an_upgrade_to_https_is_another_origin(library, origins, sent):
    """U4: the libraries keep Authorization from http to https of one host; it goes there only if that is bound."""
    module, auth = LIBRARIES[library]
    seen: list[str | None] = []

    class Adapter(module.adapters.BaseAdapter):
        def send(self, request: Any, **_: Any) -> Any:
            seen.append(request.headers.get("Authorization"))
            response = module.Response()
            response.status_code, response.url, response.request = 200, request.url, request
            response.raw, response.connection = io.BytesIO(b""), self
            if request.url.startswith("http://"):
                response.status_code = 301
                response.headers["Location"] = "https://api.example.com/"
            return response

        def close(self) -> None:
            pass

    async with setting() as at:
        with module.Session() as session:
            session.trust_env = False
            session.auth = auth(at.tokens.handle(), origins=origins, allow_http=True)
            for scheme in ("http://", "https://"):
                session.mount(scheme, Adapter())
            await asyncio.to_thread(session.get, "http://api.example.com/")
    assert seen == sent


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_program_without_a_loop(library):
    """U5: a plain program with a manager in the background, whose calls in many threads are healed by one fetch."""
    module, auth = LIBRARIES[library]

    async def serve(at: Setting, ask: Any) -> list[int]:
        return list(await asyncio.gather(*(asyncio.to_thread(ask, at.wire.url()) for _ in range(8))))

    async def main() -> None:
        async with setting() as at:

            def program() -> None:
                with run_in_background(TokenManager(at.source)) as tokens, module.Session() as session:
                    session.trust_env = False
                    session.auth = auth(tokens.handle())
                    asked = asyncio.run_coroutine_threadsafe(serve(at, lambda url: session.get(url).status_code), loop)
                    assert asked.result(20.0) == [200] * 8
                    with pytest.raises(OriginRefused):
                        session.get(at.other.url())

            loop = asyncio.get_running_loop()
            await asyncio.to_thread(program)

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_what_becomes_of_the_refusal(library, stream):
    """U1: the answer to the second request is the caller's, with the refusal in its history."""
    module, auth = LIBRARIES[library]
    async with setting() as at:
        await at.tokens.get()
        at.api.revoked.add("secret-1")
        with module.Session() as session:
            session.trust_env = False
            session.auth = auth(at.tokens.handle())

            def ask() -> Any:
                response = session.get(at.wire.url(), stream=stream, timeout=5.0)
                return response, response.content

            response, content = await asyncio.to_thread(ask)
        assert (response.status_code, content) == (200, b"served")
        assert [one.status_code for one in response.history] == [401]
