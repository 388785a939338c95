"""Tokens that are bound to a key (DPoP, RFC 9449): at the token endpoint and through the clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import jwt
import pytest
from tests.lacking import needed
from tests.sources.keys import ec_pem, rsa_pem
from tests.sources.proofs import Guarded
from tests.sources.wire import Wire, a_request, granted, http

from evertoken import DPoPKey, TokenManager, TokenUnavailable, TransientRefreshError
from evertoken.clients import httpx as for_httpx, httpx2 as for_httpx2
from evertoken.providers import Provider
from evertoken.sources import ClientCredentials, OAuthClient, PrivateKeyJwt

LIBRARIES = {"httpx": (httpx, for_httpx.DPoPAuth), "httpx2": (httpx2, for_httpx2.DPoPAuth)}


@pytest.fixture(params=LIBRARIES)
def lib(request) -> Any:
    return LIBRARIES[request.param]


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire(Guarded()) as made:
        made.handler.url = made.url("")  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def server(wire) -> Guarded:
    return wire.handler


def source(wire: Wire, key: DPoPKey, **options: Any) -> ClientCredentials:
    given: dict[str, Any] = {"client_secret": "s3cret"} if "client_auth" not in options else {}
    return ClientCredentials(
        OAuthClient(token_endpoint=wire.url("/token"), client_id="svc", dpop=key, **given, **options)
    )


@pytest.mark.parametrize("nonces", [False, True])
async def test_async_and_sync(lib, nonces, wire, server):
    """RFC 9449 sections 4 to 9: every request has a proof of its own, with the nonce the server asked for."""
    library, auth_class = lib
    server.nonce = "nonce-0" if nonces else None
    key = DPoPKey()
    async with TokenManager(source(wire, key)) as tokens:
        auth = auth_class(tokens.handle(), key)
        async with library.AsyncClient(auth=auth) as client:
            for path in ("/a?b=c", "/d"):
                response = await client.post(wire.url(path), content=b"body")
                assert (response.status_code, response.content) == (200, b"body")

        def in_thread() -> int:
            with library.Client(auth=auth) as client:
                return int(client.get(wire.url("/e")).status_code)

        assert await asyncio.to_thread(in_thread) == 200
        assert tokens.snapshot().refreshed == 1
    assert server.wrong == []
    # One request more where the token endpoint asks for a nonce; it is the resource's own, for both are one origin.
    assert len(wire.asked) == (5 if nonces else 4)


async def test_new_nonce_of_the_resource(lib, wire, server):
    """Section 9: a nonce that has grown old costs one request more, and no token."""
    library, auth_class = lib
    server.new_nonce()
    key = DPoPKey()
    async with (
        TokenManager(source(wire, key)) as tokens,
        library.AsyncClient(auth=auth_class(tokens.handle(), key)) as client,
    ):
        for _ in range(3):
            assert (await client.get(wire.url("/a"))).status_code == 200
            server.new_nonce()
        assert tokens.snapshot().refreshed == 1
    paths = [asked.target for asked in wire.asked]
    assert paths.count("/token") == 2
    assert paths.count("/a") == 5


async def test_new_nonce_for_many_at_once(lib, wire, server):
    """Section 9: of requests that are out at the same time, each learns the new nonce for itself."""
    library, auth_class = lib
    key = DPoPKey()
    async with (
        TokenManager(source(wire, key)) as tokens,
        library.AsyncClient(auth=auth_class(tokens.handle(), key)) as client,
    ):
        await tokens.get()
        server.new_nonce()
        together = asyncio.Barrier(4)
        plain = wire.handler

        async def at_once(asked: Any, writer: asyncio.StreamWriter) -> Any:
            answer = await plain(asked, writer)
            if "nonce" not in _claims(asked.headers["dpop"]):
                await together.wait()
            return answer

        wire.handler = at_once
        answers = await asyncio.gather(*(client.get(wire.url(f"/{number}")) for number in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4


async def test_nonce_for_many_fetches_at_once(wire, server):
    """Section 8: of fetches that are out at the same time with one key, each learns the nonce for itself."""
    server.new_nonce()
    key, together, plain = DPoPKey(), asyncio.Barrier(3), wire.handler

    async def at_once(asked: Any, writer: asyncio.StreamWriter) -> Any:
        answer = await plain(asked, writer)
        if "nonce" not in _claims(asked.headers["dpop"]):
            await together.wait()
        return answer

    wire.handler = at_once
    async with TokenManager({number: source(wire, key) for number in range(3)}) as tokens:
        found = await asyncio.gather(*(tokens.get(number) for number in range(3)))
    assert len({token.access_token for token in found}) == 3
    assert len(wire.asked) == 6


def _claims(proof: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(proof, options={"verify_signature": False})
    return claims


async def test_refused_token_is_replaced(lib, wire, server):
    """U1: a 401 for the token itself brings another one, bound to the same key."""
    library, auth_class = lib
    key = DPoPKey(ec_pem())
    async with (
        TokenManager(source(wire, key)) as tokens,
        library.AsyncClient(auth=auth_class(tokens.handle(), key)) as client,
    ):
        first = await tokens.get()
        server.revoked.add(first.access_token)
        assert (await client.get(wire.url("/a"))).status_code == 200
        assert (await tokens.get()).access_token != first.access_token
    assert set(server.bound.values()) == {key.thumbprint}


@pytest.mark.parametrize("nonces", [False, True])
async def test_redirect_within_the_origin(lib, wire, server, nonces):
    """Section 4.3: a redirect gets a proof for where it leads, and no token is blamed for the one it came with."""
    library, auth_class = lib
    server.nonce = "nonce-0" if nonces else None

    async def moving(asked: Any, writer: Any) -> bytes:
        return http(307, headers={"Location": "/new?x=y"}) if asked.target == "/old" else await server(asked, writer)

    wire.handler = moving
    key = DPoPKey()
    async with TokenManager(source(wire, key)) as tokens:
        auth = auth_class(tokens.handle(), key)
        async with library.AsyncClient(auth=auth, follow_redirects=True) as client:
            response = await client.post(wire.url("/old"), content=b"body")
            assert (response.status_code, response.content) == (200, b"body")
            assert tokens.snapshot().refreshed == 1
            server.revoked.add((await tokens.get()).access_token)
            assert (await client.post(wire.url("/old"), content=b"body")).status_code == 200

        def in_thread() -> int:
            with library.Client(auth=auth, follow_redirects=True) as client:
                return int(client.get(wire.url("/old")).status_code)

        assert await asyncio.to_thread(in_thread) == 200
        assert tokens.snapshot().refreshed == 2


async def test_proof_that_the_resource_refuses(lib, wire):
    """Section 7.1: if the resource says that the proof is wrong, no token is blamed for it."""
    library, auth_class = lib
    key = DPoPKey()

    async def strict(asked: Any, writer: Any) -> bytes:
        if asked.target == "/token":
            return granted(token_type="DPoP")
        return http(401, b"", {"WWW-Authenticate": 'DPoP error="invalid_dpop_proof", algs="ES256"'})

    wire.handler = strict
    async with (
        TokenManager(source(wire, key)) as tokens,
        library.AsyncClient(auth=auth_class(tokens.handle(), key)) as client,
    ):
        assert (await client.get(wire.url("/a"))).status_code == 401
        assert tokens.snapshot().refreshed == 1
    assert len(wire.asked) == 2


@pytest.mark.parametrize(
    ("url", "htu"),
    [
        ("https://api.example.com", "https://api.example.com/"),
        ("https://api.example.com?a=b#c", "https://api.example.com/"),
        ("HTTPS://API.Example.com/A/b", "https://api.example.com/A/b"),
        ("https://api.example.com:443/a", "https://api.example.com/a"),
        ("http://api.example.com:80/a", "http://api.example.com/a"),
        ("https://api.example.com:80/a", "https://api.example.com:80/a"),
        ("https://user:planted@api.example.com:8443/a", "https://api.example.com:8443/a"),
        ("https://user:planted@[2001:DB8::1]:8443/a%20b", "https://[2001:db8::1]:8443/a%20b"),
    ],
)
def test_target_uri(url, htu):
    """Section 4.3: `htu` is in the normal form of RFC 3986, and holds no user information; so are origins of nonces."""
    key = DPoPKey(ec_pem())
    key.learn(url, "the-nonce", key.proof("GET", url))
    claims = jwt.decode(key.proof("GET", htu), options={"verify_signature": False})
    assert claims["nonce"] == "the-nonce"
    assert jwt.decode(key.proof("GET", url), options={"verify_signature": False})["htu"] == htu


async def test_server_that_binds_nothing(lib, wire, server):
    """Section 5: a server that answers "Bearer" gets its token as a bearer token."""
    library, auth_class = lib
    server.binds = False
    key = DPoPKey()
    async with (
        TokenManager(source(wire, key)) as tokens,
        library.AsyncClient(auth=auth_class(tokens.handle(), key)) as client,
    ):
        assert (await client.get(wire.url("/a"))).status_code == 200


async def test_nonce_with_an_assertion(wire, server):
    """Section 8: the request that is sent again carries a fresh assertion as well as a fresh proof."""
    server.new_nonce()
    key = DPoPKey(rsa_pem(), "PS256")
    method = PrivateKeyJwt(rsa_pem())
    async with TokenManager(source(wire, key, client_auth=method)) as tokens:
        assert (await tokens.get()).token_type == "DPoP"
    first, second = (dict(asked.form)["client_assertion"] for asked in wire.asked)
    ids = {jwt.decode(text, options={"verify_signature": False})["jti"] for text in (first, second)}
    assert len(ids) == 2


async def test_server_that_never_has_enough(wire, server):
    """Section 8: the nonce is tried once; a server that wants another each time does not make us spin."""

    class Greedy(Guarded):
        def _proven(self, asked: Any, token: str | None) -> tuple[str, str]:
            self.new_nonce()
            return "", "nonce"

    greedy = Greedy(nonces=True)
    wire.handler = greedy
    async with TokenManager(source(wire, DPoPKey())) as tokens:
        with pytest.raises(Exception, match="use_dpop_nonce") as caught:
            await tokens.get()
    assert isinstance(caught.value.__cause__, TransientRefreshError)
    assert len(wire.asked) == 2


async def test_provider_that_throttles_after_the_nonce(wire, server):
    """F4: what a provider means by its errors counts for the request that is sent again, too."""
    server.new_nonce()
    plain = wire.handler

    async def throttles(asked: Any, writer: asyncio.StreamWriter) -> Any:
        if "nonce" in _claims(asked.headers["dpop"]):
            return http(400, {"error": "invalid_grant", "error_description": "rate exceeded"}, {"Retry-After": "9"})
        return await plain(asked, writer)

    wire.handler = throttles
    habits = Provider(token_endpoint=wire.url("/token"), throttles=(("invalid_grant", "rate"),))
    one = ClientCredentials(OAuthClient.for_provider(habits, client_id="svc", client_secret="s3cret", dpop=DPoPKey()))
    with pytest.raises(TransientRefreshError, match="throttles") as caught:
        await one.fetch(a_request())
    assert caught.value.retry_after == 9.0


async def test_proof_that_is_refused(wire, server):
    """F4: a proof that the server does not take is told by its own words."""
    server.url = "https://elsewhere.example.com"
    async with TokenManager(source(wire, DPoPKey())) as tokens:
        with pytest.raises(TokenUnavailable, match="400 invalid_dpop_proof"):
            await tokens.get()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DPoPKey("planted"), "the key does not sign with ES256"),
        (lambda: DPoPKey(rsa_pem()), "the key does not sign with ES256: "),
        (lambda: DPoPKey(ec_pem(), "HS256"), "algorithm must be"),
        (lambda: DPoPKey(algorithm="EdDSA"), "give key="),
        (lambda: OAuthClient(token_endpoint="https://a.example.com", client_id="a", dpop="k"),  # type: ignore[arg-type]
         "dpop must be a DPoPKey"),
    ],
)  # fmt: skip
def test_bad_keys(make, says):
    """Bad input: a text that is not a key is reported at construction, and not shown."""
    with pytest.raises(ValueError, match=says) as caught:
        make()
    assert "planted" not in str(caught.value)


def test_thumbprint():
    """RFC 7638 section 3.1: the thumbprint of a key is the one that others compute."""
    key = DPoPKey(ec_pem())
    proof = key.proof("GET", "https://api.example.com/a?b#c")
    jwk = jwt.get_unverified_header(proof)["jwk"]
    assert jwt.decode(proof, options={"verify_signature": False})["htu"] == "https://api.example.com/a"
    assert set(jwk) == {"crv", "kty", "x", "y"}
    jwskate = needed("jwskate")
    assert jwskate.Jwk(jwk).thumbprint() == key.thumbprint
    assert key.thumbprint in repr(key)
    with pytest.raises(TypeError, match="key must be a DPoPKey"):
        for_httpx.DPoPAuth(None, "key")


def test_nonces_are_bounded():
    """The nonces of many origins take no more room than the nonces of a hundred."""
    key = DPoPKey(ec_pem())
    for number in range(300):
        url = f"https://host-{number}.example.com/a"
        assert key.learn(url, "n", key.proof("GET", url))
    assert not key.learn("https://host-299.example.com/b", "n", key.proof("GET", url))
    assert not key.learn(url, None, key.proof("GET", url))
    assert "nonce" not in jwt.decode(
        key.proof("GET", "https://host-0.example.com"), options={"verify_signature": False}
    )
