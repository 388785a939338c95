"""Starts and stops the servers that others wrote."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.lacking import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class DjangoServer:
    """A running django-oauth-toolkit, and who may come."""

    url: str
    refresh_tokens: list[str]
    machine: tuple[str, str]
    login: tuple[str, str]
    alice: tuple[str, str]

    @property
    def issuer(self) -> str:
        return f"{self.url}/o"

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/o/token/"

    @property
    def resource(self) -> str:
        return f"{self.url}/me"


@dataclass(frozen=True)
class AuthlibServer:
    """A running Authlib, which knows a client by each algorithm, and their private keys."""

    url: str
    keys: dict[str, str]
    secret: str

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/token"


@dataclass(frozen=True)
class MotoServer:
    """A running moto."""

    url: str


@pytest.fixture(scope="module")
def django_server() -> Iterator[DjangoServer]:
    """A server whose access tokens live three seconds."""
    with _running("django-oauth-toolkit", "oauth2_provider", "django_server", "3") as ready:
        yield DjangoServer(
            url=ready["url"],
            refresh_tokens=ready["refresh_tokens"],
            machine=("machine+client/1", "s3 cret:&=%é"),
            login=("login-client", "another-s3cret"),
            alice=("alice", "wonder land&=é"),
        )


@pytest.fixture(scope="module")
def authlib_server() -> Iterator[AuthlibServer]:
    """A server of clients that sign."""
    with _running("authlib", "authlib", "authlib_server") as ready:
        yield AuthlibServer(url=ready["url"], keys=ready["keys"], secret=ready["secret"])


@pytest.fixture(scope="module")
def moto_server() -> Iterator[MotoServer]:
    """The metadata service of an instance, and the Security Token Service."""
    with _running("moto", "moto", "moto_server") as ready:
        yield MotoServer(url=ready["url"])


@contextlib.contextmanager
def _running(distribution: str, module: str, script: str, *arguments: str) -> Iterator[dict[str, Any]]:
    if importlib.util.find_spec(module) is None:
        unavailable(f"{distribution} is not installed")
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", f"tests.thirdparty.{script}", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert process.stdout is not None
        ready: dict[str, Any] = json.loads(process.stdout.readline())
        yield ready
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
