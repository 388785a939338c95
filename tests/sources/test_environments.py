"""The identity that an environment means: from_environment() side by side with google-auth and azure-identity."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from tests.lacking import needed
from tests.sources.keys import certificate, rsa_pem
from tests.sources.wire import a_request

from evertoken import GrantRejected, TransientRefreshError
from evertoken.sources import azure
from evertoken.sources.google import from_environment

requests = needed("requests")
adapters = needed("requests.adapters")
google_auth = needed("google.auth")
google_requests = needed("google.auth.transport.requests")
google_metadata = needed("google.auth.compute_engine._metadata")
azure_identity = needed("azure.identity")
azure_transport = needed("azure.core.pipeline.transport")

SCOPE = "https://vault.azure.net/.default"
ERROR = "an error"

# The answer of a host: a status with a body, or None for a host that does not exist.
Answers = dict[str, tuple[int, Any] | None]


@dataclass
class World:
    """
    All that can be asked, by host. A host that is not named works, except the metadata services, which do not exist.
    """

    answers: Answers
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, url: str, headers: Mapping[str, str], body: str) -> tuple[int, dict[str, str], bytes]:
        host = urlsplit(url).hostname or ""
        host = "metadata" if host in {"metadata.google.internal", "169.254.169.254"} else host
        self.asked.append(host)
        given = self.answers.get(host, None if host == "metadata" else (200, {}))
        if given is None:
            raise ConnectionError(host)
        status, content = given
        form = dict(parse_qsl(body))
        if status == 200 and content == {}:
            content = {**_granted(host, url, form), "resource": "r"}
        more = {"Metadata-Flavor": "Google"} if content != b"<html>" else {}
        if isinstance(content, bytes):
            return status, {"Content-Type": "text/html", **more}, content
        return status, {"Content-Type": "application/json", **more}, json.dumps(content).encode()


def _granted(host: str, url: str, form: Mapping[str, str]) -> dict[str, Any]:
    if "openid-configuration" in url or "discovery" in url:
        base = "https://login.microsoftonline.com/tenant"
        return {
            "issuer": f"{base}/v2.0", "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token", "tenant_discovery_endpoint": f"{base}/openid-configuration",
            "metadata": [],
        }  # fmt: skip
    who = {"metadata": "machine", "app.internal": "platform", "127.0.0.1": "platform"}.get(host)
    if who is None and "client_secret" in form and "refresh_token" not in form:
        who = "application"
    elif who is None and form.get("client_assertion"):
        who = "pod" if form["client_assertion"].startswith("pod") else "certificate"
    elif who is None:
        kinds = {"jwt-bearer": "account", "refresh_token": "person", "token-exchange": "federated"}
        # google-auth asks for the project of a workload as well.
        who = kinds.get(form.get("grant_type", "").rpartition(":")[2], "nobody")
    # The rest is what google-auth reads besides.
    granted = {
        "access_token": who, "token_type": "Bearer", "expires_in": 3600, "email": "e", "scopes": ["s"],
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }  # fmt: skip
    return {**granted, "expires_on": 4_078_000_000} if host in {"metadata", "app.internal", "127.0.0.1"} else granted


class Adapter(adapters.BaseAdapter):  # type: ignore[misc,name-defined]
    """The world, for clients that use requests."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def send(self, request: Any, **_: Any) -> Any:
        body = request.body or ""
        body = body.decode() if isinstance(body, bytes) else body
        try:
            status, headers, content = self.world.answer(request.method, request.url, request.headers, body)
        except ConnectionError as error:
            raise requests.exceptions.ConnectionError(str(error)) from error
        response = requests.Response()
        response.status_code, response.url, response.request = status, request.url, request
        response.headers.update(headers)
        response.raw = _Raw(content)
        return response

    def close(self) -> None:
        pass


class _Raw:
    """The little of urllib3's response that requests and azure-core read."""

    enforce_content_length = False

    def __init__(self, content: bytes) -> None:
        self._left = content
        self.headers: dict[str, str] = {}
        self.reason = ""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        left, self._left = self._left, b""
        yield left

    def release_conn(self) -> None:
        pass

    close = release_conn


def session_of(world: World) -> Any:
    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter(world))
    return session


def client_of(world: World) -> httpx.AsyncClient:
    def handler(request: httpx.Request) -> httpx.Response:
        try:
            status, headers, content = world.answer(
                request.method, str(request.url), request.headers, request.content.decode()
            )
        except ConnectionError as error:
            raise httpx.ConnectError(str(error)) from error
        return httpx.Response(status, headers=headers, content=content)

    return httpx.AsyncClient(transport=httpx.MockTransport(handler))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Leave nothing in the environment but a home and a path that are empty."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "IMDS_", "MSI_", "GOOGLE_", "GCE_", "CLOUDSDK_", "NO_GCE")):
            monkeypatch.delenv(name)
    for name in ("home", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


async def ours(make: Callable[[Any], Any], world: World) -> str:
    async with client_of(world) as client:
        try:
            answer = await make(client).fetch(a_request())
        except (GrantRejected, TransientRefreshError, OSError, ValueError):
            return ERROR
    fields = answer if isinstance(answer, dict) else answer.fields
    return str(fields["access_token"])


# Google

ACCOUNT = {
    "type": "service_account", "client_email": "svc@project.iam.gserviceaccount.com", "private_key_id": "k",
    "token_uri": "https://oauth2.googleapis.com/token", "project_id": "p", "client_id": "1",
}  # fmt: skip
PERSON = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
FEDERATED = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
}  # fmt: skip
LEFT = "home/.config/gcloud/application_default_credentials.json"
MACHINE: Answers = {"metadata": (200, {})}
PORTAL: Answers = {"metadata": (200, b"<html>")}


def files_of_google(folder: Path) -> dict[str, str]:
    (folder / "subject").write_text("subject-1")
    return {
        "account": json.dumps({**ACCOUNT, "private_key": rsa_pem()}),
        "person": json.dumps(PERSON),
        "federated": json.dumps({**FEDERATED, "credential_source": {"file": str(folder / "subject")}}),
        "no subject": json.dumps({**FEDERATED, "credential_source": {"file": str(folder / "nowhere")}}),
        "bad key": json.dumps({**ACCOUNT, "private_key": "none"}),
        "no key": json.dumps(ACCOUNT),
        "no secret": json.dumps({name: value for name, value in PERSON.items() if name != "client_secret"}),
        "other type": json.dumps({"type": "surprise"}),
        "client": json.dumps({"installed": {"client_id": "c"}}),
        "list": "[]",
        "garbled": "{",
        "empty": "",
    }


GOOGLE: dict[str, tuple[str | None, str | None, Answers, str]] = {
    # The file of the variable, what gcloud left, the world, and the identity that is meant.
    "nothing": (None, None, {}, ERROR),
    "a machine": (None, None, MACHINE, "machine"),
    "a machine that is asked in vain": (None, None, {"metadata": (500, {"error": "x"})}, ERROR),
    "a portal in place of a machine": (None, None, PORTAL, ERROR),
    "a machine without an account": (None, None, {"metadata": (404, b"not found")}, ERROR),
    "an account": ("account", None, {}, "account"),
    "an account on a machine": ("account", None, MACHINE, "account"),
    "an account and a login": ("account", "person", MACHINE, "account"),
    "a named login": ("person", None, MACHINE, "person"),
    "a login": (None, "person", {}, "person"),
    "a login on a machine": (None, "person", MACHINE, "person"),
    "an account that gcloud left": (None, "account", MACHINE, "account"),
    "a federated workload": ("federated", None, MACHINE, "federated"),
    "a blank variable": ("", None, MACHINE, "machine"),
    "a missing file": ("missing", None, MACHINE, ERROR),
    "a missing file, and a login": ("missing", "person", MACHINE, ERROR),
    "a garbled file": ("garbled", None, MACHINE, ERROR),
    "an empty file": ("empty", None, MACHINE, ERROR),
    "a list": ("list", None, MACHINE, ERROR),
    "a file of another type": ("other type", "person", MACHINE, ERROR),
    "the file of a client": ("client", None, MACHINE, ERROR),
    "a key that is none": ("bad key", None, MACHINE, ERROR),
    "an account without its key": ("no key", "person", MACHINE, ERROR),
    "a login without its secret": ("no secret", None, MACHINE, ERROR),
    "a login that is garbled": (None, "garbled", MACHINE, ERROR),
    "a login that is empty": (None, "empty", MACHINE, ERROR),
    "a missing subject token": ("no subject", "person", MACHINE, ERROR),
    "an account that is deleted": (
        "account", "person", {**MACHINE, "oauth2.googleapis.com": (400, {"error": "invalid_grant"})}, ERROR,
    ),
    "a login that was revoked": (
        None, "person", {**MACHINE, "oauth2.googleapis.com": (400, {"error": "invalid_grant"})}, ERROR,
    ),
    "Google throttles": ("account", None, {**MACHINE, "oauth2.googleapis.com": (429, {"error": "x"})}, ERROR),
    "Google is down": (None, "person", {**MACHINE, "oauth2.googleapis.com": (503, {"error": "x"})}, ERROR),
    "Google is not there": ("account", None, {**MACHINE, "oauth2.googleapis.com": None}, ERROR),
    "the exchange is refused": (
        "federated", None, {**MACHINE, "sts.googleapis.com": (400, {"error": "invalid_target"})}, ERROR,
    ),
}  # fmt: skip


def of_google_auth(world: World) -> str:
    request = google_requests.Request(session_of(world))
    try:
        found, _ = google_auth.default(scopes=["s"], request=request)
        found.refresh(request)
    except Exception:  # noqa: BLE001 - any of its errors
        return ERROR
    return str(found.token)


@pytest.mark.parametrize("name", GOOGLE)
async def test_environments_of_google(name, bare, monkeypatch):
    """K1: the same identity as google-auth or an error as there; the machine's own never stands for another."""
    monkeypatch.setattr(google_metadata, "detect_gce_residency_linux", lambda: False)
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    named, left, answers, expected = GOOGLE[name]
    contents = files_of_google(bare)
    if named is not None:
        if named in contents:
            (bare / "named.json").write_text(contents[named])
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(bare / "named.json") if named else "")
    if left is not None:
        (bare / LEFT).parent.mkdir(parents=True)
        (bare / LEFT).write_text(contents[left])
    theirs = await asyncio.to_thread(of_google_auth, World(answers))
    world = World(answers)
    got = await ours(lambda client: from_environment(scopes="s", client=client), world)
    assert (got, theirs) == (expected, expected)
    if named or left:
        assert "metadata" not in world.asked


# Azure

APPLICATION = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "app"}
SECRET = {**APPLICATION, "AZURE_CLIENT_SECRET": "planted"}
PEM = {**APPLICATION, "AZURE_CLIENT_CERTIFICATE_PATH": "$/app.pem"}
POD = {**APPLICATION, "AZURE_FEDERATED_TOKEN_FILE": "$/pod"}
WEBHOOK = {**POD, "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/"}
APP = {"IDENTITY_ENDPOINT": "http://app.internal/msi", "IDENTITY_HEADER": "h"}
ML = {"MSI_ENDPOINT": "http://app.internal/msi", "MSI_SECRET": "h"}
SHELL = {"MSI_ENDPOINT": "http://app.internal/msi"}
ENTRA = "login.microsoftonline.com"
NO_IDENTITY: Answers = {"metadata": (400, {"error": "invalid_request", "error_description": "Identity not found"})}
REFUSED = (401, {"error": "invalid_client", "error_description": "AADSTS7000215: no"})
CHOICE = "AZURE_TOKEN_CREDENTIALS"

# The variables, the world, whether a person has logged in with az, the identity that is meant; and what azure-identity
# makes of it where this library is stricter.
AZURE: dict[str, tuple[dict[str, str], Answers, bool, str] | tuple[dict[str, str], Answers, bool, str, str]] = {
    "nothing": ({}, {}, False, ERROR),
    "az": ({}, {}, True, "az"),
    "a machine": ({}, MACHINE, False, "machine"),
    "a machine and az": ({}, MACHINE, True, "machine"),
    "a machine by client id": ({"AZURE_CLIENT_ID": "app"}, MACHINE, True, "machine"),
    "a machine without an identity": ({}, NO_IDENTITY, False, ERROR),
    "a machine without an identity, and az": ({}, NO_IDENTITY, True, "az"),
    "a portal, and az": ({}, PORTAL, True, "az"),
    "a client id where no machine is, and az": ({"AZURE_CLIENT_ID": "app"}, {}, True, "az"),
    "an application": (SECRET, {}, False, "application"),
    "an application on a machine": (SECRET, MACHINE, True, "application"),
    "an application with a certificate": (PEM, MACHINE, True, "certificate"),
    "an application with both": ({**PEM, **SECRET}, MACHINE, True, "application"),
    "an application in a pod": ({**SECRET, **POD}, MACHINE, True, "application"),
    "an application in App Service": ({**SECRET, **APP}, MACHINE, True, "application"),
    "an application with a wrong secret": (SECRET, {**MACHINE, ENTRA: REFUSED}, True, ERROR),
    "an application with a wrong certificate": (PEM, {**MACHINE, ENTRA: REFUSED}, True, ERROR),
    "an application with a wrong secret in a pod": ({**SECRET, **POD}, {**MACHINE, ENTRA: REFUSED}, True, ERROR),
    "an application, and Entra is down": (SECRET, {**MACHINE, ENTRA: (503, {"error": "x"})}, True, ERROR),
    "an application, and Entra throttles": (SECRET, {**MACHINE, ENTRA: (429, {"error": "x"})}, True, ERROR),
    "an application, and Entra is not there": (SECRET, {**MACHINE, ENTRA: None}, True, ERROR),
    "a missing certificate": ({**PEM, "AZURE_CLIENT_CERTIFICATE_PATH": "$/nowhere"}, MACHINE, True, ERROR),
    "a certificate that is none": ({**PEM, "AZURE_CLIENT_CERTIFICATE_PATH": "$/pod"}, MACHINE, True, ERROR),
    "a secret without an application": ({"AZURE_CLIENT_SECRET": "planted"}, MACHINE, True, "machine"),
    "a secret without a tenant": ({"AZURE_CLIENT_SECRET": "x", "AZURE_CLIENT_ID": "app"}, MACHINE, True, "machine"),
    "a tenant alone": ({"AZURE_TENANT_ID": "tenant"}, MACHINE, True, "machine"),
    "a pod": (POD, MACHINE, True, "pod"),
    "a pod by the webhook": (WEBHOOK, MACHINE, True, "pod"),
    "a pod in App Service": ({**POD, **APP}, MACHINE, True, "pod"),
    "a pod that is not known": (POD, {**MACHINE, ENTRA: REFUSED}, True, ERROR),
    "a pod, and Entra is down": (POD, {**MACHINE, ENTRA: (500, {"error": "x"})}, True, ERROR),
    "a pod without its token": ({**POD, "AZURE_FEDERATED_TOKEN_FILE": "$/nowhere"}, MACHINE, True, ERROR),
    "a pod without its client id": ({**WEBHOOK, "AZURE_CLIENT_ID": ""}, MACHINE, True, ERROR),
    "App Service": (APP, {}, False, "platform"),
    "App Service on a machine": (APP, MACHINE, True, "platform"),
    "Machine Learning": (ML, MACHINE, True, "platform"),
    "Cloud Shell": (SHELL, MACHINE, True, "platform"),
    "App Service that refuses": (APP, {**MACHINE, "app.internal": (400, {"error": "x"})}, False, ERROR),
    "Machine Learning that refuses": (ML, {**MACHINE, "app.internal": (401, {"error": "x"})}, False, ERROR),
    "Cloud Shell that refuses": (SHELL, {**MACHINE, "app.internal": (400, {"error": "x"})}, False, ERROR),
    "production on a laptop": ({CHOICE: "prod"}, {}, True, ERROR),
    "production on a machine": ({CHOICE: "PROD"}, MACHINE, True, "machine"),
    "development on a machine": ({CHOICE: "dev", **SECRET}, MACHINE, True, "az"),
    "the application alone": ({CHOICE: "EnvironmentCredential"}, MACHINE, True, ERROR),
    "the machine alone": ({CHOICE: "managedidentitycredential", **SECRET}, MACHINE, True, "machine"),
    "the pod alone": ({CHOICE: "WorkloadIdentityCredential", **SECRET, **POD}, MACHINE, True, "pod"),
    "the command alone": ({CHOICE: "AzureCliCredential", **SECRET}, MACHINE, True, "az"),
    "a choice that is none": ({CHOICE: "surprise"}, MACHINE, True, ERROR),
    "a machine that is updated, and az": ({}, {"metadata": (410, {"error": "x"})}, True, ERROR, "az"),
    "a machine that throttles, and az": ({}, {"metadata": (429, {"error": "x"})}, True, ERROR, "az"),
    "a machine that is down, and az": ({}, {"metadata": (503, {"error": "x"})}, True, ERROR, "az"),
    "a machine without the named identity": ({"AZURE_CLIENT_ID": "app"}, NO_IDENTITY, True, ERROR, "az"),
    "App Service that refuses, and az": (APP, {"app.internal": (400, {"error": "x"})}, True, ERROR, "az"),
    "a pod with an identity binding": ({**POD, "AZURE_KUBERNETES_TOKEN_PROXY": "https://p"}, {}, True, ERROR, "pod"),
    "half of App Service, and az": ({"IDENTITY_ENDPOINT": "http://app.internal/msi"}, {}, True, ERROR, "az"),
}  # fmt: skip


def of_azure_identity(world: World) -> str:
    transport = azure_transport.RequestsTransport(session=session_of(world), session_owner=False)
    options = {"exclude_shared_token_cache_credential": True, "exclude_broker_credential": True, "retry_total": 0}
    if not os.environ.get(CHOICE):
        options["exclude_visual_studio_code_credential"] = True
    try:
        found = azure_identity.DefaultAzureCredential(transport=transport, **options)
        return str(found.get_token(SCOPE).token)
    except Exception:  # noqa: BLE001 - any of its errors
        return ERROR


@pytest.mark.parametrize("name", AZURE)
async def test_environments_of_azure(name, bare, monkeypatch):
    """K1: the same identity as azure-identity or an error as there; where they differ, an error stands in its place."""
    variables, answers, logged_in, expected, *differs = AZURE[name]
    (bare / "app.pem").write_text(certificate())
    (bare / "pod").write_text("pod")
    if logged_in:
        told = {"accessToken": "az", "expires_on": 4078000000, "expiresOn": "2099-03-01 00:00:00.000000"}
        (bare / "bin" / "az").write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
        (bare / "bin" / "az").chmod(0o755)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.replace("$", str(bare)))
    theirs = await asyncio.to_thread(of_azure_identity, World(answers))
    world = World(answers)
    got = await ours(lambda client: azure.from_environment(SCOPE, client=client), world)
    assert (got, theirs) == (expected, *(differs or [expected]))
    assert not differs or got == ERROR
