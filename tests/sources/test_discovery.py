"""Endpoints found by the issuer (RFC 8414, OpenID Connect Discovery)."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from tests.gated import until
from tests.sources.wire import Wire, granted, http

from evertoken import FetchRequest, Token, TokenManager, TransientRefreshError
from evertoken.sources import ClientCredentials, JwtBearer, OAuthClient, _discovery as module
from evertoken.testing import TokenServer

FIRST, SECOND = "/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"


def a_request() -> FetchRequest:
    return FetchRequest(None, None, 5.0)


def serving(metadata, well_known="/.well-known/oauth-authorization-server/tenant"):
    """Return a server that tells *metadata* at one place, and grants at /token."""
    wire: Wire

    async def answer(asked, _writer):
        if asked.target == well_known:
            told = metadata(wire) if callable(metadata) else metadata
            return told if isinstance(told, bytes) else http(200, told)
        return granted() if asked.target == "/token" else http(404)

    wire = Wire(answer)
    return wire


def good(wire):
    return {
        "issuer": wire.url("/tenant"),
        "token_endpoint": wire.url("/token"),
        "revocation_endpoint": wire.url("/gone"),
    }


def source(wire, **options):
    return ClientCredentials(
        OAuthClient(issuer=wire.url("/tenant"), client_id="svc", client_secret="s3cret", **options)
    )


@pytest.mark.parametrize(
    "well_known", ["/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"]
)
async def test_found_once(well_known):
    """RFC 8414 section 3.1, and OpenID Connect Discovery section 4: either place will do, and is asked once an hour."""
    async with serving(good, well_known) as wire:
        one = source(wire)
        for _ in range(3):
            await one.fetch(a_request())
        assert [asked.target for asked in wire.asked].count(well_known) == 1
        assert [asked.method for asked in wire.asked if asked.target == well_known] == ["GET"]
        assert [asked.target for asked in wire.asked].count("/token") == 3
        assert "authorization" not in wire.asked[0].headers


async def test_looked_up_again(monkeypatch):
    """The metadata of a server are not kept for ever, but they are used while the server does not answer."""
    async with serving(good) as wire:
        one = source(wire)
        await one.fetch(a_request())
        monkeypatch.setattr(module, "FRESH", 0.0)
        await one.fetch(a_request())
        assert [asked.target for asked in wire.asked].count("/.well-known/oauth-authorization-server/tenant") == 2
        handler = wire.handler

        async def mute(asked, writer):
            return await handler(asked, writer) if asked.target == "/token" else http(503)

        wire.handler = mute
        await one.fetch(a_request())


async def test_silent_server(monkeypatch):
    """F7: a server that hangs when it is asked again takes a part of the fetch's time, once, and not the token."""
    monkeypatch.setattr(module, "FRESH", 0.0)
    async with serving(good) as wire:
        async with TokenManager(source(wire), fetch_timeout=1.0) as tokens:
            await tokens.get()
            handler = wire.handler

            async def mute(asked, writer):
                return await (handler(asked, writer) if asked.target == "/token" else asyncio.Event().wait())

            wire.handler = mute
            await tokens.refresh()
            await tokens.refresh()
        asked = [one.target for one in wire.asked]
    assert asked.count("/token") == 3
    # Both places once, and not again at once.
    assert len(asked) == 3 + 1 + 2


@pytest.mark.parametrize("slow", [FIRST, SECOND])
async def test_a_place_that_hangs(slow):
    """F7: a place that never answers keeps the other one from nothing."""
    async with serving(good, SECOND if slow == FIRST else FIRST) as wire:
        handler = wire.handler

        async def hanging(asked, writer):
            return await (asyncio.Event().wait() if asked.target == slow else handler(asked, writer))

        wire.handler = hanging
        await source(wire).fetch(FetchRequest(None, None, 2.0))
        assert wire.asked[-1].target == "/token"


async def test_a_slow_place_is_not_given_up():
    """F7: metadata that comes late is used, if it comes within the fetch's own deadline."""
    async with serving(good) as wire:
        handler, other = wire.handler, asyncio.Event()

        async def slow(asked, writer):
            if asked.target == SECOND:
                other.set()
            elif asked.target == FIRST:
                # The other place is asked only when this one is late.
                await other.wait()
            return await handler(asked, writer)

        wire.handler = slow
        await source(wire).fetch(FetchRequest(None, None, 2.0))
        assert [asked.target for asked in wire.asked] == [FIRST, SECOND, "/token"]


async def test_no_place_answers():
    """F7: where neither place answers within the fetch's time, the failure says so, and nothing is left."""

    async def mute(asked, writer):
        await asyncio.Event().wait()

    async with Wire(mute) as wire:
        before = asyncio.all_tasks()
        with pytest.raises(TransientRefreshError, match=r"no answer within|ReadTimeout") as caught:
            await source(wire).fetch(FetchRequest(None, None, 0.4))
        assert not caught.value.ambiguous
        serving_now = wire._serving
        await until(lambda: asyncio.all_tasks() - serving_now <= before)


async def test_endpoints_for_certificates():
    """RFC 8705 section 5: who shows a certificate is led to the alias, and nobody else is."""

    def aliased(wire):
        return {**good(wire), "mtls_endpoint_aliases": {"token_endpoint": wire.url("/mtls")}}

    async with serving(aliased) as wire, httpx.AsyncClient() as client:
        await source(wire).fetch(a_request())
        by_certificate = ClientCredentials(
            OAuthClient(issuer=wire.url("/tenant"), client_id="svc", client_auth="tls_client_auth", http_client=client)
        )
        with pytest.raises(TransientRefreshError, match="404"):
            await by_certificate.fetch(a_request())
        assert [one.target for one in wire.asked if one.method == "POST"] == ["/token", "/mtls"]


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"issuer": "https://evil.example.com", "token_endpoint": "https://evil.example.com/token"}, "another issuer"),
        (lambda wire: {"issuer": wire.url("/tenant")}, "token_endpoint must be an absolute URL"),
        (
            lambda wire: {"issuer": wire.url("/tenant"), "token_endpoint": "http://as.example.com/token"},
            "token_endpoint must use https",
        ),
        (http(503), "503"),
        (http(200, b"<html>"), "not a JSON object"),
    ],
)
async def test_bad_metadata(metadata, says):
    """RFC 8414 section 3.3: nothing is presented to whom the metadata of another, or none at all, would lead."""
    async with serving(metadata) as wire:
        with pytest.raises(TransientRefreshError, match=says) as caught:
            await source(wire).fetch(a_request())
        assert not caught.value.ambiguous
        assert "/token" not in [asked.target for asked in wire.asked]


async def test_an_assertion_is_for_the_endpoint_that_was_found():
    """RFC 7523 section 3: the endpoint is known by the time the request is made."""
    async with serving(good) as wire:
        await JwtBearer(OAuthClient(issuer=wire.url("/tenant")), "signed").fetch(a_request())
        assert dict(wire.asked[-1].form)["assertion"] == "signed"


async def test_own_server():
    """The token server of `evertoken.testing` is found by its issuer, and tokens are revoked where it says."""
    async with TokenServer() as server:
        one = ClientCredentials(OAuthClient(issuer=server.url, client_id="svc", client_secret="s3cret"))
        answer = await one.fetch(a_request())
        assert server.grants.valid(answer.fields["access_token"])
        await one.revoke(Token(answer.fields["access_token"], issued_at=0.0))
        assert not server.grants.valid(answer.fields["access_token"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "token_endpoint must be an absolute URL"),
        ({"issuer": "https://a.example.com", "token_endpoint": "https://a.example.com/t"}, "cannot both be given"),
        ({"issuer": "http://a.example.com"}, "issuer must use https"),
        ({"issuer": "https://a.example.com?x=1"}, "issuer must not have a query"),
        ({"issuer": ""}, "issuer must be an absolute URL"),
    ],
)
def test_bad_issuer(options, says):
    """Bad input is refused when it is given, and named."""
    with pytest.raises(ValueError, match=says):
        ClientCredentials(OAuthClient(client_id="svc", client_secret="s3cret", **options))
