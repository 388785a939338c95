"""S1 for every source: a server that writes all it was sent into its answer, in every shape and with every status."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

import pytest
from tests.sources.keys import certificate, rsa_pem
from tests.sources.wire import Asked, Wire, always, granted, http

from evertoken import TokenError, TokenManager, events
from evertoken.sources import (
    Assertion,
    ClientAssertion,
    ClientCredentials,
    ClientSecretJwt,
    GitHubApp,
    JwtBearer,
    LegacyPassword,
    LoginEndpoint,
    OAuthClient,
    PrivateKeyJwt,
    RefreshToken,
    TokenExchange,
    aws,
    azure,
    google,
    vault,
)

# Secrets of every look, so that no pattern finds them all: only who knows them can take them out.
SECRET = "planted secret/+&=?"
HEADER = "planted-secret/+&=?"
ARN = "arn:aws:iam::123456789012:role/r"
ENTRA: dict[str, Any] = {"tenant_id": "tenant", "client_id": "app", "scope": "https://r/.default"}


def account(wire: Wire) -> dict[str, Any]:
    return {"type": "service_account", "client_email": "a@b", "private_key": rsa_pem(), "token_uri": wire.url()}


def user(wire: Wire) -> dict[str, Any]:
    return {
        "type": "authorized_user", "client_id": "c", "client_secret": SECRET, "refresh_token": SECRET + "2",
        "token_uri": wire.url(),
    }  # fmt: skip


def federated(wire: Wire, **more: Any) -> dict[str, Any]:
    url = {"url": wire.url("/good/subject"), "headers": {"X-Key": HEADER}}
    return {
        "type": "external_account", "audience": "a", "subject_token_type": "t", "token_url": wire.url(),
        "credential_source": url, **more,
    }  # fmt: skip


SOURCES: dict[str, Callable[[Wire], Any]] = {
    "basic": lambda wire: ClientCredentials(
        OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret=SECRET)
    ),
    "post": lambda wire: ClientCredentials(
        OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret=SECRET, client_auth="client_secret_post")
    ),
    "provider": lambda wire: RefreshToken(
        OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret=SECRET), refresh_token=SECRET + "3"
    ),
    "private_key_jwt": lambda wire: ClientCredentials(
        OAuthClient(token_endpoint=wire.url(), client_id="svc", client_auth=PrivateKeyJwt(rsa_pem()))
    ),
    "client_secret_jwt": lambda wire: ClientCredentials(
        OAuthClient(token_endpoint=wire.url(), client_id="svc", client_auth=ClientSecretJwt(SECRET * 3))
    ),
    "client_assertion": lambda wire: ClientCredentials(
        OAuthClient(token_endpoint=wire.url(), client_id="svc", client_auth=ClientAssertion(lambda: SECRET))
    ),
    "jwt_bearer": lambda wire: JwtBearer(OAuthClient(token_endpoint=wire.url()), Assertion(rsa_pem(), issuer="me")),
    "jwt_bearer, given": lambda wire: JwtBearer(OAuthClient(token_endpoint=wire.url()), lambda: SECRET),
    "exchange": lambda wire: TokenExchange(OAuthClient(token_endpoint=wire.url()), SECRET, actor_token=SECRET + "4"),
    "password": lambda wire: LegacyPassword(OAuthClient(token_endpoint=wire.url()), "alice", SECRET),
    "login": lambda wire: LoginEndpoint(wire.url(), json={"a": {"b": SECRET}}, headers={"X-Key": HEADER}),
    "login by form": lambda wire: LoginEndpoint(wire.url(), form={"a": SECRET}),
    "github": lambda wire: GitHubApp("app", 1, rsa_pem(), api=wire.url("")),
    "vault": lambda wire: vault.AppRole(wire.url(""), "role", SECRET),
    "vault, jwt": lambda wire: vault.JwtLogin(wire.url(""), "role", SECRET),
    "google, key": lambda wire: google.ServiceAccount(account(wire)),
    "google, user": lambda wire: google.AuthorizedUser(user(wire)),
    "google, federated": lambda wire: google.WorkloadIdentity(federated(wire)),
    "google, impersonated": lambda wire: google.WorkloadIdentity(
        federated(wire, token_url=wire.url("/good/token"), service_account_impersonation_url=wire.url("/act"))
    ),
    "azure, app service": lambda wire: azure.AppServiceIdentity("https://r", endpoint=wire.url(), header=HEADER),
    "azure, workload": lambda wire: azure.WorkloadIdentity(lambda: SECRET, **ENTRA, authority=wire.url("")),
    "azure, certificate": lambda wire: azure.ClientCertificate(certificate, **ENTRA, authority=wire.url("")),
    "aws, instance": lambda wire: aws.InstanceRole("planted", endpoint=wire.url("")),
    "aws, container": lambda wire: aws.ContainerRole(wire.url(), authorization=HEADER),
    "aws, web identity": lambda wire: aws.AssumeRoleWithWebIdentity(lambda: SECRET, ARN, endpoint=wire.url()),
    "aws, role": lambda wire: aws.AssumeRole(aws.AwsCredentials.of("AKID", SECRET, HEADER), ARN, endpoint=wire.url()),
}

SHAPES: dict[str, Callable[[str], Any]] = {
    "oauth": lambda said: {"error": "invalid_grant", "error_description": said, "error_uri": said},
    "code": lambda said: {"error": said, "message": said, "Code": said, "code": said},
    "github": lambda said: {"message": said},
    "vault": lambda said: {"errors": [said, said]},
    "nested": lambda said: {"error": {"message": said, "status": said}, "auth": {"client_token": [said]}},
    "xml": lambda said: f"<E><Error><Code>AccessDenied</Code><Message>{escape(said)}</Message></Error></E>".encode(),
    "text": lambda said: said.encode(),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SOURCES)
async def test_echo(name, shape, caplog, tmp_path):
    """S1: no error, event or log shows a secret that a server echoes, under any name."""
    sent: set[str] = set()

    async def echo(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        if asked.target == "/latest/api/token":
            return http(200, HEADER.encode())
        if asked.target == "/good/subject":
            return http(200, b"planted-subject")
        if asked.target == "/good/token":
            return granted(access_token="planted-token")
        fields = [value for _, value in asked.form] if "form" in asked.headers.get("content-type", "") else []
        bodies = [*_leaves(json.loads(asked.body))] if "json" in asked.headers.get("content-type", "") else fields
        values = [*bodies, asked.body.decode(), *asked.headers.values()]
        sent.update(value for value in values if "planted" in value or value.startswith("eyJ"))
        scheme, _, credentials = asked.headers.get("authorization", "").partition(" ")
        sent.update({credentials} if scheme in {"Basic", "Bearer"} else ())
        return http(status, SHAPES[shape](" | ".join(values)))

    for status in (200, 400, 401, 403, 404, 500):
        seen: list[events.Event] = []
        async with Wire(echo) as wire:
            source = SOURCES[name](wire)
            async with TokenManager(source, observers=[seen.append]) as tokens:
                with pytest.raises(TokenError) as caught:
                    await tokens.get()
        shown = "".join(traceback.format_exception(caught.value)) + "".join(map(repr, seen)) + caplog.text
        for secret in (*sent, SECRET, HEADER, "planted"):
            # The name of a role is not a secret.
            assert secret not in shown.replace("'planted'", ""), (status, secret)
    assert sent


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_source_shows(name):
    """S1: a source shows where it asks, and for whom, and none of its secrets."""
    source = SOURCES[name](Wire(always(b""), port=80))
    shown = f"{source!r} {source} {getattr(source, 'provider', '')}"
    assert shown.startswith(type(source).__name__)
    assert SECRET not in shown
    assert HEADER not in shown
    assert "PRIVATE" not in shown


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    return [value] if isinstance(value, str) else []
