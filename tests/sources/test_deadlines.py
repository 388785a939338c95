"""The only deadline of a request is that of its fetch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import pytest
from tests.sources.keys import rsa_pem

from evertoken import FetchRequest, Token, TransientRefreshError
from evertoken.sources import (
    ClientCredentials,
    GitHubApp,
    JwtBearer,
    LegacyPassword,
    LoginEndpoint,
    OAuthClient,
    RefreshToken,
    TokenExchange,
    aws,
    azure,
    google,
    vault,
)

URL = "https://as.example.com/token"
USER = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
ARN = "arn:aws:iam::123456789012:role/r"
OAUTH: dict[str, Any] = {"token_endpoint": URL, "client_id": "a", "client_secret": "b"}

SOURCES: dict[str, Callable[[Any], Any]] = {
    "ClientCredentials": lambda client: ClientCredentials(OAuthClient(http_client=client, **OAUTH)),
    "discovery": lambda client: ClientCredentials(
        OAuthClient(issuer="https://as.example.com", client_id="a", client_secret="b", http_client=client)
    ),
    "GitHubApp": lambda client: GitHubApp("app", 1, rsa_pem(), client=client),
    "JwtBearer": lambda client: JwtBearer(OAuthClient(token_endpoint=URL, http_client=client), "signed"),
    "LegacyPassword": lambda client: LegacyPassword(
        OAuthClient(http_client=client, **OAUTH), username="u", password="p"
    ),
    "LoginEndpoint": lambda client: LoginEndpoint(URL, json={"a": "b"}, client=client),
    "RefreshToken": lambda client: RefreshToken(OAuthClient(http_client=client, **OAUTH), refresh_token="r"),
    "TokenExchange": lambda client: TokenExchange(OAuthClient(http_client=client, **OAUTH), "subject"),
    "aws.AssumeRoleWithWebIdentity": lambda client: aws.AssumeRoleWithWebIdentity(
        "jwt", ARN, endpoint=URL, client=client
    ),
    "aws.ContainerRole": lambda client: aws.ContainerRole(URL, client=client),
    "aws.InstanceRole": lambda client: aws.InstanceRole(client=client),
    "azure.AppServiceIdentity": lambda client: azure.AppServiceIdentity(
        "https://r", endpoint=URL, header="h", client=client
    ),
    "azure.ManagedIdentity": lambda client: azure.ManagedIdentity("https://r", client=client),
    "google.AuthorizedUser": lambda client: google.AuthorizedUser(USER, client=client),
    "google.MetadataServer": lambda client: google.MetadataServer(client=client),
    "vault.AppRole": lambda client: vault.AppRole("https://vault.example.com", "role", "secret", client=client),
}


@pytest.fixture
def timeouts(monkeypatch):
    """The timeouts of every request that any client would send."""
    found: list[dict[str, float | None]] = []

    for library in (httpx, httpx2):

        async def send(self: Any, request: Any, **_: Any) -> Any:
            found.append(request.extensions["timeout"])
            msg = "not sent in this test"
            raise httpx.ConnectError(msg)

        monkeypatch.setattr(library.AsyncClient, "send", send)
    return found


@pytest.mark.parametrize("timeout", [0.5, 60.0, 600.0])
@pytest.mark.parametrize("name", SOURCES)
async def test_no_step_has_a_bound_of_its_own(name, timeout, timeouts):
    """F7, T2: no step of a request has a timer of its own, also with a given client that has one."""
    for client in (None, httpx.AsyncClient(), httpx.AsyncClient(timeout=1.0), httpx2.AsyncClient(timeout=None)):
        with pytest.raises(TransientRefreshError):
            await SOURCES[name](client).fetch(FetchRequest(None, None, timeout))
        if client is not None:
            await client.aclose()
    assert len(timeouts) >= 4
    assert all(steps == dict.fromkeys(("connect", "read", "write", "pool")) for steps in timeouts)


@pytest.mark.parametrize("name", ["ClientCredentials", "RefreshToken", "vault.AppRole"])
async def test_a_revocation_is_bounded_by_the_manager(name, timeouts):
    """F7: a source sets no bound to a revocation that a fetch_timeout could exceed."""
    options = {"revocation_endpoint": "https://as.example.com/revoke"}
    source = {
        "ClientCredentials": lambda: ClientCredentials(OAuthClient(**OAUTH, **options)),
        "RefreshToken": lambda: RefreshToken(OAuthClient(**OAUTH, **options), refresh_token="r"),
        "vault.AppRole": lambda: SOURCES[name](None),
    }[name]()
    with pytest.raises(TransientRefreshError):
        await source.revoke(Token("a", issued_at=0.0))
    assert set(timeouts[0].values()) == {None}
