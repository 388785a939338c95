"""The client credentials grant, byte by byte."""

from __future__ import annotations

import asyncio
import base64
import re
import threading
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote_plus

import httpx
import httpx2
import pytest
from tests.gated import until
from tests.sources.wire import Asked, Wire, a_request, always, divided, granted, http

from evertoken import Token, TokenError, TokenManager, TokenUnavailable
from evertoken.sources import ClientCredentials, OAuthClient, RefreshToken

ODD = ["plain", "sp ace", "a:b", "p+lus", "100%", "a&b=c", "häß€", "tab\t", "'\"\\", "*-._~", "🔑", "%41", "@/?#"]


def source(url: str, **options: Any) -> ClientCredentials:
    client, grant = divided({"client_id": "app", "client_secret": "s3cr3t", **options})
    return ClientCredentials(OAuthClient(token_endpoint=url, **client), **grant)


def basic(asked: Asked) -> tuple[str, str]:
    scheme, _, text = asked.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    return user, password


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire(always(granted())) as server:
        yield server


async def test_the_request(wire):
    """RFC 6749 section 4.4.2: one POST, form-encoded, with the grant type; nothing else unless asked for."""
    answer = await source(wire.url("/oauth/token?api=2")).fetch(a_request())
    [asked] = wire.asked
    assert (asked.method, asked.target) == ("POST", "/oauth/token?api=2")
    assert asked.form == [("grant_type", "client_credentials")]
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["accept"] == "application/json"
    assert "cookie" not in asked.headers
    assert answer.fields["access_token"] == "at-1"


@pytest.mark.parametrize("client_id", ODD)
@pytest.mark.parametrize("secret", ODD)
async def test_basic(wire, client_id, secret):
    """RFC 6749 section 2.3.1: id and secret are form-encoded before they are put together for Basic."""
    await source(wire.url(), client_id=client_id, client_secret=secret).fetch(a_request())
    [asked] = wire.asked
    user, password = basic(asked)
    assert ":" not in user + password
    assert (unquote_plus(user), unquote_plus(password)) == (client_id, secret)
    assert user.isascii()
    assert asked.form == [("grant_type", "client_credentials")]


@pytest.mark.parametrize("secret", ODD)
async def test_basic_as_it_is(wire, secret):
    """RFC 6749 section 2.3.1: with the opt-out id and secret go as they are."""
    await source(wire.url(), client_secret=secret, form_encoded_basic=False).fetch(a_request())
    assert basic(wire.asked[0]) == ("app", secret)


@pytest.mark.parametrize("secret", ODD)
async def test_post(wire, secret):
    """RFC 6749 section 2.3.1: client_secret_post puts both into the form, and sends no Authorization."""
    await source(wire.url(), client_secret=secret, client_auth="client_secret_post").fetch(a_request())
    [asked] = wire.asked
    assert asked.form == [("grant_type", "client_credentials"), ("client_id", "app"), ("client_secret", secret)]
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"scope": "a b"}, [("scope", "a b")]),
        ({"scope": ["a", "b"]}, [("scope", "a b")]),
        ({"scope": (scope for scope in ("a", "b"))}, [("scope", "a b")]),
        ({"audience": "https://api.example.com/"}, [("audience", "https://api.example.com/")]),
        ({"resource": "https://a.example/"}, [("resource", "https://a.example/")]),
        ({"resource": ["https://a.example/", "urn:b"]}, [("resource", "https://a.example/"), ("resource", "urn:b")]),
        ({"parameters": {"tenant": "ü&=", "x": ""}}, [("tenant", "ü&="), ("x", "")]),
        (
            {"scope": "s", "audience": "a", "resource": ["r1", "r2"], "parameters": {"p": "q"}},
            [("scope", "s"), ("audience", "a"), ("resource", "r1"), ("resource", "r2"), ("p", "q")],
        ),
    ],
)
async def test_parameters_go_with_every_fetch(wire, options, fields):
    """RFC 6749 section 4.4.2: scope, audience, resources and parameters are in every request."""
    one = source(wire.url(), **options)
    async with TokenManager(one) as manager:
        await manager.get()
        for _ in range(3):
            await manager.refresh()
    assert [asked.form for asked in wire.asked] == [[("grant_type", "client_credentials"), *fields]] * 4


async def test_parameters_are_copied(wire):
    """RFC 6749 section 4.4.2: what the caller does to the mapping afterwards changes no request."""
    parameters = {"a": "b"}
    one = source(wire.url(), parameters=parameters)
    parameters["a"] = "changed"
    await one.fetch(a_request())
    assert ("a", "b") in wire.asked[0].form


async def test_a_refresh_token_is_not_kept():
    """RFC 6749 section 4.4.3: a refresh token in the answer is not kept, and never presented."""
    async with Wire(always(granted(refresh_token="rt", scope="a"))) as wire:
        async with TokenManager(source(wire.url())) as manager:
            token = await manager.get()
            again = await manager.refresh()
        assert (token.refresh_token, again.refresh_token, token.scope) == (None, None, "a")
        assert wire.asked[0].form == wire.asked[1].form


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_secret_functions(wire, asynchronous):
    """F4: a function for the secret, plain or async, is asked at each fetch, so a rotated secret is used at once."""
    secrets = ["one", "two", "three"]

    async def later() -> str:
        await asyncio.sleep(0)
        return secrets.pop(0)

    one = source(wire.url(), client_secret=later if asynchronous else lambda: secrets.pop(0))
    for _ in range(3):
        await one.fetch(a_request())
    assert [basic(asked)[1] for asked in wire.asked] == ["one", "two", "three"]


async def test_secret_function_that_hangs(wire):
    """F7: a plain function that does not come back holds up neither the loop nor the fetch beyond its deadline."""
    come_back = threading.Event()
    hung: list[str] = []

    def vault() -> str:
        hung.append(threading.current_thread().name)
        come_back.wait(30.0)
        return "late"

    try:
        async with TokenManager(source(wire.url(), client_secret=vault), fetch_timeout=0.2) as manager:
            with pytest.raises(TokenUnavailable, match=r"no answer within 0\.2 s"):
                await manager.get()
    finally:
        come_back.set()
    assert hung
    assert threading.current_thread().name not in hung
    assert wire.asked == []


@pytest.mark.parametrize("returned", [None, "", 7, b"bytes"])
async def test_secret_functions_that_return_nonsense(wire, returned):
    """F4, S1: a function that returns no secret fails the fetch with its name, and nothing is sent."""
    async with TokenManager(source(wire.url(), client_secret=lambda: returned)) as manager:
        with pytest.raises(TokenUnavailable, match="client_secret must return a non-empty string"):
            await manager.get()
    assert wire.asked == []


async def test_secret_functions_that_raise(wire):
    """F5: a function that raises fails the fetch, and nothing is sent."""

    async def vault() -> str:
        msg = "the vault is sealed"
        raise OSError(msg)

    async with TokenManager(source(wire.url(), client_secret=vault)) as manager:
        with pytest.raises(TokenUnavailable, match="the vault is sealed"):
            await manager.get()
    assert wire.asked == []


# The client


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_what_a_given_client_has_does_not_leak(library, method):
    """S2: auth, cookies, headers, query and redirects of a given client stay out of token requests."""
    cookies = http(body={"access_token": "a"}, headers={"Set-Cookie": "sid=theirs; Path=/"})
    async with Wire(always(cookies)) as wire:
        headers = {"Authorization": "Bearer of-the-api", "X-Api-Key": "key", "Accept": "text/x", "User-Agent": "me/1"}
        async with library.AsyncClient(
            auth=("user", "password"),
            cookies={"sid": "ours", "other": "kept"},
            headers=headers,
            params={"q": "leak"},
            base_url="https://api.example.com/v1/",
            follow_redirects=True,
        ) as client:
            before = [(cookie.name, cookie.value) for cookie in client.cookies.jar]
            one = source(wire.url("/token?x=1"), client=client, client_auth=method)
            await one.fetch(a_request())
            await one.fetch(a_request())
            assert [(cookie.name, cookie.value) for cookie in client.cookies.jar] == before
            assert not client.is_closed
            assert client.headers["x-api-key"] == "key"
        for asked in wire.asked:
            assert asked.target == "/token?x=1"
            assert "cookie" not in asked.headers
            assert "x-api-key" not in asked.headers
            assert asked.headers["accept"] == "application/json"
            assert asked.headers["user-agent"] == "me/1"
            assert asked.headers["host"] == f"127.0.0.1:{wire.port}"
            if method == "client_secret_basic":
                assert basic(asked) == ("app", "s3cr3t")
            else:
                assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"headers": {"X-Api-Key": "correct-horse-staple"}}, "***"),
        ({"headers": {"Ocp-Apim-Subscription-Key": "correct-horse-staple"}}, "***"),
        ({"headers": {"X-Auth": "Bearer correct-horse-staple"}}, "***"),
        ({"headers": {"Cookie": "sid=correct-horse-staple"}}, "***"),
        ({"parameters": {"api_key": "correct-horse-staple"}}, "***"),
        ({"parameters": {"tenant_password": "correct-horse-staple"}}, "***"),
        ({"parameters": {"api_key": "correct-horse-staple"}, "body": "json"}, "***"),
        ({"headers": {"X-Tenant": "correct-horse-staple"}}, "correct-horse-staple"),
        ({"parameters": {"requested_token_use": "correct-horse-staple"}}, "correct-horse-staple"),
        ({"parameters": {"key_id": "correct-horse-staple"}}, "correct-horse-staple"),
    ],
)
async def test_echoes_of_more_fields(options, shown):
    """S1: what a header or a form field holds by its name is a secret, and taken out of errors; other values stay."""
    async with Wire(always(http(403, b"subscription <correct-horse-staple> is not active"))) as wire:
        with pytest.raises(TokenError, match=re.escape(f"subscription <{shown}> is not active")):
            await source(wire.url(), **options).fetch(a_request())


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    ("url", "default", "own", "sent"),
    [
        ("https://as.example.com/token", "api.example.com", {}, "as.example.com"),
        ("https://as.example.com:443/token", "api.example.com", {}, "as.example.com"),
        ("https://as.example.com:8443/token", "api.example.com", {}, "as.example.com:8443"),
        ("https://[2001:db8::1]:8443/token", "api.example.com", {}, "[2001:db8::1]:8443"),
        ("https://as.example.com/token", None, {}, "as.example.com"),
        ("https://10.0.0.7/token", "api.example.com", {"host": "as.example.com"}, "as.example.com"),
        ("https://10.0.0.7/token", None, {"Host": "as.example.com"}, "as.example.com"),
    ],
)
async def test_the_host_of_a_token_request(library, url, default, own, sent):
    """S2: the Host that a given client sends its API is not the token endpoint's; one that the source has is."""
    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.extend(request.headers.get_list("host"))
        return library.Response(200, json={"access_token": "a"})

    headers = {} if default is None else {"Host": default}
    async with library.AsyncClient(transport=library.MockTransport(answer), headers=headers) as client:
        await source(url, client=client, headers=own).fetch(a_request())
    assert asked == [sent]


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("setting", ["sid=new; Path=/", "sid=; Max-Age=0; Path=/", "other=x; Path=/", "sid=n; Path=/t"])
async def test_the_jar_is_as_it_was(library, setting):
    """S2: a cookie that the endpoint sets, replaces or deletes leaves a given client's jar unchanged; others' stay."""

    async def setter(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/token":
            await asyncio.sleep(0.1)
            return http(body={"access_token": "a"}, headers={"Set-Cookie": setting})
        return http(headers={"Set-Cookie": "session=of-the-api; Path=/"})

    async with Wire(setter) as wire, library.AsyncClient() as client:
        client.cookies.set("sid", "ours", domain="127.0.0.1", path="/")
        await asyncio.gather(source(wire.url(), client=client).fetch(a_request()), client.get(wire.url("/api")))
        jar = {(cookie.name, cookie.value) for cookie in client.cookies.jar}
    assert jar == {("sid", "ours"), ("session", "of-the-api")}


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_given_client_is_used(library):
    """F4: a given client sends the requests, over its kept connection."""
    async with Wire(always(granted())) as wire:
        ports: set[Any] = set()
        ordinary = wire.handler

        async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bytes | None:
            ports.add(writer.get_extra_info("peername"))
            return await ordinary(asked, writer)

        wire.handler = handler
        async with library.AsyncClient() as client:
            one = source(wire.url(), client=client)
            for _ in range(3):
                await one.fetch(a_request())
        assert len(ports) == 1


async def test_an_owned_client_leaves_nothing(wire):
    """L1: a client of the source's own is closed with its connection after each fetch."""
    one = source(wire.url())
    before = asyncio.all_tasks()
    for _ in range(3):
        await one.fetch(a_request())
    await until(lambda: wire._serving == set())
    await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.parametrize("client", [httpx.Client(), object(), "client", httpx.AsyncClient, 7])
def test_a_client_that_is_none(client):
    """F4: a client of the wrong kind is rejected at construction, by name."""
    with pytest.raises(TypeError, match=r"client must be an httpx\.AsyncClient"):
        source("https://as.example.com/token", client=client)


# Mistakes at construction


BAD = [
    ({"token_endpoint": ""}, "token_endpoint"),
    ({"token_endpoint": None}, "token_endpoint"),
    ({"token_endpoint": b"https://as.example.com"}, "token_endpoint"),
    ({"token_endpoint": "as.example.com/token"}, "token_endpoint"),
    ({"token_endpoint": "/token"}, "token_endpoint"),
    ({"token_endpoint": "https://"}, "token_endpoint"),
    ({"token_endpoint": "https:///token"}, "token_endpoint"),
    ({"token_endpoint": "ftp://as.example.com/token"}, "token_endpoint"),
    ({"token_endpoint": "https://as.example.com:99999/token"}, "token_endpoint"),
    ({"token_endpoint": "https://as.example.com:x/token"}, "token_endpoint"),
    ({"token_endpoint": "https://as .example.com/token"}, "token_endpoint"),
    ({"token_endpoint": "https://as.example.com/to ken"}, "token_endpoint"),
    ({"token_endpoint": "https://as.example.com/to\nken"}, "token_endpoint"),
    ({"token_endpoint": " https://as.example.com/token"}, "token_endpoint"),
    ({"token_endpoint": "https://[::1/token"}, "token_endpoint"),
    ({"token_endpoint": "https://256.1.1.1/token"}, "token_endpoint"),
    ({"token_endpoint": "https://\u2603\u0301..example/token"}, "token_endpoint"),
    ({"token_endpoint": "https://user:pw@as.example.com/token"}, "token_endpoint must not carry credentials"),
    ({"token_endpoint": "https://user@as.example.com/token"}, "token_endpoint must not carry credentials"),
    ({"token_endpoint": "https://@as.example.com/token"}, "token_endpoint must not carry credentials"),
    ({"token_endpoint": "https://as.example.com/token#x"}, "token_endpoint must not have a fragment"),
    ({"token_endpoint": "https://as.example.com/token#"}, "token_endpoint must not have a fragment"),
    ({"token_endpoint": "http://as.example.com/token"}, "token_endpoint must use https"),
    ({"token_endpoint": "http://10.0.0.1/token"}, "token_endpoint must use https"),
    ({"token_endpoint": "http://localhost.example.com/token"}, "token_endpoint must use https"),
    ({"token_endpoint": "http://127.0.0.1.example.com/token"}, "token_endpoint must use https"),
    ({"client_id": ""}, "client_id"),
    ({"client_id": None}, "client_id"),
    ({"client_id": 7}, "client_id"),
    ({"client_secret": ""}, "client_secret"),
    ({"client_secret": b"x"}, "client_secret"),
    ({"client_secret": 7}, "client_secret"),
    ({"client_auth": "basic"}, "client_auth"),
    ({"client_auth": "private_key_jwt"}, "client_auth"),
    ({"client_auth": "none"}, "client_auth='none' takes no client_secret"),
    ({"scope": 7}, "scope"),
    ({"scope": ["a", 7]}, "scope"),
    ({"scope": b"a"}, "scope"),
    ({"audience": ["a"]}, "audience"),
    ({"audience": 7}, "audience"),
    ({"resource": 7}, "resource"),
    ({"resource": ["a", None]}, "resource"),
    ({"parameters": {"a": 7}}, "a must be a string"),
    ({"parameters": {"a": None}}, "a must be a string"),
    ({"parameters": "a=b"}, "parameters"),
    ({"parameters": [("a", "b")]}, "parameters"),
    ({"parameters": {"grant_type": "password"}}, "parameters must not contain grant_type"),
    ({"parameters": {"scope": "a", "client_secret": "b"}}, "parameters must not contain client_secret, scope"),
]


@pytest.mark.parametrize("grant", [ClientCredentials, RefreshToken])
@pytest.mark.parametrize(("options", "named"), BAD)
def test_bad_arguments(grant: Any, options: Any, named: str) -> None:
    """
    S2: missing or senseless arguments are rejected at construction.

    The message names the parameter and shows no secret.
    """
    given: dict[str, Any] = {
        "token_endpoint": "https://as.example.com/token",
        "client_id": "app",
        "client_secret": "s3cr3t",
    }
    if grant is RefreshToken:
        given["refresh_token"] = "rt-0"
    with pytest.raises(ValueError, match=named) as caught:
        client, own = divided({**given, **options})
        grant(OAuthClient(**client), **own)
    assert "s3cr3t" not in str(caught.value)
    assert "pw@" not in str(caught.value)


def test_a_secret_is_needed():
    """RFC 6749 section 4.4: client credentials without a secret are rejected by name."""
    with pytest.raises(ValueError, match="give the OAuthClient a client_secret"):
        source("https://as.example.com/token", client_secret=None)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/token",
        "http://localhost:8000/token",
        "http://127.0.0.1:1/token",
        "http://127.9.9.9/token",
        "http://[::1]:8000/token",
        "http://as.localhost/token",
        "HTTPS://AS.example.com/token",
        "https://as.example.com",
        "https://münchen.example/token?a=b",
    ],
)
def test_good_endpoints(url):
    """S2: https anywhere and http to loopback are fine."""
    assert source(url).provider.lower() in url.lower()


def test_http_if_that_is_meant():
    """S2: http outside loopback has to be allowed."""
    assert source("http://idp.internal/token", allow_http=True).provider == "http://idp.internal"


def test_repr():
    """S1: a source shows its endpoint and client, and no secret."""
    one = source("https://as.example.com/token", client_secret="hush-hush", parameters={"password": "hush-hush"})
    assert repr(one) == "ClientCredentials(OAuthClient(token_endpoint='https://as.example.com/token', client_id='app'))"
    assert one.provider == "https://as.example.com"


async def test_the_token():
    """T1: the token has its fields from the answer, and its life from the start of the request."""
    async with Wire(always(granted(expires_in="100", scope="a b", tenant="t"))) as wire:
        async with TokenManager(source(wire.url())) as manager:
            token = await manager.get()
    assert isinstance(token, Token)
    assert (token.authorization, token.lifetime, token.scopes) == ("Bearer at-1", 100.0, frozenset({"a", "b"}))
    assert token.extra == {"tenant": "t"}


async def test_a_client_that_answers_from_memory():
    """T3: a client on `httpx.MockTransport` is as good as one on a socket, and its answers are bounded too."""
    answers = [{"access_token": "at-1", "expires_in": 100}, {"access_token": "at-2", "padding": "x" * 2_000_000}]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answers.pop(0))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        async with TokenManager(source("https://as.example/token", client=client)) as manager:
            assert (await manager.get()).access_token == "at-1"
            with pytest.raises(TokenUnavailable, match="more than 1048576 bytes"):
                await manager.refresh()
