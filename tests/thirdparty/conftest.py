"""
Starts and stops the servers that others wrote.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class DjangoServer:
    """
    A running django-oauth-toolkit, and who may come.
    """

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


@pytest.fixture(scope="module")
def django_server() -> Iterator[DjangoServer]:
    """
    A server whose access tokens live three seconds.
    """
    if importlib.util.find_spec("oauth2_provider") is None:
        reason = "django-oauth-toolkit is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    script = Path(__file__).with_name("django_server.py")
    process = subprocess.Popen([sys.executable, str(script), "3"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield DjangoServer(
            url=ready["url"],
            refresh_tokens=ready["refresh_tokens"],
            machine=("machine+client/1", "s3 cret:&=%é"),
            login=("login-client", "another-s3cret"),
            alice=("alice", "wonder land&=é"),
        )
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
