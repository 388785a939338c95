"""No source holds up the loop: files are read, keys are used and commands are run elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError, blockbuster_ctx
from tests.sources.keys import certificate, ec_pem, rsa_pem
from tests.sources.wire import Asked, Wire, a_request, granted, http

from evertoken import DPoPKey
from evertoken.sources import (
    Assertion,
    ClientCredentials,
    Command,
    GitHubApp,
    JwtBearer,
    LoginEndpoint,
    OAuthClient,
    PrivateKeyJwt,
    RefreshToken,
    TokenFile,
    aws,
    azure,
    google,
    vault,
)

ARN = "arn:aws:iam::123456789012:role/r"
KEYS = {"AccessKeyId": "AKID", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "2035-01-01T00:00:00Z"}
STS = "".join(f"<{name}>{value}</{name}>" for name, value in KEYS.items())


async def answer(asked: Asked, writer: Any) -> bytes:
    if asked.target.endswith("/login"):
        return http(200, {"auth": {"client_token": "t", "lease_duration": 100, "renewable": True}})
    if asked.target.endswith("/access_tokens"):
        return http(201, {"token": "t", "expires_at": "2035-01-01T00:00:00Z"})
    if asked.target == "/":
        return http(200, f"<a>{STS}</a>".encode())
    return granted(token="t")


def slow() -> str:
    time.sleep(0.01)
    return "secret"


SOURCES: dict[str, Callable[[Wire, Path], Any]] = {
    "file": lambda _, folder: TokenFile(folder / "secret"),
    "command": lambda _, folder: Command([sys.executable, "-c", "print('t')"]),
    "secret in a file": lambda wire, folder: ClientCredentials(
        OAuthClient(token_endpoint=wire.url(), client_id="a", client_secret=folder / "secret")
    ),
    "secret of a function": lambda wire, _: RefreshToken(
        OAuthClient(token_endpoint=wire.url(), client_id="a", client_secret=slow), refresh_token=slow
    ),
    "key in a file": lambda wire, folder: ClientCredentials(
        OAuthClient(token_endpoint=wire.url(), client_id="a", client_auth=PrivateKeyJwt(folder / "key.pem"))
    ),
    "assertion": lambda wire, folder: JwtBearer(
        OAuthClient(token_endpoint=wire.url()), Assertion(folder / "key.pem", issuer="me")
    ),
    "login": lambda wire, folder: LoginEndpoint(wire.url(), json={"a": folder / "secret"}),
    "github": lambda wire, folder: GitHubApp("app", 1, folder / "key.pem", api=wire.url("")),
    "vault": lambda wire, folder: vault.AppRole(wire.url(""), "role", folder / "secret"),
    "google": lambda _, folder: google.CredentialsFile(folder / "google.json"),
    "azure": lambda wire, folder: azure.ClientCertificate(
        folder / "certificate.pem", tenant_id="t", client_id="a", scope="https://r/.default", authority=wire.url("")
    ),
    "profile": lambda wire, folder: aws.Profile(
        "role", credentials_file=folder / "credentials", config_file=folder / "config", sts_endpoint=wire.url("/")
    ),
    "process": lambda wire, folder: aws.Profile(
        "process", credentials_file=folder / "credentials", config_file=folder / "config"
    ),
}


@pytest.mark.parametrize("name", SOURCES)
async def test_nothing_blocks(name, tmp_path):
    """F7: nothing that a source does waits for a disk, a command or somebody's function on the loop."""
    async with Wire(answer) as wire:
        (tmp_path / "secret").write_text("secret\n")
        (tmp_path / "key.pem").write_text(rsa_pem())
        (tmp_path / "certificate.pem").write_text(certificate())
        account = {"type": "service_account", "client_email": "a@b", "private_key": rsa_pem()}
        (tmp_path / "google.json").write_text(json.dumps({**account, "token_uri": wire.url()}))
        (tmp_path / "credentials").write_text("[base]\naws_access_key_id=a\naws_secret_access_key=b\n")
        process = f"{sys.executable} -c 'print({json.dumps(json.dumps({'Version': 1, **KEYS}))})'"
        (tmp_path / "config").write_text(
            f"[profile role]\nrole_arn={ARN}\nsource_profile=base\n[profile process]\ncredential_process={process}\n"
        )
        source = SOURCES[name](wire, tmp_path)
        # The first request of a process imports its modules, in a thread.
        await source.fetch(a_request())
        with blockbuster_ctx("evertoken"):
            await source.fetch(a_request())


async def test_the_guard_sees(tmp_path):
    """The search finds its target: a key that is read at construction, and not at a fetch, is found."""
    (tmp_path / "key.pem").write_text(ec_pem())
    with blockbuster_ctx("evertoken"), pytest.raises(BlockingError):
        DPoPKey(tmp_path / "key.pem")
