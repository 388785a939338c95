"""Signing out at the server (RFC 7009), through `TokenManager.revoke` and the sources' own method."""

from __future__ import annotations

import httpx
import pytest
from tests.sources.wire import Wire, always, http

from evertoken import GrantRejected, Token, TokenManager, TransientRefreshError
from evertoken.sources import ClientCredentials, OAuthClient, RefreshToken
from evertoken.testing import TokenServer


async def test_signed_out_at_the_server():
    """K3: revoke() ends the grant and its tokens at the server, and callers are told that a person must act."""
    async with TokenServer() as server:
        client = server.oauth_client(revocation_endpoint=server.metadata()["revocation_endpoint"])
        source = RefreshToken(client, server.issue_grant())
        async with TokenManager(source) as tokens, httpx.AsyncClient() as client:
            token = await tokens.get()
            await tokens.revoke()
            answer = await client.get(server.resource, headers={"Authorization": token.authorization})
            assert answer.status_code == 401
            with pytest.raises(GrantRejected, match="signed out"):
                await tokens.get()
            # The grant has ended too.
            with pytest.raises(GrantRejected, match="invalid_grant"):
                await tokens.refresh()


async def test_what_is_sent():
    """RFC 7009 section 2.1: the refresh token first, then the access token, each with its hint, as this client."""
    async with Wire(always(http(200, b""))) as wire:
        source = RefreshToken(
            OAuthClient(
                token_endpoint=wire.url(),
                revocation_endpoint=wire.url(),
                client_id="svc",
                client_secret="s3cret",
                client_auth="client_secret_post",
            ),
            refresh_token="unused",
        )
        await source.revoke(Token("at-1", issued_at=0.0, refresh_token="rt-1"))
        identity = [("client_id", "svc"), ("client_secret", "s3cret")]
        assert [asked.form for asked in wire.asked] == [
            [("token", "rt-1"), ("token_type_hint", "refresh_token"), *identity],
            [("token", "at-1"), ("token_type_hint", "access_token"), *identity],
        ]
        # If there is no access token, only the refresh token is sent.
        await source.revoke(Token("", issued_at=0.0, expires_at=0.0, refresh_token="rt-2"))
        assert [asked.form[0] for asked in wire.asked[2:]] == [("token", "rt-2")]


@pytest.mark.parametrize(
    ("status", "body", "raised"),
    [
        (503, b"", TransientRefreshError),
        (302, b"", TransientRefreshError),
        (401, b'{"error": "invalid_client"}', GrantRejected),
        (400, b'{"error": "unsupported_token_type"}', TransientRefreshError),
    ],
)
async def test_refused(status, body, raised):
    """RFC 7009 section 2.2.1: what the server refuses is said, without the token."""
    secret = "planted-access-1"
    async with Wire(always(http(status, body))) as wire:
        source = ClientCredentials(
            OAuthClient(
                token_endpoint=wire.url(), revocation_endpoint=wire.url(), client_id="svc", client_secret="s3cret"
            )
        )
        with pytest.raises(raised) as caught:
            await source.revoke(Token(secret, issued_at=0.0))
        assert "planted" not in str(caught.value)


DONE, GONE = (200, b""), (400, b'{"error": "invalid_token"}')
NOT_THIS_KIND, DOWN = (400, b'{"error": "unsupported_token_type"}'), (503, b"")


@pytest.mark.parametrize(
    ("refresh_token", "access_token", "raised"),
    [
        (DONE, DONE, None),
        ((204, b""), (204, b""), None),
        ((201, b"{}"), (200, b"<html>gone</html>"), None),
        # It died with the refresh token, or before.
        (DONE, GONE, None),
        (GONE, GONE, None),
        ((400, b'{"error": "invalid_grant"}'), DONE, None),
        ((400, b'{"error": {"code": "INVALID_TOKEN"}}'), DONE, None),
        # Servers that revoke one kind alone.
        (DONE, NOT_THIS_KIND, None),
        (GONE, NOT_THIS_KIND, None),
        (NOT_THIS_KIND, DONE, TransientRefreshError),
        (NOT_THIS_KIND, NOT_THIS_KIND, TransientRefreshError),
        # If one revocation fails, the other one is still sent.
        (DOWN, DONE, TransientRefreshError),
        (DONE, DOWN, TransientRefreshError),
        (DOWN, NOT_THIS_KIND, TransientRefreshError),
        ((401, b'{"error": "invalid_client"}'), DONE, GrantRejected),
        ((302, b""), DONE, TransientRefreshError),
    ],
)
async def test_what_servers_say(refresh_token, access_token, raised):
    """RFC 7009 section 2.2: every success counts, a token that is gone is revoked, and both are told of always."""

    async def answer(asked, _writer):
        hint = dict(asked.form)["token_type_hint"]
        return http(*(refresh_token if hint == "refresh_token" else access_token))

    async with Wire(answer) as wire:
        client = OAuthClient(
            token_endpoint=wire.url(), revocation_endpoint=wire.url("/r"), client_id="svc", client_secret="s3cret"
        )
        token = Token("planted-at", issued_at=0.0, refresh_token="planted-rt")
        if raised is None:
            await RefreshToken(client, "rt").revoke(token)
        else:
            with pytest.raises(raised) as caught:
                await RefreshToken(client, "rt").revoke(token)
            assert "planted" not in str(caught.value)
        assert [dict(asked.form)["token"] for asked in wire.asked] == ["planted-rt", "planted-at"]


async def test_nothing_to_tell():
    """Without a revocation endpoint nothing is sent, and it is no error."""
    async with Wire(always(http(200, b""))) as wire:
        source = ClientCredentials(OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret"))
        await source.revoke(Token("at", issued_at=0.0))
        assert wire.asked == []


def test_bad_endpoint():
    """A revocation endpoint that would send tokens in the clear is refused, by its own name."""
    with pytest.raises(ValueError, match="revocation_endpoint must use https"):
        ClientCredentials(
            OAuthClient(
                token_endpoint="https://as.example.com/token",
                revocation_endpoint="http://as.example.com/revoke",
                client_id="svc",
                client_secret="s3cret",
            )
        )
