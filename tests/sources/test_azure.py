"""Azure: managed identities, workload identity, certificates, and the default choice."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import inspect
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12
from tests.sources.keys import authority, certificate, rsa_key, rsa_pem, rsa_public_pem, signed
from tests.sources.wire import Asked, Wire, a_request, always, granted, http

from evertoken import GrantRejected, TokenManager, TransientRefreshError
from evertoken._engine.clock import SystemClock
from evertoken._model.protocols import TokenSource
from evertoken.sources.azure import (
    AppServiceIdentity,
    ArcIdentity,
    ClientCertificate,
    CloudShellIdentity,
    MachineLearningIdentity,
    ManagedIdentity,
    WorkloadIdentity,
    from_environment,
)

SCOPE = "https://vault.azure.net/.default"


def entra(wire: Wire) -> dict[str, Any]:
    return {"tenant_id": "tenant", "client_id": "app", "scope": SCOPE, "authority": wire.url("/")}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this machine's own settings, and its `az`, out."""
    for name in (
        "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "IDENTITY_HEADER",
        "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST", "IDENTITY_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "AZURE_TOKEN_CREDENTIALS", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET",
        "AZURE_KUBERNETES_TOKEN_PROXY", "AZURE_USERNAME", "AZURE_PASSWORD",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


async def test_managed_identity():
    """IMDS says when the token dies as a string of epoch seconds, on its own clock."""
    dies = int(time.time()) + 86_400
    answer = {"access_token": "at-1", "expires_on": str(dies), "expires_in": "86399", "token_type": "Bearer"}
    async with Wire(always(http(200, answer))) as wire:
        async with TokenManager(ManagedIdentity(SCOPE, object_id="o-1", endpoint=wire.url(""))) as tokens:
            token = await tokens.get()
    assert token.expires_at == pytest.approx(dies, abs=5.0)
    (asked,) = wire.asked
    assert asked.headers["metadata"] == "true"
    assert asked.target == (
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net&object_id=o-1"
    )


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (
            http(400, {"error": "invalid_request", "error_description": "Identity not found"}),
            TransientRefreshError,
            "Identity not found.*may not be ready",
        ),
        (http(410, b""), TransientRefreshError, "410"),
        (http(404, b""), TransientRefreshError, "404"),
        (http(429, b"", {"Retry-After": "3"}), TransientRefreshError, "429"),
    ],
)
async def test_managed_identity_that_is_none(answer, error, says):
    """F4: a machine that has just started, is being updated, or throttles, is asked again."""
    async with Wire(always(answer)) as wire:
        with pytest.raises(error, match=says) as caught:
            await ManagedIdentity(SCOPE, endpoint=wire.url("")).fetch(a_request())
    assert getattr(caught.value, "retry_after", None) == (3.0 if says == "429" else None)


async def test_app_service():
    """App Service gets its header, which is a secret, and the resource of the scope."""
    async with Wire(always(http(403, {"message": "planted-1"}))) as wire:
        environ = {"IDENTITY_ENDPOINT": wire.url("/msi"), "IDENTITY_HEADER": "planted-1"}
        source = AppServiceIdentity.from_environment(SCOPE, environ, client_id="app")
        with pytest.raises(TransientRefreshError, match="403") as caught:
            await source.fetch(a_request())
    assert "planted" not in str(caught.value) + repr(source)
    (asked,) = wire.asked
    assert asked.headers["x-identity-header"] == "planted-1"
    async with Wire(always(http(200, {"access_token": "at-1", "expires_on": "2051222400", "resource": SCOPE}))) as wire:
        async with TokenManager(AppServiceIdentity(SCOPE, endpoint=wire.url("/msi"), header="h")) as tokens:
            # It says nothing but an instant, as a string of epoch seconds.
            assert (await tokens.get()).expires_at == pytest.approx(2051222400.0, abs=5.0)
    assert asked.target == "/msi?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net&client_id=app"
    with pytest.raises(LookupError, match="IDENTITY_ENDPOINT"):
        AppServiceIdentity.from_environment(SCOPE, {})


async def test_workload_identity(tmp_path):
    """RFC 7523 section 2.2: the pod's token is the client's assertion, read at each fetch."""
    file = tmp_path / "token"
    file.write_text("first")
    async with Wire(always(granted())) as wire:
        async with TokenManager(WorkloadIdentity(file, **entra(wire))) as tokens:
            await tokens.get()
            file.write_text("second")
            await tokens.refresh()
    assert [dict(asked.form)["client_assertion"] for asked in wire.asked] == ["first", "second"]
    assert {asked.target for asked in wire.asked} == {"/tenant/oauth2/v2.0/token"}


async def test_client_certificate(tmp_path):
    """RFC 7515 section 4.1.8: the assertion verifies with the certificate's key, and names it by its SHA-256."""
    file = tmp_path / "certificate.pem"
    file.write_text(certificate())
    async with Wire(always(granted())) as wire:
        await ClientCertificate(file, **entra(wire)).fetch(a_request())
        text = dict(wire.asked[0].form)["client_assertion"]
        claims = jwt.decode(
            text, rsa_public_pem(), algorithms=["PS256"], audience=wire.url("/tenant/oauth2/v2.0/token"), issuer="app"
        )
    assert claims["sub"] == "app"
    alone = certificate().partition("-----BEGIN PRIVATE")[0]
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(alone)).digest()
    assert jwt.get_unverified_header(text)["x5t#S256"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")


PASSWORD = "planted-password"


def pfx(password: str | None = PASSWORD) -> bytes:
    """Return the key and the certificate in PKCS #12."""
    made = x509.load_pem_x509_certificate(certificate().encode())
    how = serialization.NoEncryption() if password is None else BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(b"app", rsa_key(), made, None, how)


def with_password() -> str:
    """Return the certificate with its key encrypted."""
    key = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode()))
    return alone() + key.decode()


def alone() -> str:
    return certificate().partition("-----BEGIN PRIVATE")[0]


def another() -> str:
    return alone() + signed("other")[1]


CERTIFICATES: dict[str, tuple[Callable[[], str | bytes], str | None, str | None]] = {
    # The content of the file, the password, and the error message, or None if the file is good.
    "pem": (certificate, None, None),
    "pem, key first": (lambda: rsa_pem() + alone(), None, None),
    "pem with a chain": (lambda: authority() + certificate(), None, None),
    "pem of one line": (lambda: certificate().replace("\n", "\\n"), None, None),
    "pem of Windows": (lambda: b"\xef\xbb\xbf" + certificate().replace("\n", "\r\n").encode(), None, None),
    "pem with a password": (with_password, PASSWORD, None),
    "pfx": (pfx, PASSWORD, None),
    "pfx without a password": (lambda: pfx(None), None, None),
    "pem, password missing": (with_password, None, "is encrypted: give password="),
    "pem, password wrong": (with_password, "planted-wrong", "the password is wrong"),
    "pem, password in vain": (certificate, PASSWORD, "is not encrypted: leave password out"),
    "pfx, password missing": (pfx, None, "no PFX file that needs no password"),
    "pfx, password wrong": (pfx, "planted-wrong", "the password is wrong, or it is no PFX file"),
    "no certificate": (rsa_pem, None, "holds no CERTIFICATE"),
    "no key": (alone, None, "holds no PRIVATE KEY"),
    "another's key": (another, None, "no certificate of its private key"),
    "cut off": (lambda: alone() + rsa_pem()[:400] + "PRIVATE KEY-----", None, "damaged"),
    "damaged": (lambda: certificate().replace("MII", "planted"), None, "damaged"),
    "nothing of the kind": (lambda: b"planted\x00\xff", None, "no PEM, and no PFX"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
async def test_certificates_in_all_forms(name, tmp_path):
    """
    K19: PEM and PFX, with and without a password. If a file is wrong, the message says why and shows nothing of it.
    """
    content, password, says = CERTIFICATES[name]
    made = content()
    file = tmp_path / "app.pem"
    file.write_bytes(made if isinstance(made, bytes) else made.encode())
    async with Wire(always(granted())) as wire:
        source = ClientCertificate(file, password=password, send_chain=True, **entra(wire))
        if says is None:
            await source.fetch(a_request())
            text = dict(wire.asked[0].form)["client_assertion"]
            jwt.decode(text, rsa_public_pem(), algorithms=["PS256"], audience=wire.url("/tenant/oauth2/v2.0/token"))
            assert jwt.get_unverified_header(text)["x5c"][0] in "".join(alone().splitlines())
            return
        with pytest.raises(ValueError, match=says) as caught:
            await source.fetch(a_request())
    body = "".join(rsa_pem().splitlines()[3:6])
    shown = f"{caught.value!r} {caught.value.__context__!r} " + " ".join(
        repr(value)
        for frame in inspect.getinnerframes(caught.tb)
        if "evertoken/" in frame.filename and "/tests/" not in frame.filename
        for value in frame.frame.f_locals.values()
    )
    assert "planted" not in shown
    assert body not in shown


async def test_certificate_in_a_text():
    """Bad input: the message about a text that is not PEM shows nothing of it."""
    async with Wire(always(granted())) as wire:
        with pytest.raises(ValueError, match="no PEM") as caught:
            await ClientCertificate(lambda: "planted", **entra(wire)).fetch(a_request())
    assert "planted" not in str(caught.value)
    with pytest.raises(ValueError, match="certificate is the content") as caught:
        ClientCertificate(Path(certificate()), tenant_id="t", client_id="c", scope=SCOPE)
    assert rsa_pem() not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "words", "error"),
    [
        (
            401,
            "invalid_client",
            "AADSTS700024: Client assertion is not within its valid time range.",
            TransientRefreshError,
        ),
        (400, "invalid_request", "AADSTS90033: A transient error has occurred.", TransientRefreshError),
        (400, "invalid_request", "AADSTS90024: Request budget exceeded.", TransientRefreshError),
        (400, "invalid_request", "AADSTS90055: The tenant is throttled.", TransientRefreshError),
        (400, "invalid_grant", "AADSTS50196: The server terminated an operation: a loop.", TransientRefreshError),
        (401, "invalid_client", "AADSTS90006: External server error, retry.", TransientRefreshError),
        (400, "invalid_grant", "The assertion was issued in the future", TransientRefreshError),
        (400, "invalid_grant", "Invalid JWT: Token must be in a reasonable timeframe.", TransientRefreshError),
        (401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", GrantRejected),
        (401, "invalid_client", "AADSTS7000222: The provided client secret keys are expired.", GrantRejected),
        (400, "invalid_grant", "AADSTS700082: The refresh token has expired due to inactivity.", GrantRejected),
        (400, "invalid_request", "AADSTS900241: another number that begins alike.", GrantRejected),
        (400, "unauthorized_client", "AADSTS700016: Application was not found in the directory.", GrantRejected),
        (400, "invalid_grant", None, GrantRejected),
    ],
)
async def test_numbers_of_entra(status, code, words, error):
    """F4: the number, and words that blame a clock, tell what passes; the code of OAuth tells the rest."""
    async with Wire(always(http(status, {"error": code, "error_description": words}))) as wire:
        with pytest.raises(error, match=words and words[:12]):
            await WorkloadIdentity("pod", **entra(wire)).fetch(a_request())


# Platforms


async def test_azure_arc(monkeypatch, tmp_path):
    """The agent's challenge names a key in its own folder, and the content of the key is the answer."""
    monkeypatch.setattr("evertoken.sources.azure.arc.key_folder", lambda: tmp_path)
    (tmp_path / "one.key").write_text("planted-1")

    async def agent(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        assert asked.headers["metadata"] == "true"
        if asked.headers.get("authorization") != "Basic planted-1":
            return http(401, b"", {"WWW-Authenticate": f"Basic realm={tmp_path}/one.key"})
        return granted(client_id="APP")

    async with Wire(agent) as wire:
        async with TokenManager(ArcIdentity(SCOPE, endpoint=wire.url("/identity"), client_id="app")) as tokens:
            assert (await tokens.get()).access_token == "at-1"
        assert wire.asked[0].target == (
            "/identity?api-version=2020-06-01&resource=https%3A%2F%2Fvault.azure.net&client_id=app"
        )
        with pytest.raises(GrantRejected, match="the token of another identity"):
            await ArcIdentity(SCOPE, endpoint=wire.url("/identity"), client_id="other").fetch(a_request())


@pytest.mark.parametrize(
    ("challenge", "error", "says"),
    [
        ("Basic realm=/etc/shadow", GrantRejected, "names no key in"),
        ("Basic realm=$/../secret.key", GrantRejected, "names no key in"),
        ("Basic realm=$/one.txt", GrantRejected, "names no key in"),
        ("Basic realm=$/missing.key", GrantRejected, "No such file.*himds"),
        ("Basic realm=$/large.key", GrantRejected, "it is no key"),
        ("Basic realm=$/binary.key", GrantRejected, "it is no key"),
        ("Bearer", GrantRejected, "names no key in"),
        ("", GrantRejected, "names no key in"),
        (None, TransientRefreshError, "200 where Azure Arc challenges"),
    ],
)
async def test_challenges_that_are_not_of_arc(challenge, error, says, monkeypatch, tmp_path):
    """S2: a false server at the endpoint gets no file except a key of the agent's."""
    monkeypatch.setattr("evertoken.sources.azure.arc.key_folder", lambda: tmp_path)
    (tmp_path / "large.key").write_text("planted" * 1000)
    (tmp_path / "binary.key").write_bytes(b"planted\xff")
    (tmp_path / "one.txt").write_text("planted")
    fields = {} if challenge is None else {"WWW-Authenticate": challenge.replace("$", str(tmp_path))}
    async with Wire(always(http(200 if challenge is None else 401, b"", fields))) as wire:
        with pytest.raises(error, match=says) as caught:
            await ArcIdentity(SCOPE, endpoint=wire.url("/identity")).fetch(a_request())
    assert len(wire.asked) == 1
    assert "planted" not in str(caught.value)


async def test_cloud_shell_and_machine_learning():
    """MSI_ENDPOINT: Cloud Shell takes a form, Machine Learning a secret and a client id of its own spelling."""
    async with Wire(always(granted(expires_on="2051222400"))) as wire:
        await CloudShellIdentity(SCOPE, endpoint=wire.url("/msi")).fetch(a_request())
        ml = MachineLearningIdentity(SCOPE, endpoint=wire.url("/msi"), secret="planted", client_id="app")
        await ml.fetch(a_request())
    shell, learning = wire.asked
    assert (shell.method, shell.form) == ("POST", [("resource", "https://vault.azure.net")])
    assert shell.headers["metadata"] == "true"
    assert learning.target == "/msi?api-version=2017-09-01&resource=https%3A%2F%2Fvault.azure.net&clientid=app"
    assert learning.headers["secret"] == "planted"
    assert "planted" not in repr(ml)


SOURCES_OF_A_PLATFORM: dict[str, Callable[[str], TokenSource]] = {
    "ManagedIdentity": lambda url: ManagedIdentity(SCOPE, endpoint=url),
    "AppServiceIdentity": lambda url: AppServiceIdentity(SCOPE, endpoint=url, header="h"),
    "CloudShellIdentity": lambda url: CloudShellIdentity(SCOPE, endpoint=url),
    "MachineLearningIdentity": lambda url: MachineLearningIdentity(SCOPE, endpoint=url, secret="s"),
}


@pytest.mark.parametrize("name", SOURCES_OF_A_PLATFORM)
@pytest.mark.parametrize("works", [False, True])
async def test_first_minute_of_a_platform(name, works, monkeypatch):
    """F4: a refusal passes for the first minute, until the platform has worked once; then it needs a person."""
    now = [1000.0]
    monkeypatch.setattr(SystemClock, "monotonic", lambda: now[0])
    refusal = http(400, {"error": "invalid_request", "error_description": "Identity not found"})
    said = [refusal]

    async def platform(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return said[-1]

    async with Wire(platform) as wire:
        source = SOURCES_OF_A_PLATFORM[name](wire.url(""))
        for after in (0.0, 59.0):
            now[0] = 1000.0 + after
            with pytest.raises(TransientRefreshError, match="may not be ready"):
                await source.fetch(a_request())
        if works:
            said.append(granted())
            await source.fetch(a_request())
            said.append(refusal)
        else:
            now[0] += 2.0
        with pytest.raises(GrantRejected):
            await source.fetch(a_request())


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {"IDENTITY_ENDPOINT": "https://x", "IDENTITY_HEADER": "h", "IDENTITY_SERVER_THUMBPRINT": "t"},
            "Service Fabric.*azure.identity.ManagedIdentityCredential",
        ),
        ({"AZURE_CLIENT_ID": "a", "AZURE_USERNAME": "u", "AZURE_PASSWORD": "planted"}, "PASSWORD.*LegacyPassword"),
        ({"AZURE_TENANT_ID": "a b", "AZURE_CLIENT_ID": "a", "AZURE_CLIENT_SECRET": "planted"}, "tenant_id must be"),
        (
            {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "a", "AZURE_CLIENT_CERTIFICATE_PATH": "-----BEGIN planted"},
            "AZURE_CLIENT_CERTIFICATE_PATH holds a certificate",
        ),
        (
            {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "a", "AZURE_FEDERATED_TOKEN_FILE": "eyJplanted.b.c"},
            "AZURE_FEDERATED_TOKEN_FILE holds a token",
        ),
        (
            {
                "AZURE_TENANT_ID": "t", "AZURE_FEDERATED_TOKEN_FILE": "/token",
                "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com",
            },
            "AZURE_CLIENT_ID is not",
        ),
        (
            {
                "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "a", "AZURE_FEDERATED_TOKEN_FILE": "/token",
                "AZURE_KUBERNETES_TOKEN_PROXY": "https://p",
            },
            "AZURE_KUBERNETES_TOKEN_PROXY.*enable_azure_proxy=True",
        ),
        ({"AZURE_TOKEN_CREDENTIALS": "AzurePowerShellCredential"}, "is 'AzurePowerShell.*use one of"),
        ({"AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}, "leaves EnvironmentCredential.*are not all set"),
    ],
)  # fmt: skip
async def test_environment_that_is_refused(variables, says, monkeypatch):
    """Bad input: what the environment means and cannot be done is told at the fetch, with what to do, and no secret."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    source = from_environment(SCOPE)
    with pytest.raises(GrantRejected, match=says) as caught:
        await source.fetch(a_request())
    assert "planted" not in f"{caught.value} {source!r}"


async def token_of(source: TokenSource) -> str:
    async with TokenManager(source) as tokens:
        return (await tokens.get()).access_token


async def test_machine_that_is_settled(monkeypatch, tmp_path):
    """K1: once the machine's identity has worked, its failure is an error, and az is not asked."""
    az = tmp_path / "az"
    az.write_text('#!/bin/sh\necho \'{"accessToken": "of-az", "expires_on": 2051222400}\'\n')
    az.chmod(0o755)
    said = [granted()]

    async def machine(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return said[-1]

    async with Wire(machine) as wire:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", wire.url(""))
        source = from_environment(SCOPE)
        await source.fetch(a_request())
        said.append(http(400, {"error": "invalid_request", "error_description": "Identity not found"}))
        with pytest.raises(GrantRejected, match="Identity not found"):
            await source.fetch(a_request())
        source = from_environment(SCOPE)
        assert await token_of(source) == "of-az"
        said.append(granted())
        assert await token_of(source) == "of-az"


async def test_silent_machine(monkeypatch, tmp_path):
    """An address that swallows packets holds az up for a short time alone."""

    async def silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("evertoken.sources.azure._environment._WITHIN", 0.05)
    async with Wire(silent) as wire:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", wire.url(""))
        with pytest.raises(TransientRefreshError, match=r"did not answer within 0.05 s; az: 'az' cannot be run"):
            await from_environment(SCOPE).fetch(a_request(timeout=600.0))
    assert "metadata" not in wire.asked[0].headers


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ManagedIdentity("a b"), "scope must be one resource's"),
        (lambda: ManagedIdentity(SCOPE, client_id="a", object_id="b"), "only one of"),
        (lambda: WorkloadIdentity("t", tenant_id="a/b", client_id="c", scope=SCOPE), "tenant_id must be"),
        (lambda: ClientCertificate("", tenant_id="a", client_id="c", scope=SCOPE), "certificate must be"),
        (lambda: AppServiceIdentity(SCOPE, endpoint="x", header="h"), "endpoint must be"),
    ],
)
def test_bad_arguments(make, says):
    """Bad input: a mistake is told at construction, by the parameter's name."""
    with pytest.raises(ValueError, match=says):
        make()


async def test_environment_in_order(monkeypatch, tmp_path):
    """
    The choice of Azure's tools: an application, workload identity, managed identity, az. The first that works is taken.
    """
    az = tmp_path / "az"
    az.write_text('#!/bin/sh\necho \'{"accessToken": "of-az", "expires_on": 2051222400}\'\n')
    az.chmod(0o755)

    async def found() -> str:
        async with TokenManager(from_environment(SCOPE)) as tokens:
            return (await tokens.get()).access_token

    async with Wire(always(http(400, {"error": "invalid_request"}))) as nobody, Wire(always(granted())) as wire:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", nobody.url(""))
        assert await found() == "of-az"
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", wire.url(""))
        assert await found() == "at-1"
        assert wire.asked.pop().target.startswith("/metadata/identity")
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", wire.url(""))
        monkeypatch.setenv("AZURE_TENANT_ID", "tenant")
        monkeypatch.setenv("AZURE_CLIENT_ID", "app")
        (tmp_path / "token").write_text("pod")
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
        assert await found() == "at-1"
        assert dict(wire.asked.pop().form)["client_assertion"] == "pod"
        (tmp_path / "certificate").write_text(certificate())
        monkeypatch.setenv("AZURE_CLIENT_CERTIFICATE_PATH", str(tmp_path / "certificate"))
        assert await found() == "at-1"
        assert dict(wire.asked.pop().form)["client_assertion"].startswith("eyJ")
        monkeypatch.setenv("AZURE_CLIENT_SECRET", "planted")
        assert await found() == "at-1"
        assert dict(wire.asked.pop().form)["client_secret"] == "planted"


async def test_environment_that_offers_nothing(monkeypatch):
    """If nothing works, the message lists the attempts and why each failed."""
    async with Wire(
        always(http(400, {"error": "invalid_request", "error_description": "Identity not found"}))
    ) as nobody:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", nobody.url(""))
        with pytest.raises(TransientRefreshError) as caught:
            await from_environment(SCOPE).fetch(a_request())
    for said in ("AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "Identity not found", "'az' cannot be run"):
        assert said in str(caught.value)
    assert json.dumps(str(caught.value))


async def test_keys_that_come_at_once(monkeypatch, tmp_path):
    """K1: two keys that find out at the same time which identity it is end with the same one."""
    az = tmp_path / "az"
    az.write_text('#!/bin/sh\necho \'{"accessToken": "of-az", "expires_on": 2051222400}\'\n')
    az.chmod(0o755)
    refused = asyncio.Event()
    first = True

    async def machine(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        nonlocal first
        if "metadata" in asked.headers and first:
            # The identity is assigned between the two.
            first = False
            return http(400, {"error": "invalid_request", "error_description": "Identity not found"})
        if "metadata" in asked.headers:
            await refused.wait()
        return granted()

    async with Wire(machine) as wire:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", wire.url(""))
        source = from_environment(SCOPE)
        async with TokenManager({"a": source, "b": source}) as tokens:
            one = asyncio.create_task(tokens.get("a"))
            other = asyncio.create_task(tokens.get("b"))
            await asyncio.wait([one, other], return_when=asyncio.FIRST_COMPLETED)
            refused.set()
            found = {(await one).access_token, (await other).access_token}
    assert found == {"of-az"}
