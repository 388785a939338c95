"""Azure: managed identities, workload identity, certificates, and what is used by default."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from tests.sources.keys import certificate, rsa_pem, rsa_public_pem
from tests.sources.wire import Wire, a_request, always, granted, http

from evertoken import GrantRejected, TokenManager, TransientRefreshError
from evertoken.sources.azure import (
    AppServiceIdentity,
    ClientCertificate,
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
            GrantRejected,
            "Identity not",
        ),
        (http(410, b""), TransientRefreshError, "410"),
        (http(404, b""), TransientRefreshError, "404"),
        (http(429, b"", {"Retry-After": "3"}), TransientRefreshError, "429"),
    ],
)
async def test_managed_identity_that_is_none(answer, error, says):
    """F4: a machine without that identity needs a person; one that is being updated, or throttles, is asked again."""
    async with Wire(always(answer)) as wire:
        with pytest.raises(error, match=says) as caught:
            await ManagedIdentity(SCOPE, endpoint=wire.url("")).fetch(a_request())
    assert getattr(caught.value, "retry_after", None) == (3.0 if says == "429" else None)


async def test_app_service():
    """App Service gets its header, which is a secret, and the resource of the scope."""
    async with Wire(always(http(403, {"message": "planted-1"}))) as wire:
        environ = {"IDENTITY_ENDPOINT": wire.url("/msi"), "IDENTITY_HEADER": "planted-1"}
        source = AppServiceIdentity.from_environment(SCOPE, environ, client_id="app")
        with pytest.raises(GrantRejected, match="403") as caught:
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


@pytest.mark.parametrize("says", ["no CERTIFICATE", "no PRIVATE KEY"])
async def test_certificate_that_is_none(says):
    """Bad input: what is missing in the file is told, and nothing of what is in it."""
    content = "planted" if says == "no CERTIFICATE" else certificate().partition("-----BEGIN PRIVATE")[0]
    async with Wire(always(granted())) as wire:
        with pytest.raises(ValueError, match=says) as caught:
            await ClientCertificate(lambda: content, **entra(wire)).fetch(a_request())
    assert "planted" not in str(caught.value)
    assert rsa_pem() not in str(caught.value)


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
    """What Azure's tools would use: an application, workload identity, managed identity, az; the first that works."""
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
    """Where nothing works, the message lists what was tried and why each failed."""
    async with Wire(
        always(http(400, {"error": "invalid_request", "error_description": "Identity not found"}))
    ) as nobody:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", nobody.url(""))
        with pytest.raises(TransientRefreshError) as caught:
            await from_environment(SCOPE).fetch(a_request())
    for said in ("AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "Identity not found", "'az' cannot be run"):
        assert said in str(caught.value)
    assert json.dumps(str(caught.value))
