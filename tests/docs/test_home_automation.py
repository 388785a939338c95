"""The program of the guide to home automation: login, power cut, restart, dead grant, new login."""

from __future__ import annotations

import configparser
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.docs.device_server import device_server
from tests.docs.files import environ, fences_of, files_of

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = "how-to/home-automation.md"


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.breakage
def test_the_program(tmp_path):
    """K1: one login outlives kill -9 and a restart; a revoked grant brings one notification, a new login heals it."""
    server, flow = device_server("heating", lifetime=60)
    (tmp_path / "heating.py").write_text(files_of(PAGE)["heating.py"])
    with server:
        settings = environ(
            HEATING_PROVIDER=server.url,
            HEATING_API=server.resource,
            HEATING_NOTIFY=f"{server.url}/notify",
            HEATING_FOLDER=str(tmp_path / "tokens"),
            HEATING_EVERY="0.1",
        )
        log = tmp_path / "log"

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            with log.open("ab") as file:
                command = [sys.executable, "heating.py", *arguments]
                return subprocess.Popen(command, cwd=tmp_path, env=settings, stdout=file, stderr=file)

        def login() -> None:
            flow.approved, before = False, flow.polls
            process = start("login")
            try:
                until(lambda: flow.polls > before)
                flow.approved = True
                assert process.wait(30) == 0, log.read_text()
            finally:
                process.kill()

        def served() -> int:
            return server.stats.resource_requests

        service = start()
        until(lambda: flow.notices)
        service.terminate()
        assert service.wait(30) == 0, log.read_text()
        assert "Please run: heating.py login" in flow.notices.pop()
        login()
        assert "enter WDJB-MJHT" in log.read_text()
        service = start()
        try:
            until(lambda: served() > 2)
            service.send_signal(signal.SIGKILL)
            service.wait(30)
            before = served()
            service = start()
            until(lambda: served() > before + 2)
            assert server.stats.token_requests == 1  # the token of the login, kept in the file, is in use still
            server.revoke_all()
            until(lambda: server.stats.token_requests == 2)
            assert server.stats.replays == 0

            (family,) = {id(one): one for one in server.grants.families.values()}.values()
            server.revoke_grant(family.current)
            until(lambda: flow.notices)
            assert "Please run: heating.py login (invalid_grant" in flow.notices[0]
            service.send_signal(signal.SIGKILL)
            service.wait(30)
            service = start()
            until(lambda: len(flow.notices) == 2)
            login()
            healed = log.stat().st_size
            until(lambda: b"temperature:" in log.read_bytes()[healed:])
            assert len(flow.notices) == 2
            service.send_signal(signal.SIGTERM)
            assert service.wait(30) == 0, log.read_text()
        finally:
            service.kill()
            service.wait(30)


def test_the_unit():
    """The systemd unit runs the program that the page shows, and its folder is the user's own."""
    unit = configparser.ConfigParser()
    unit.optionxform = str
    unit.read_string(fences_of(PAGE, "ini")[0])
    assert unit["Service"]["ExecStart"].endswith(next(iter(files_of(PAGE))))
    assert unit["Service"]["StateDirectoryMode"] == "0700"
