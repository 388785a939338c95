"""Signed requests, before an authorization server of another project, over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from evertoken import GrantRejected, TokenManager
from evertoken.sources import Assertion, ClientCredentials, ClientSecretJwt, JwtBearer, OAuthClient, PrivateKeyJwt

if TYPE_CHECKING:
    from tests.thirdparty.conftest import AuthlibServer

ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]


async def twice(source: Any) -> None:
    """Get two tokens: a server that remembers each `jti` would refuse an assertion that it has seen."""
    async with TokenManager(source) as tokens:
        first = await tokens.get()
        assert (await tokens.refresh()).access_token != first.access_token


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_private_key_jwt(authlib_server: AuthlibServer, algorithm: str):
    """RFC 7523 section 3: signature, issuer, subject, audience, expiry and a fresh `jti` are what the server wants."""
    method = PrivateKeyJwt(authlib_server.keys[algorithm], algorithm)
    await twice(
        ClientCredentials(
            OAuthClient(token_endpoint=authlib_server.token_endpoint, client_id=algorithm, client_auth=method)
        )
    )


async def test_client_secret_jwt(authlib_server: AuthlibServer):
    """OpenID Connect Core section 9: so is what the secret signs."""
    method = ClientSecretJwt(authlib_server.secret)
    await twice(
        ClientCredentials(
            OAuthClient(token_endpoint=authlib_server.token_endpoint, client_id="HS256", client_auth=method)
        )
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_jwt_bearer(authlib_server: AuthlibServer, algorithm: str):
    """RFC 7523 section 2.1: a token on behalf of a person, by an assertion that the issuer signed."""
    assertion = Assertion(authlib_server.keys[algorithm], issuer=algorithm, subject="alice", algorithm=algorithm)
    await twice(JwtBearer(OAuthClient(token_endpoint=authlib_server.token_endpoint), assertion))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"audience": "https://elsewhere.example.com"}, "invalid_grant"),
        ({"subject": "mallory"}, "invalid_grant"),
        ({"issuer": "nobody"}, "invalid_grant"),
        ({"issuer": "RS256"}, "invalid_grant"),
    ],
)
async def test_what_the_server_refuses(authlib_server: AuthlibServer, change: dict[str, str], error: str):
    """F4: an assertion for somebody else, by somebody else, or with another's key, is a rejection."""
    given: dict[str, Any] = {"issuer": "ES256", "subject": "alice", **change}
    assertion = Assertion(authlib_server.keys["ES256"], algorithm="ES256", **given)
    async with TokenManager(JwtBearer(OAuthClient(token_endpoint=authlib_server.token_endpoint), assertion)) as tokens:
        with pytest.raises(GrantRejected, match=error):
            await tokens.get()
