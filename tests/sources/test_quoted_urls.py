"""No error, log or repr repeats a password in a URL of a user or a server, for every typing mistake in it."""

from __future__ import annotations

import contextlib
import logging
import os
import string
import traceback
from collections.abc import Callable
from typing import Any
from unittest import mock

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.sources.keys import certificate, rsa_pem

from evertoken import DPoPKey, FetchRequest, TokenError, TokenManager
from evertoken.clients.httpx import BearerAuth, DPoPAuth, HeaderAuth
from evertoken.sources import (
    ClientCredentials,
    Command,
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

PASSWORD = "hunter2-Sup3rSecret"
RESOURCE = "https://vault.azure.net/.default"
ARN = "arn:aws:iam::123456789012:role/r"
ENTRA: dict[str, Any] = {"tenant_id": "tenant", "client_id": "app", "scope": RESOURCE}


def nobody(_: httpx.Request) -> httpx.Response:
    return httpx.Response(503)


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(nobody))


def oauth(**options: Any) -> OAuthClient:
    return OAuthClient(client_id="app", client_secret="s", http_client=client(), **options)


def told_by(document: dict[str, Any]) -> OAuthClient:
    def tell(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"issuer": "https://as.example", **document})

    there = httpx.AsyncClient(transport=httpx.MockTransport(tell))
    return OAuthClient(issuer="https://as.example", client_id="app", client_secret="s", http_client=there)


def sent_to(url: str) -> LoginEndpoint:
    def send_on(_: httpx.Request) -> httpx.Response:
        return httpx.Response(307, headers=[(b"location", url.encode("utf-8", "replace").translate(None, b"\r\n"))])

    there = httpx.AsyncClient(transport=httpx.MockTransport(send_on))
    return LoginEndpoint("https://as.example/login", json={"a": "b"}, client=there)


def of_variable(name: str, make: Callable[[], Any]) -> Callable[[str], Any]:
    def made(url: str) -> Any:
        with mock.patch.dict(os.environ, {name: url.replace("\x00", "").encode("utf-8", "replace").decode()}):
            return make()

    return made


def federated(url: str) -> dict[str, Any]:
    return {
        "type": "external_account", "audience": "a", "subject_token_type": "t", "token_url": "https://sts.example/t",
        "credential_source": {"url": url},
    }  # fmt: skip


DPOP = DPoPKey()
READER: Any = TokenManager(lambda: "t")

MAKERS: dict[str, Callable[[str], Any]] = {
    "token endpoint": lambda url: oauth(token_endpoint=url),
    "token endpoint, client credentials": lambda url: ClientCredentials(oauth(token_endpoint=url)),
    "token endpoint, refresh token": lambda url: RefreshToken(oauth(token_endpoint=url), refresh_token="r"),
    "token endpoint, JWT": lambda url: JwtBearer(oauth(token_endpoint=url), lambda: "a"),
    "token endpoint, exchange": lambda url: TokenExchange(oauth(token_endpoint=url), "s"),
    "token endpoint, password": lambda url: LegacyPassword(oauth(token_endpoint=url), "u", "p"),
    "token endpoint, plain http allowed": lambda url: oauth(token_endpoint=url, allow_http=True),
    "token endpoint, in a manager": lambda url: TokenManager(ClientCredentials(oauth(token_endpoint=url))),
    "issuer": lambda url: ClientCredentials(oauth(issuer=url)),
    "revocation endpoint": lambda url: oauth(token_endpoint="https://as.example", revocation_endpoint=url),
    "metadata": lambda url: ClientCredentials(told_by({"token_endpoint": url})),
    "issuer of metadata": lambda url: ClientCredentials(told_by({"issuer": url})),
    "redirect": sent_to,
    "provider": OAuthClient.for_provider,
    "domain of a provider": lambda url: OAuthClient.for_provider("auth0", domain=url, client_id="app"),
    "tenant of a provider": lambda url: OAuthClient.for_provider("entra", tenant=url, client_id="app"),
    "client authentication": lambda url: oauth(token_endpoint="https://as.example", client_auth=url),
    "login": lambda url: LoginEndpoint(url, json={"a": "b"}, client=client()),
    "method of a login": lambda url: LoginEndpoint("https://as.example", method=url),  # type: ignore[arg-type]
    "GitHub": lambda url: GitHubApp("app", 1, rsa_pem(), api=url, client=client()),
    "GitHub, installation": lambda url: GitHubApp("app", url, rsa_pem()),  # type: ignore[arg-type]
    "Vault": lambda url: vault.AppRole(url, "role", "s", client=client()),
    "Vault, mount": lambda url: vault.AppRole("https://vault.example", "role", "s", mount=url, client=client()),
    "Vault, JWT": lambda url: vault.JwtLogin(url, "role", "s", client=client()),
    "Google, account": lambda url: google.ServiceAccount(
        {"type": "service_account", "client_email": "a@b", "private_key": rsa_pem(), "token_uri": url}, client=client()
    ),
    "Google, user": lambda url: google.AuthorizedUser(
        {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r", "token_uri": url},
        client=client(),
    ),
    "Google, federated": lambda url: google.WorkloadIdentity({**federated("https://a.example"), "token_url": url}),
    "Google, credential source": lambda url: google.WorkloadIdentity(federated(url), client=client()),
    "Google, type": lambda url: google.ServiceAccount({"type": url}),
    "Google, metadata": lambda url: google.MetadataServer(host=url, client=client()),
    "Google, variable": of_variable("GCE_METADATA_HOST", lambda: google.MetadataServer(client=client())),
    "Azure, authority": lambda url: azure.WorkloadIdentity(lambda: "a", **ENTRA, authority=url, client=client()),
    "Azure, certificate": lambda url: azure.ClientCertificate(certificate, **ENTRA, authority=url, client=client()),
    "Azure, tenant": lambda url: azure.WorkloadIdentity(lambda: "a", **{**ENTRA, "tenant_id": url}),
    "Azure, machine": lambda url: azure.ManagedIdentity(RESOURCE, endpoint=url, client=client()),
    "Azure, app": lambda url: azure.AppServiceIdentity(RESOURCE, endpoint=url, header="h", client=client()),
    "Azure, Arc": lambda url: azure.ArcIdentity(RESOURCE, endpoint=url, client=client()),
    "AWS, instance": lambda url: aws.InstanceRole("r", endpoint=url, client=client()),
    "AWS, container": lambda url: aws.ContainerRole(url, client=client()),
    "AWS, role": lambda url: aws.AssumeRole(aws.AwsCredentials.of("A", "b", None), ARN, endpoint=url, client=client()),
    "AWS, web identity": lambda url: aws.AssumeRoleWithWebIdentity(lambda: "a", ARN, endpoint=url, client=client()),
    "AWS, full URI": lambda url: aws.ContainerRole.from_environment({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}),
    "AWS, relative URI": lambda url: aws.ContainerRole.from_environment(
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": url}
    ),
    "bearer": lambda url: BearerAuth(READER, origins=[url]),
    "another field": lambda url: HeaderAuth(READER, "X-Key", origins=[url]),
    "name of a field": lambda url: HeaderAuth(READER, url),
    "DPoP": lambda url: DPoPAuth(READER, DPOP, origins=[url]),
    "origins of a manager": lambda url: TokenManager(ClientCredentials(oauth(token_endpoint="https://a"))).auth(
        origins=[url]
    ),
    "program": lambda url: Command([f"fetch-token {url}"]),
    "option of a program": lambda url: Command(["/does/not/exist", f"--url={url}"]),
    "source by key": lambda url: TokenManager(source_for=url),  # type: ignore[call-overload]
}

# Where a person may put a password into a URL, and what may be wrong with it.
SLIPS = [
    "https://app:{}@as.example/token",
    "https://{}@as.example/token",
    "https://app:{}/x@as.example/token",
    "https://app:x/{}@as.example/token",
    "https://app:{}?x@as.example/token",
    "https://app:{}#x@as.example/token",
    "https://app:x#{}@as.example/token",
    "https://app:12345/{}@as.example/token",
    "https://app:12345?{}@as.example/token",
    "https://app:{}\\x@as.example/token",
    "https://app:{} x@as.example/token",
    "https://app:{}\tx@as.example/token",
    "https://app:{}\x00@as.example/token",
    "https://app:{}@@as.example/token",
    "https://app:[{}@as.example/token",
    "https://app:{}]@as.example/token",
    "https://app:{}@as.example:port/token",
    "https://app:{}@as.example:99999/token",
    "https://as.example:{}/token",
    "https://app:{}@[::1/token",
    "https://app:{}@/token",
    "https://app:{}@as.exa\u2100mple/token",
    "https://app:{}@-/token",
    "htps://app:{}@as.example/token",
    "https//app:{}@as.example/token",
    "https:/app:{}@as.example/token",
    "https:app:{}@as.example/token",
    "//app:{}@as.example/token",
    "app:{}@as.example/token",
    "{}",
    "postgresql://app:{}@db/x",
    "ftp://app:{}@as.example/token",
    "http://app:{}@as.example/token",
    "http://as.example/token?client_secret={}",
    "http://as.example/token;key={}",
    "https://as.example/token;key={}/more",
    "https://as.example/token?key={}",
    "https://as.example/token#{}",
    "https://as.example/to ken/{}",
    "http://as.example/token?{}@b",
    "https://as.example/token?a=b;c={}",
    " https://app:{}@as.example/token",
    "https://app:{}@as.example/token\n",
]


async def seen(make: Callable[[str], Any], url: str, caplog: pytest.LogCaptureFixture) -> str:
    """Return all that a user, a log and an error reporter see of a source that is made with *url* and asked."""
    caplog.clear()
    told = []
    try:
        made = make(url)
    except (TypeError, ValueError) as error:
        told += ["".join(traceback.format_exception(error)), repr(error)]
    else:
        told += [repr(made), str(made), str(getattr(made, "provider", "")), repr(getattr(made, "identity", ""))]
        if hasattr(made, "fetch"):
            try:
                await made.fetch(FetchRequest(None, None, 5.0))
            except (TokenError, ValueError) as error:
                told += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]
            with contextlib.suppress(TokenError):
                async with TokenManager(made, namespace="n") as manager:
                    await manager.get()
    # A traceback has the lines of this file, in which no URL stands.
    return "\n".join([*told, caplog.text])


@pytest.mark.parametrize("maker", MAKERS)
async def test_no_password_of_a_url_is_repeated(maker, caplog):
    """S1: for every typing mistake in a URL, the message contains no part of the password."""
    caplog.set_level(logging.DEBUG, "evertoken")
    # A parameter that takes a name accepts any name.
    takes_names = (
        "provider",
        "domain",
        "tenant",
        "mount",
        "name of",
        "metadata",
        "variable",
        "method",
        "authority",
        "certificate",
    )
    named = maker == "GitHub, installation" or any(word in maker for word in takes_names)
    for slip in SLIPS:
        if named and slip == "{}":
            continue
        shown = await seen(MAKERS[maker], slip.format(PASSWORD), caplog)
        assert "hunter2" not in shown, slip
        assert "Sup3r" not in shown, slip


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    maker=st.sampled_from([name for name in MAKERS if "AWS" not in name]),
    slip=st.sampled_from([slip for slip in SLIPS if "app:{}" in slip]),
    signs=st.lists(st.sampled_from([*string.punctuation, " ", "\t", "é", "\u202e", "\x7f"]), min_size=1, max_size=3),
)
async def test_no_part_of_an_odd_password_is_repeated(maker, slip, signs, caplog):
    """S1: the same for a password with any signs in it, which cut it into parts."""
    password = "hunter2" + "Sup3r".join(["", *signs, "Secr3t"])
    shown = await seen(MAKERS[maker], slip.format(password), caplog)
    assert not [part for part in ("hunter2", "Sup3r", "Secr3t") if part in shown]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"])
@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:{}/x@proxy.example:3128",
        "http://user:{}#x@proxy.example:3128",
        "http://user:{}?x@proxy.example:3128",
        "http://user:{}@proxy.example:port",
        "http://user:{}@proxy.example:99999",
        "http://user:{}@pro xy.example:3128",
        "http://user:{}\x01@proxy.example:3128",
        "ftp://user:{}@proxy.example",
        "ftp://{}@proxy.example/?{}",
        "socks5://user:{}/x@proxy.example",
        "socks9://user:{}@proxy.example?{}",
        "{}",
        "user:{}@proxy.example:3128",
        "http://user:{}@xn--\u2100/",
    ],
)
async def test_no_password_of_a_proxy_is_repeated(variable, proxy, monkeypatch, caplog):
    """S1: a mistake in a proxy of the environment is described by its kind, with the variables to look at."""
    caplog.set_level(logging.DEBUG, "evertoken")
    monkeypatch.setenv(variable, proxy.replace("{}", PASSWORD))
    source = ClientCredentials(
        OAuthClient(token_endpoint="https://as.invalid/token", client_id="app", client_secret="s")
    )
    with pytest.raises(TokenError) as caught:
        await source.fetch(FetchRequest(None, None, 5.0))
    with pytest.raises(TokenError) as again:
        async with TokenManager(source) as manager:
            await manager.get(timeout=0.0)
    for text in (str(caught.value), str(again.value), repr(again.value.__cause__), caplog.text):
        assert "hunter2" not in text
        assert "Sup3r" not in text
    assert "https://as.invalid" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("", "it is empty"),
        ("as.example/token", "it does not begin with https://"),
        ("https://as.example/to ken", "it has a space"),
        ("https://as.example\\token", "a backslash"),
        ("https://as.example:port/token", "its host or its port cannot be read"),
        ("https://app:secret/x@as.example", "its host or its port cannot be read"),
        ("htps://as.example/token", "its scheme is not https"),
        ("https://app:x@as.example/token", "must not carry credentials"),
        ("https://as.example/token#a", "must not have a fragment"),
        ("http://as.example/token", "'http://as.example/token' would send secrets in the clear"),
    ],
)
def test_what_is_wrong_with_a_url_is_told(url, wrong):
    """S2: the message of a URL that cannot be used names the parameter and what to look at."""
    with pytest.raises(ValueError, match=r"^token_endpoint must ") as caught:
        OAuthClient(token_endpoint=url)
    assert wrong in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://as.example/v1/projects/-/serviceAccounts/sa@project.example:act",
        "https://as.example:8443/realms/a@b/token",
        "https://[::1]:8443/a@b",
        "http://localhost:8443/a@b",
        "https://as.example/token?hint=a@b",
        "https://as:8443/token",
    ],
)
def test_urls_that_are_fine(url):
    """S2: an @ in a path or a query is allowed where nothing else could be meant."""
    assert OAuthClient(token_endpoint=url, allow_http=True).provider


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--password", "hunter2"], "unknown option --password ***"),
        (["--token=hunter2"], "unknown option --token=***"),
        (["-u", "hunter2-Sup3rSecret"], "unknown option -u ***"),
        (["https://app:hunter2@as.example"], "unknown option https://***@as.example"),
        (["print", "everything"], "unknown option print everything"),
        (["/etc/app2/config.json"], "unknown option /etc/app2/config.json"),
    ],
)
async def test_arguments_of_a_command_that_fails(arguments, shown, tmp_path):
    """S1: if a failing command prints its arguments, the error contains none of their secrets."""
    script = tmp_path / "command"
    script.write_text('#!/bin/sh\necho "unknown option $@" >&2\nexit 1\n')
    script.chmod(0o700)
    with pytest.raises(TokenError) as caught:
        await Command([str(script), *arguments]).fetch(FetchRequest(None, None, 5.0))
    assert str(caught.value).endswith(f"ended with 1: {shown}")
