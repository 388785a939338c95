"""Credentials over plain http, and in pickles: they are sent and kept nowhere without explicit permission."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import httpx
import pytest
from tests.clients.test_origin_matrix import AUTHS, CLIENTS, LIBRARIES, OWN, SECRETS, Servers, ask

from evertoken import OriginRefused, TokenManager

CLEAR = [
    "http://api.example.com/end",
    "http://api.example.com:8080/end",
    "HTTP://API.EXAMPLE.COM/end",
    "http://10.0.0.7/end",
    "http://169.254.169.254/end",
    "http://intranet/end",
    "http://api.internal/end",
    "http://0.0.0.0/end",
    "http://127.0.0.1.example.com/end",
    "http://localhost.example.com/end",
    "http://[fd00::1]/end",
    # Not everybody reads these as loopback.
    "http://127.1/end",
    "http://2130706433/end",
    "http://0x7f.1/end",
]
LOOPBACK = [
    "http://127.0.0.1/end",
    "http://127.8.8.8:8080/end",
    "http://localhost/end",
    "http://LOCALHOST:1/end",
    "http://api.localhost/end",
    "http://[::1]:8080/end",
    "http://[::ffff:127.0.0.1]/end",
]


def answering(library: Any, sent: list[Any]) -> Any:
    def handler(request: Any) -> Any:
        sent.append(request)
        return library.Response(200)

    return handler


@pytest.mark.parametrize("url", CLEAR)
@pytest.mark.parametrize("name", AUTHS)
async def test_http_needs_a_word(name, url):
    """U4, S2: over http outside loopback nothing is sent, and the error says what to do; with the word it is sent."""
    for lib, kind in CLIENTS:
        library, module = LIBRARIES[lib]
        make, source, fields = AUTHS[name]
        sent: list[Any] = []
        async with TokenManager(source) as tokens:
            with pytest.raises(OriginRefused, match=r"in the clear; use https, or allow_http=True") as caught:
                await ask(library, kind, make(module, tokens), answering(library, sent), url, "GET")
            assert "planted" not in str(caught.value)
            assert sent == []
            await ask(library, kind, make(module, tokens, allow_http=True), answering(library, sent), url, "GET")
        assert all(one in sent[0].headers for one in fields)


@pytest.mark.parametrize("url", LOOPBACK)
@pytest.mark.parametrize("name", AUTHS)
async def test_loopback_needs_none(name, url):
    """U4: what does not leave the machine may go over http."""
    for lib, kind in CLIENTS:
        library, module = LIBRARIES[lib]
        make, source, fields = AUTHS[name]
        sent: list[Any] = []
        async with TokenManager(source) as tokens:
            await ask(library, kind, make(module, tokens), answering(library, sent), url, "GET")
        assert all(one in sent[0].headers for one in fields)


@pytest.mark.parametrize("origin", ["http://api.example.com", "ws://api.example.com:8080", "http://10.0.0.7"])
@pytest.mark.parametrize("lib", LIBRARIES)
def test_http_origins_need_a_word(lib, origin):
    """U4: an origin that would get tokens in the clear is refused where it is named."""
    tokens: TokenManager[Any] = TokenManager(AUTHS["bearer"][1])
    for make, _, _ in AUTHS.values():
        with pytest.raises(ValueError, match="allow_http=True"):
            make(LIBRARIES[lib][1], tokens, origins=["https://a.example.com", origin])
        assert origin in repr(make(LIBRARIES[lib][1], tokens, origins=[origin], allow_http=True))
    with pytest.raises(ValueError, match="allow_http=True"):
        tokens.auth(origins=[origin])
    with pytest.raises(ValueError, match="allow_http=True"):
        tokens.handle().auth(origins=[origin])
    assert origin in repr(tokens.auth(origins=[origin], allow_http=True))
    assert origin in repr(tokens.handle().auth(origins=[origin], allow_http=True))


@pytest.mark.parametrize("base", [OWN, "http://127.0.0.1:8080", "http://127.0.0.1"])
@pytest.mark.parametrize("leads", ["/end", None])
@pytest.mark.parametrize("name", AUTHS)
@pytest.mark.parametrize(("lib", "kind"), CLIENTS)
async def test_pickles(lib, kind, name, leads, base):
    """
    S1: a pickled or copied response holds no credentials. The same is true for the redirects and refusals before it.
    """
    library, module = LIBRARIES[lib]
    make, source, fields = AUTHS[name]
    kept: list[Any] = []
    servers = Servers(library, fields, leads or "", 307, bound=base)

    async with TokenManager(source) as tokens:
        auth = make(module, tokens)
        url = f"{base}/{'end' if leads is None else 'start'}"
        options = {"auth": auth, "transport": library.MockTransport(servers), "follow_redirects": True}
        if kind == "async":
            async with library.AsyncClient(**options) as client:
                kept.append(await client.get(url))
        else:

            def in_thread() -> None:
                with library.Client(**options) as client:
                    kept.append(client.get(url))

            await asyncio.to_thread(in_thread)
    assert servers.reached
    (response,) = kept
    assert bool(response.history) is (leads is not None)
    for one in (response, *response.history):
        for made in (pickle.dumps(one), pickle.dumps(one.request), pickle.dumps(copy.deepcopy(one.request.headers))):
            assert not any(secret in made for secret in (*SECRETS, b"Signature="))
        assert type(pickle.loads(pickle.dumps(one)).request.headers) is library.Headers
        assert "planted" not in repr(one.request.headers)


async def test_fields_of_the_caller_are_pickled():
    """S1: what the caller sent besides is kept, and the request that was sent had the token."""
    async with TokenManager(AUTHS["bearer"][1]) as tokens:
        transport = httpx.MockTransport(lambda request: httpx.Response(200))
        async with httpx.AsyncClient(auth=tokens.auth(), transport=transport) as client:
            response = await client.get(OWN, headers={"X-Mine": "kept"})
    again = pickle.loads(pickle.dumps(response))
    assert response.request.headers["authorization"] == "Bearer planted-token"
    assert response.request.headers.copy()["authorization"] == "Bearer planted-token"
    assert again.request.headers["x-mine"] == "kept"
    assert again.request.headers["authorization"] == "[secure]"
    assert copy.deepcopy(response.request.headers)["authorization"] == "Bearer planted-token"
    assert "planted" not in repr(response.request.headers.raw)
