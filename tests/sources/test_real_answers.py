"""Answers as real servers and clients have them: charsets, labels, names, hooks, proxies, and clocks that differ."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import httpx
import httpx2
import jwt
import pytest
from tests.sources.keys import rsa_pem
from tests.sources.wire import Asked, Wire, a_request, always, granted, http

from evertoken import DPoPKey, GrantRejected, Token, TokenManager, TokenUnavailable, TransientRefreshError
from evertoken.clients import httpx as for_httpx
from evertoken.providers import Provider
from evertoken.sources import (
    Assertion,
    ClientCredentials,
    ClientSecretJwt,
    Command,
    JwtBearer,
    LoginEndpoint,
    OAuthClient,
    PrivateKeyJwt,
    RefreshToken,
)

LIBRARIES = {"httpx": httpx, "httpx2": httpx2}


@pytest.fixture(params=LIBRARIES)
def library(request) -> Any:
    return LIBRARIES[request.param]


def a_client(url: str, **options: Any) -> OAuthClient:
    return OAuthClient(token_endpoint=url, client_id="svc", **options)


def refresh_token(url: str, **options: Any) -> RefreshToken:
    return RefreshToken(a_client(url, client_secret="s3cret-x", **options), "planted-r")


# Bytes and labels

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
ANSWER = '{"access_token": "at-1", "expires_in": 600, "refresh_token": "R2", "user": "José"}'
AS_FORM = "access_token=at-1&expires_in=600&token_type=bearer&refresh_token=R2"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (ANSWER.encode(), JSON),
        (ANSWER.encode("latin-1"), f"{JSON}; charset=ISO-8859-1"),
        (ANSWER.encode("latin-1"), f'{JSON};charset="iso-8859-1"'),
        (ANSWER.encode("latin-1"), JSON),
        (ANSWER.encode("cp1252"), f"{JSON}; charset=windows-1252"),
        (ANSWER.encode("utf-8-sig"), JSON),
        (ANSWER.encode("utf-16"), JSON),
        (ANSWER.encode("utf-16-le"), f"{JSON}; charset=utf-16le"),
        (ANSWER.encode(), f"{JSON}; charset=no-such-charset"),
        (ANSWER.encode(), f"{JSON}; charset=idna"),
        (ANSWER.encode(), "text/html"),
        (AS_FORM.encode(), FORM),
        (AS_FORM.encode(), "Application/X-WWW-Form-Urlencoded; charset=UTF-8"),
        (AS_FORM.encode(), "text/plain; charset=utf-8"),
        (AS_FORM.encode() + b"\r\n", "text/html"),
        (AS_FORM.encode(), ""),
        (b"user=Jos\xe9&" + AS_FORM.encode(), "text/plain"),
    ],
)
async def test_bytes_and_labels(body, content_type):
    """K1: an answer is read with any charset and label, so that a refresh token in it is not lost."""
    async with Wire(always(http(200, body, {"content-type": content_type}))) as wire:
        async with TokenManager(refresh_token(wire.url())) as tokens:
            token = await tokens.get()
    assert (token.access_token, token.refresh_token) == ("at-1", "R2")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"error": "invalid_grant", "error_description": "Le jeton a expiré"}'.encode("latin-1"), JSON),
        (b"error=invalid_grant&error_description=Ung\xfcltig", FORM),
        (b"error=invalid_grant&error_description=Ung%FCltig", f"{FORM}; charset=latin-1"),
        (b"error_description=gone&error=invalid_grant", "text/plain"),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401])
async def test_refusals_that_are_not_utf_8(status, body, content_type):
    """F4: a byte that cannot be decoded does not hide that the grant is dead."""
    async with Wire(always(http(status, body, {"content-type": content_type}))) as wire:
        with pytest.raises(GrantRejected) as caught:
            await refresh_token(wire.url()).fetch(a_request())
    assert caught.value.error == "invalid_grant"


# Names, places, scopes

NAMES: list[tuple[Any, str | None]] = [
    ({"accessToken": "at-1", "expiresIn": 600, "refreshToken": "R2", "tokenType": "bearer"}, None),
    ({"data": {"access_token": "at-1", "expires_in": 600, "refresh_token": "R2"}, "message": "success"}, None),
    ({"result": {"accessToken": "at-1", "expiresIn": 600, "refreshToken": "R2"}, "success": True}, None),
    ({"data": {"access_token": "at-1", "expiresIn": 600, "refreshToken": "R2"}}, None),
    ({"data": {}, "code": 7}, "no access_token in it, only code, data"),
    ({"a": {"access_token": "x"}, "b": {"access_token": "y"}}, "no access_token in it, only a, b"),
    ({"token": "planted"}, "no access_token in it, only token"),
    ({"access_token": "at-1", "expires_in": 0}, "already expired: its expires_in is 0"),
    ({"access_token": "at-1", "expires_in": -1}, "already expired: its expires_in is -1"),
]


@pytest.mark.parametrize(("body", "says"), NAMES, ids=range(len(NAMES)))
async def test_names_and_places(body, says):
    """
    F4: names in camel case and one object around the fields are understood. Otherwise the message lists the fields.
    """
    async with Wire(always(http(200, body))) as wire, TokenManager(refresh_token(wire.url())) as tokens:
        if says is None:
            token = await tokens.get()
            assert (token.access_token, token.refresh_token, token.lifetime) == ("at-1", "R2", 600.0)
            assert token.authorization == "Bearer at-1"
        else:
            with pytest.raises(TokenUnavailable, match=says) as caught:
                await tokens.get()
            assert "planted" not in str(caught.value)


@pytest.mark.parametrize(("seconds", "never"), [(0, (0,)), (-1, (0, -1)), ("-1", (-1,)), (0.0, (0,))])
async def test_never_expires(seconds, never):
    """T1: where the provider says so, zero or a negative number of seconds means for ever."""
    async with Wire(always(granted(expires_in=seconds))) as wire:
        habits = Provider(token_endpoint=wire.url(), never_expires=never, default_lifetime=60.0)
        source = ClientCredentials(OAuthClient.for_provider(habits, client_id="svc", client_secret="s"))
        async with TokenManager(source) as tokens:
            assert (await tokens.get()).expires_at is None


SCOPES = [
    ({"scope": "repo,user:email"}, None, {"repo", "user:email"}),
    ({"scope": "repo, user:email"}, None, {"repo", "user:email"}),
    ({"scope": "a b"}, "a b c", {"a", "b"}),
    ({"scope": ["a", None, "b"]}, None, {"a", "b"}),
    ({"scope": ""}, "a b", set()),
    ({}, "a b", {"a", "b"}),
    ({"scope": None}, "a b", {"a", "b"}),
    ({}, None, set()),
]


@pytest.mark.parametrize(("fields", "asked", "scopes"), SCOPES, ids=range(len(SCOPES)))
async def test_scopes(fields, asked, scopes):
    """Commas part scopes as well; a missing scope means the requested scope (RFC 6749 section 5.1)."""
    async with Wire(always(granted(**fields))) as wire:
        source = ClientCredentials(a_client(wire.url(), client_secret="s"), scope=asked)
        async with TokenManager(source) as tokens:
            assert (await tokens.get()).scopes == scopes


async def test_what_a_refresh_leaves_out():
    """
    Fields that a refresh leaves out stay as at the login (RFC 6749 section 6). Fields that it brings replace them.
    """
    first = granted(
        scope="read write", refresh_token="R2", instance_url="https://i", id_token="one", refresh_expires_in=9
    )
    answers = [first, granted(id_token="two"), granted(scope="read")]

    async def server(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return answers.pop(0)

    async with Wire(server) as wire, TokenManager(refresh_token(wire.url())) as tokens:
        await tokens.get()
        second = await tokens.refresh()
        third = await tokens.refresh()
    assert second.scopes == {"read", "write"}
    assert (second.extra["instance_url"], second.extra["id_token"]) == ("https://i", "two")
    assert "refresh_expires_in" not in second.extra
    assert third.scopes == {"read"}


# Effects of a user's client and environment before and after the request


async def test_request_hook_that_raises(library):
    """K4: what a hook raises before the transport has the request is not ambiguous; nothing was sent."""

    async def refuse(request: Any) -> None:
        raise ValueError("no secret for planted-r")

    async with Wire(always(granted())) as wire:
        async with library.AsyncClient(event_hooks={"request": [refuse]}) as client:
            with pytest.raises(TransientRefreshError, match="ValueError: no secret") as caught:
                await refresh_token(wire.url(), http_client=client).fetch(a_request())
        assert wire.asked == []
    assert not caught.value.ambiguous
    assert "planted" not in str(caught.value)


async def test_closed_client(library):
    """K4: a client that was closed sends nothing."""
    client = library.AsyncClient()
    await client.aclose()
    with pytest.raises(TransientRefreshError, match="closed") as caught:
        await refresh_token("https://as.example.com", http_client=client).fetch(a_request())
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALL_PROXY", "foo://127.0.0.1:9"), ("HTTPS_PROXY", "gopher://p"), ("NO_PROXY", "fe80::/10")],
)
async def test_environment_no_client_can_be_made_of(name, value, monkeypatch):
    """K4: a proxy that no client can use is named by the variables it may stand in, and nothing was sent."""
    for one in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(one, raising=False)
        monkeypatch.delenv(one.lower(), raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(TransientRefreshError, match=name) as caught:
        await refresh_token("https://as.example.com/token").fetch(a_request())
    assert not caught.value.ambiguous


async def test_response_hooks_see_no_token_answer(library):
    """F4, S1: a hook for answers of the API neither judges the token answer nor sees it; request hooks still run."""
    seen: list[str] = []

    async def requested(request: Any) -> None:
        request.headers["X-Gateway"] = "key"

    async def answered(response: Any) -> None:
        seen.append(str(response.url))
        response.raise_for_status()

    refused = http(400, {"error": "invalid_grant", "error_description": "revoked"}, {"Retry-After": "7"})
    async with Wire(always(refused)) as wire:
        hooks = {"request": [requested], "response": [answered]}
        async with library.AsyncClient(event_hooks=hooks) as client:
            with pytest.raises(GrantRejected, match="invalid_grant: revoked"):
                await refresh_token(wire.url(), http_client=client).fetch(a_request())
            assert seen == []
            assert client.event_hooks == hooks
            with pytest.raises(library.HTTPStatusError):
                await client.get(wire.url("/api"))
        assert wire.asked[0].headers["x-gateway"] == "key"
    assert seen == [wire.url("/api")]


@pytest.mark.parametrize("read", [True, False])
async def test_transport_that_raises_for_an_answer(library, read):
    """K4: an exception that has a response is an answer, and is not ambiguous where the answer is not."""

    class Raising(library.AsyncHTTPTransport):
        async def handle_async_request(self, request: Any) -> Any:
            response = await super().handle_async_request(request)
            response.request = request
            if read:
                await response.aread()
            response.raise_for_status()
            return response

    async with Wire(always(http(400, {"error": "invalid_grant"}))) as wire:
        async with library.AsyncClient(transport=Raising()) as client:
            with pytest.raises((GrantRejected, TransientRefreshError), match="answered 400") as caught:
                await refresh_token(wire.url(), http_client=client).fetch(a_request())
    assert isinstance(caught.value, GrantRejected) is read
    assert not getattr(caught.value, "ambiguous", False)


# Clocks that differ


class Strict:
    """A server that takes no assertion or proof from its future, nor one that is older than two minutes."""

    def __init__(self, ahead: float, *, date: bool = True) -> None:
        self.ahead, self.date = ahead, date
        self.refused = 0

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        form = dict(asked.form) if asked.body else {}
        signed = form.get("client_assertion") or form.get("assertion") or asked.headers.get("dpop", "")
        now = time.time() + self.ahead
        headers = {"Date": formatdate(now, usegmt=True)} if self.date else {}
        claims = jwt.decode(signed, options={"verify_signature": False})
        if now - 120.0 <= claims["iat"] <= now and claims.get("exp", now) >= now:
            return http(200, {"access_token": "at-1", "expires_in": 600, "token_type": "DPoP"}, headers)
        self.refused += 1
        if asked.target != "/token":
            return http(401, b"", {**headers, "WWW-Authenticate": 'DPoP error="invalid_dpop_proof"'})
        code = "invalid_dpop_proof" if "dpop" in asked.headers else "invalid_client"
        code = "invalid_grant" if "assertion" in form else code
        return http(401, {"error": code, "error_description": "iat is out of range"}, headers)


SIGNED: dict[str, Any] = {
    "private_key_jwt": lambda url: ClientCredentials(a_client(url, client_auth=PrivateKeyJwt(rsa_pem()))),
    "another audience": lambda url: ClientCredentials(
        a_client(url, client_auth=PrivateKeyJwt(rsa_pem(), audience="urn:as"))
    ),
    "client_secret_jwt": lambda url: ClientCredentials(a_client(url, client_auth=ClientSecretJwt("s" * 40))),
    "dpop": lambda url: ClientCredentials(a_client(url, client_secret="s", dpop=DPoPKey())),
}


@pytest.mark.parametrize("ahead", [-86_400.0, -90.0, -4.0, 0.0, 30.0, 600.0, 86_400.0])
@pytest.mark.parametrize("kind", SIGNED)
async def test_clocks_that_differ(kind, ahead):
    """T3: signatures are dated back. If the server still refuses one, it is made again by the server's clock."""
    server = Strict(ahead)
    async with Wire(server) as wire:
        source = SIGNED[kind](wire.url())
        await source.fetch(a_request())
        await source.fetch(a_request())
    assert server.refused == (0 if -5.0 < ahead < 60.0 else 1)


@pytest.mark.parametrize("kind", SIGNED)
async def test_server_that_refuses_for_another_reason(kind):
    """T3: without a Date, or with one that is right, nothing is sent again."""
    for date in (True, False):
        server = Strict(0.0 if date else 600.0, date=date)
        answers: list[bytes] = []

        async def refuse(asked: Asked, writer: asyncio.StreamWriter, answers: list[bytes] = answers) -> bytes:
            headers = {"Date": formatdate(time.time(), usegmt=True)} if server.date else {}  # noqa: B023 - one at a time
            answers.append(http(401, {"error": "invalid_client", "error_description": "unknown"}, headers))
            return answers[-1]

        async with Wire(refuse) as wire:
            with pytest.raises(GrantRejected, match="invalid_client: unknown"):
                await SIGNED[kind](wire.url()).fetch(a_request())
        assert len(answers) == 1


@pytest.mark.parametrize("audience", [None, "urn:as", "https://another.example.com"])
async def test_assertion_as_a_grant(audience):
    """T3: an assertion that was refused for its date is no dead grant: the next fetch signs by the server's clock."""
    server = Strict(-600.0)
    async with Wire(server) as wire:
        source = JwtBearer(a_client(wire.url()), Assertion(rsa_pem(), issuer="me", audience=audience))
        with pytest.raises(TransientRefreshError, match=r"the clock of .* is -600 s off"):
            await source.fetch(a_request())
        assert (await source.fetch(a_request())).fields["access_token"] == "at-1"


async def test_proof_for_an_api():
    """T3, U1: a proof that an API refuses for its date is made anew by the API's clock, and the token is not blamed."""
    server = Strict(-600.0)
    key = DPoPKey()

    fetched: list[float] = []

    async def source() -> Token:
        fetched.append(time.time())
        return Token("at-1", token_type="DPoP", issued_at=time.time(), expires_at=time.time() + 600)

    async with Wire(server) as wire, TokenManager(source) as tokens:
        async with httpx.AsyncClient(auth=for_httpx.DPoPAuth(tokens.handle(), key)) as client:
            assert (await client.get(wire.url("/api"))).status_code == 200
            assert (await client.get(wire.url("/api"))).status_code == 200
    assert len(fetched) == 1
    assert server.refused == 1


# Logins, programs, URLs


@pytest.mark.parametrize(
    ("answer", "options", "token"),
    [
        (http(201, {"token": {"expires_at": "2030-01-01T00:00:00Z"}}, {"X-Subject-Token": "t-1"}),
         {"token_header": "X-Subject-Token", "expires_at": "token.expires_at"}, "t-1"),
        (http(204, b"", {"X-Auth": "t-1"}), {"token_header": "x-auth"}, "t-1"),
        (http(200, b'"t-1"', {"content-type": "application/json"}), {"token": ()}, "t-1"),
        (http(200, b"t-1\n", {"content-type": "text/plain"}), {"token": ()}, "t-1"),
        (http(200, b'[{"value": "t-1"}]', {"content-type": "application/json"}), {"token": (0, "value")}, "t-1"),
        (http(200, {"tokens": [{"value": "t-1"}]}), {"token": "tokens.0.value"}, "t-1"),
        (http(200, {"a.b": "t-1"}), {"token": "a.b"}, "t-1"),
        (http(200, {"a.b": {"c": "t-1"}}), {"token": ("a.b", "c")}, "t-1"),
        (http(200, {"ok": False, "message": "no such user"}), {}, "only message, ok; it says: no such user"),
        (http(200, b"<html>t-1</html>"), {"token": ()}, "not a JSON object"),
        (http(200, b"planted"), {}, "no token at 'token'$"),
        (http(200, {"a": 1}), {"token_header": "X-Subject-Token"}, "no token at the field X-Subject-Token, only a"),
        (http(401, {"detail": "wrong password"}), {}, r"wrong password \(http://.* answered 401\)"),
        (http(500, b"down for maintenance"), {"token": ()}, "answered 500: down for maintenance"),
    ],
)  # fmt: skip
async def test_logins(answer, options, token):
    """Tokens in a header field, as a bare string or text, and in lists. Otherwise the message describes the answer."""
    async with Wire(always(answer)) as wire:
        source = LoginEndpoint(wire.url(), json={"user": "a"}, lifetime=60.0, **options)
        if token == "t-1":
            assert (await source.fetch(a_request())).fields["access_token"] == "t-1"
        else:
            with pytest.raises((GrantRejected, TransientRefreshError), match=token) as caught:
                await source.fetch(a_request())
            assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("printed", "says"),
    [
        ('WARNING: old\\n{"access_token": "a"}', "printed 2 lines that are no JSON"),
        ("planted-1\\nplanted-2", "printed 2 lines that are no JSON"),
        ("\\033[32mplanted\\033[0m", "such as colour codes"),
        ("planted token", "characters that no token has"),
    ],
)
async def test_program_that_prints_no_token(printed, says, tmp_path):
    """Bad input: the message names the program and the mistake in its output, and does not show the output."""
    program = tmp_path / "print-token"
    program.write_text(f"#!/bin/sh\nprintf '{printed}\\n'\n")
    program.chmod(0o755)
    with pytest.raises(TransientRefreshError, match=says) as caught:
        await Command([str(program)]).fetch(a_request())
    assert "print-token" in str(caught.value)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda url: ClientCredentials(a_client(url, client_secret="s")),
        lambda url: LoginEndpoint(url, json={"user": "a"}),
    ],
    ids=["grant", "login"],
)
def test_secret_in_a_url(make):
    """S1: the query of an endpoint may hold a key, and is not shown."""
    source = make("https://f.example.com/token?code=planted")
    assert "https://f.example.com/token" in repr(source)
    assert "planted" not in f"{source!r} {source} {source.provider}"
    with pytest.raises(ValueError, match="must use https") as caught:
        make("http://f.example.com/token?code=planted")
    assert "planted" not in str(caught.value)
