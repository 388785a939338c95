"""F4 as one table: the answer, the provider, the kind of failure, the error of callers, and the next attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.sources.keys import rsa_pem
from tests.sources.wire import Wire, always, http

from evertoken import GrantRejected, RetryPolicy, TokenManager, TokenUnavailable, events
from evertoken.providers import PROVIDERS, Provider
from evertoken.sources import (
    ClientCredentials,
    GitHubApp,
    LoginEndpoint,
    OAuthClient,
    RefreshToken,
    aws,
    azure,
    google,
    vault,
)

RETRY = RetryPolicy(first=5.0, probe=300.0, jitter=0.0)
PASSES, REJECTED = "passes", "rejected"


def oauth(provider: str) -> Callable[[Wire], Any]:
    """Return what makes a source with the habits of *provider*, at the server here."""
    habits = PROVIDERS[provider]

    def make(wire: Wire) -> Any:
        here = Provider(
            token_endpoint=wire.url(),
            client_auth=habits.client_auth,
            throttles=habits.throttles,
            rejections=habits.rejections,
            refuses_early_refresh=habits.refuses_early_refresh,
        )
        return ClientCredentials(OAuthClient.for_provider(here, client_id="svc", client_secret="s3cret"))

    return make


def plain(wire: Wire) -> Any:
    return RefreshToken(
        OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret"),
        refresh_token="rt-1",
        on_ambiguous="retry",
    )


SOURCES: dict[str, Callable[[Wire], Any]] = {
    "plain": plain,
    **{name: oauth(name) for name in ("auth0", "entra", "github", "google", "keycloak", "okta", "salesforce")},
    "google key": lambda wire: google.ServiceAccount({
        "type": "service_account", "client_email": "a@b", "private_key": rsa_pem(), "token_uri": wire.url(),
    }),
    "google machine": lambda wire: google.MetadataServer(host=wire.url("").removeprefix("http://")),
    "azure machine": lambda wire: azure.ManagedIdentity("https://r", endpoint=wire.url("")),
    "app service": lambda wire: azure.AppServiceIdentity("https://r", endpoint=wire.url(), header="h"),
    "aws container": lambda wire: aws.ContainerRole(wire.url()),
    "aws sts": lambda wire: aws.AssumeRoleWithWebIdentity(
        "jwt", "arn:aws:iam::123456789012:role/r", endpoint=wire.url()
    ),
    "github app": lambda wire: GitHubApp("app", 1, rsa_pem(), api=wire.url("")),
    "vault": lambda wire: vault.AppRole(wire.url(""), "role"),
    "login": lambda wire: LoginEndpoint(wire.url(), json={"user": "a"}),
}  # fmt: skip

UNREADABLE: list[Any] = [{}, b"", b"<html>who knows</html>"]

# The RFC's own codes, from any provider (RFC 6749 section 5.2, RFC 8707 section 2).
STANDARD: list[tuple[int, Any, str]] = [
    *((status, {"error": code}, REJECTED) for code in (
        "invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "invalid_target", "unauthorized_client",
        "unsupported_grant_type", "access_denied",
    ) for status in (400, 401)),
    *((status, {"error": "invalid_grant"}, PASSES) for status in (429, 500, 502, 503, 504)),
    *((status, {"error": "temporarily_unavailable"}, PASSES) for status in (400, 503)),
    *((400, {"error": code}, PASSES) for code in ("slow_down", "server_error", "some_new_code", "")),
    *((status, body, PASSES) for status in (400, 401, 403, 404, 418) for body in UNREADABLE),
    *((status, b"<html>a proxy</html>", PASSES) for status in (200, 302, 407, 500, 502, 503)),
    (200, {"error": "invalid_grant"}, REJECTED),
    (200, {}, PASSES),
]  # fmt: skip


@dataclass
class Row:
    """One answer, and what becomes of it."""

    source: str
    status: int
    body: Any
    outcome: str
    headers: dict[str, str] = field(default_factory=dict)
    retry: float = RETRY.first
    says: str = ""

    def __str__(self) -> str:
        body = self.body.decode("ascii", "replace") if isinstance(self.body, bytes) else str(self.body)
        return f"{self.source} {self.status} {body[:60]} {self.headers or ''}"


def xml(code: str) -> bytes:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>why</Message></Error></ErrorResponse>".encode()


TABLE = [
    *(Row(source, *row) for source in ("plain", "auth0", "entra", "google", "keycloak", "okta") for row in STANDARD),
    *(Row("google key", *row) for row in STANDARD[::4]),
    # Retry-After is honoured with any status, and capped.
    *(Row("plain", status, {}, PASSES, {"Retry-After": "40"}, 40.0) for status in (400, 403, 429, 500, 503)),
    Row("plain", 503, {}, PASSES, {"Retry-After": "1000000"}, RETRY.retry_after_cap),
    Row("plain", 503, {}, PASSES, {"Retry-After": "soon"}),
    # Providers that throttle with a rejection.
    Row("salesforce", 400, {"error": "invalid_grant", "error_description": "login rate exceeded"}, PASSES),
    Row("salesforce", 400, {"error": "invalid_grant", "error_description": "expired access/refresh token"}, REJECTED),
    Row("google", 403, {"error": "access_denied", "error_description": "Quota exceeded"}, PASSES),
    Row("google", 403, {"error": "access_denied", "error_description": "Account restricted"}, REJECTED),
    # Providers with codes of their own.
    *(Row(source, 400, {"error": "bad_refresh_token"}, PASSES) for source in ("plain", "auth0", "salesforce")),
    *(Row("github", status, {"error": "bad_refresh_token"}, REJECTED) for status in (200, 400)),
    Row("github", 200, {"error": "incorrect_client_credentials", "error_description": "s3cret?"}, REJECTED),
    Row("github", 503, {"error": "bad_refresh_token"}, PASSES),
    *(Row("salesforce", 400, {"error": code}, REJECTED) for code in ("inactive_user", "invalid_client_id")),
    Row("google", 401, {"error": "deleted_client"}, REJECTED),
    # An error with status 200 is still an error, and echoed secrets are removed from it.
    Row("plain", 200, {"error": "invalid_client", "error_description": "not s3cret"}, REJECTED),
    Row("plain", 200, {"error": "busy", "error_description": "not s3cret"}, PASSES),
    Row("plain", 200, {"error": {"code": 7}}, PASSES),
    # Clouds, each in its own words.
    Row("google machine", 404, b"no such account", REJECTED, {"Metadata-Flavor": "Google"}),
    Row("google machine", 404, b"a captive portal", PASSES),
    Row("google machine", 503, b"", PASSES, {"Metadata-Flavor": "Google"}),
    Row("azure machine", 400, {"error": "invalid_request", "error_description": "Identity not found"}, REJECTED),
    Row("azure machine", 404, b"", PASSES),
    Row("azure machine", 410, b"", PASSES),
    Row("azure machine", 429, {"error": "too_many"}, PASSES, {"Retry-After": "9"}, 9.0),
    Row("app service", 400, {"message": "no identity"}, REJECTED),
    Row("app service", 500, {"message": "later"}, PASSES),
    Row("aws container", 401, {"code": "AccessDenied", "message": "no"}, REJECTED),
    Row("aws container", 404, {"code": "NotFound"}, PASSES),
    Row("aws container", 200, {"Code": "Later"}, PASSES),
    Row("aws sts", 403, xml("AccessDenied"), REJECTED, says="access_denied: why"),
    Row("aws sts", 403, xml("SignatureDoesNotMatch"), REJECTED, says="invalid_client: why"),
    Row("aws sts", 400, xml("ExpiredTokenException"), PASSES),
    Row("aws sts", 400, xml("IDPCommunicationError"), PASSES),
    Row("aws sts", 400, xml("Throttling"), PASSES),
    Row("aws sts", 503, xml("AccessDenied"), PASSES),
    Row("github app", 401, {"message": "Bad credentials"}, REJECTED, says="Bad credentials"),
    Row("github app", 404, {"message": "Not Found"}, REJECTED, says="Not Found"),
    Row(
        "github app", 403, {"message": "You have exceeded a secondary rate limit"}, PASSES, {"Retry-After": "60"}, 60.0
    ),
    Row("github app", 403, {"message": "This installation has been suspended"}, REJECTED),
    Row("vault", 400, {"errors": ["invalid role ID"]}, REJECTED, says="invalid role ID"),
    Row("vault", 403, {"errors": ["permission denied"]}, REJECTED, says="permission denied"),
    Row("vault", 412, {"errors": ["not yet replicated"]}, PASSES),
    Row("vault", 472, {}, PASSES),
    Row("vault", 503, {"errors": ["Vault is sealed"]}, PASSES),
    Row("login", 401, {"detail": "wrong password"}, REJECTED),
    Row("login", 500, {"detail": "down"}, PASSES),
]


@pytest.mark.parametrize("row", TABLE, ids=[f"{number}-{row.source}-{row.status}" for number, row in enumerate(TABLE)])
async def test_classification(row):
    """F4, F3: each answer is either transient or a rejection. Callers see which, and the next attempt is planned."""
    seen: list[events.Event] = []
    async with Wire(always(http(row.status, row.body, row.headers))) as wire:
        source = SOURCES[row.source](wire)
        async with TokenManager(source, retry=RETRY, observers=[seen.append]) as tokens:
            with pytest.raises((TokenUnavailable, GrantRejected)) as caught:
                await tokens.get()
            # Within the cool-down nobody asks again.
            asked = len(wire.asked)
            with pytest.raises(type(caught.value)):
                await tokens.get()
            assert len(wire.asked) == asked
    (told,) = (event for event in seen if isinstance(event, events.RefreshFailed | events.RefreshRejected))
    if row.outcome == PASSES:
        assert isinstance(caught.value, TokenUnavailable), row
        assert isinstance(told, events.RefreshFailed), row
        assert caught.value.retry_at == pytest.approx(told.retry_at, abs=0.5)
        assert told.retry_at - told.at == pytest.approx(row.retry, rel=0.25), row
    else:
        assert isinstance(caught.value, GrantRejected), row
        assert isinstance(told, events.RefreshRejected), row
        assert told.retry_at - told.at == pytest.approx(RETRY.probe, rel=0.25), row
    assert row.says in str(told.error)
    assert "s3cret" not in str(told.error)


@pytest.fixture(autouse=True)
def after_the_first_minute(monkeypatch):
    """Ask services of a machine that has not just started, for those are given time."""
    monkeypatch.setattr("evertoken.sources._detected.FIRST_MINUTE", 0.0)


def test_the_table_is_wide():
    """Every kind of outcome is there for every kind of source that can have it."""
    kinds = {(row.source, row.outcome) for row in TABLE}
    assert {source for source, _ in kinds} == set(SOURCES)
    assert all((source, PASSES) in kinds and (source, REJECTED) in kinds for source in SOURCES)
    assert len(TABLE) > 250
