"""The guide to operations: its worker, its manifest, its runbook and its program for an incident."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from tests.docs.files import ROOT, environ, fences_of, files_of

from evertoken import Grant, GrantRejected, TokenManager, TransientRefreshError
from evertoken.sources import RefreshToken
from evertoken.stores import FileStore
from evertoken.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = "how-to/operations.md"
DEPLOYMENT, SECRET = yaml.safe_load_all(fences_of(PAGE, "yaml")[0])
POD = DEPLOYMENT["spec"]["template"]["spec"]
(WORKER,) = POD["containers"]
VALUES = {variable["name"]: variable["value"] for variable in WORKER["env"]}


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def probe(name: str, health: str, settings: dict[str, str]) -> int:
    """Run the command of a probe of the manifest."""
    command = [part.replace(VALUES["HEALTH_FILE"], health) for part in WORKER[name]["exec"]["command"]]
    return subprocess.run([sys.executable, *command[1:]], check=False, env=settings, timeout=30).returncode


@pytest.mark.breakage
def test_the_worker(tmp_path):
    """The worker runs with the manifest's variables: probes, metrics, a rotated secret, and SIGTERM."""
    (tmp_path / "worker.py").write_text(files_of(PAGE)["worker.py"])
    secret, health = tmp_path / "client-secret", tmp_path / "health"
    secret.write_text(SECRET["stringData"]["client-secret"])
    secret.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with TokenServer(lifetime=20) as server:
        server.add_client(VALUES["CLIENT_ID"], secret.read_text())
        places = {
            "API": server.resource,
            "TOKEN_ENDPOINT": server.token_endpoint,
            "CLIENT_SECRET_FILE": str(secret),
            "HEALTH_FILE": str(health),
        }
        settings = environ(**VALUES, METRICS_PORT=str(port)) | places
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "worker.py"], cwd=tmp_path, env=settings, stderr=log)
        try:
            until(lambda: server.stats.resource_requests)
            until(health.exists)
            assert probe("livenessProbe", str(health), settings) == 0
            assert probe("readinessProbe", str(health), settings) == 0
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
                assert 'evertoken_keys_valid{manager="billing"} 1.0' in page.read().decode()

            # The provider drops the old secret before the file has the new one.
            server.grants.clients[VALUES["CLIENT_ID"]] = "n3w"
            server.revoke_all()
            until(lambda: server.stats.by_outcome.get("invalid_client"))
            draft = tmp_path / "draft"
            draft.write_text("n3w")
            draft.chmod(0o600)
            draft.replace(secret)
            until(lambda: server.stats.by_outcome["issued"] == 2)
            assert process.poll() is None

            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (tmp_path / "log").read_text()
            assert not health.exists()
        finally:
            process.kill()
            process.wait(30)


def test_the_manifest():
    """The manifest is YAML whose parts fit each other and the worker."""
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    worker = files_of(PAGE)["worker.py"]
    assert set(VALUES) == set(re.findall(r'os\.environ\["(\w+)"\]', worker))
    mounts = {mount["name"]: mount["mountPath"] for mount in WORKER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert volumes["secret"]["secret"]["secretName"] == SECRET["metadata"]["name"]
    assert VALUES["CLIENT_SECRET_FILE"] == f"{mounts['secret']}/{next(iter(SECRET['stringData']))}"
    assert VALUES["HEALTH_FILE"].startswith(f"{mounts['run']}/")
    port = WORKER["ports"][0]["containerPort"]
    assert f'"METRICS_PORT", "{port}"' in worker
    assert DEPLOYMENT["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(port)


def test_the_runbook():
    """The runbook has a row for each alert."""
    rules = yaml.safe_load((ROOT / "docs" / "_static" / "evertoken-alerts.yaml").read_text())
    alerts = [rule["alert"] for rule in rules["groups"][0]["rules"]]
    page = (ROOT / "docs" / PAGE).read_text()
    assert re.findall(r"^\| `(Evertoken\w+)` \|", page, re.MULTILINE) == alerts


@pytest.mark.breakage
async def test_the_incident(tmp_path):
    """K6: the program signs out every login: at the server, and in a process that runs on the same store."""
    (tmp_path / "revoke_all.py").write_text(files_of(PAGE)["revoke_all.py"])
    with TokenServer() as server:
        client = server.oauth_client(token_endpoint=None, issuer=server.url)
        store = FileStore(tmp_path / "tokens")
        async with TokenManager(source_for=lambda key: RefreshToken(client, subject=key), store=store) as service:
            for key in ("alice", "bob"):
                await service.put(Grant(server.issue_grant(key)), key)
                await service.get(key)
            settings = environ(ISSUER=server.url, CLIENT_SECRET="s3cret", STORE=str(tmp_path / "tokens"))
            done = subprocess.run(
                [sys.executable, "revoke_all.py"],
                check=False,
                cwd=tmp_path,
                env=settings,
                input="alice\nbob\n",
                text=True,
                capture_output=True,
                timeout=60,
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert sorted(done.stdout.splitlines()) == ["signed out alice", "signed out bob"]
            assert all(family.revoked for family in server.grants.families.values())
            for key in ("alice", "bob"):
                async with asyncio.timeout(30):
                    while (await service.status(key)).status != "signed_out":
                        await asyncio.sleep(0.02)
                with pytest.raises(GrantRejected):
                    await service.get(key)
            assert service.health().ready


class Unreachable(httpx.AsyncHTTPTransport):
    """Cuts off the revocation endpoint."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/revoke":
            raise httpx.ConnectError("no route to host")
        return await super().handle_async_request(request)


async def test_the_incident_while_the_provider_is_down(tmp_path):
    """The key is out of service although the provider could not be told, as the page says."""
    with TokenServer() as server:
        async with httpx.AsyncClient(transport=Unreachable()) as http:
            client = server.oauth_client(token_endpoint=None, issuer=server.url, http_client=http)
            store = FileStore(tmp_path / "tokens")
            async with TokenManager(source_for=lambda key: RefreshToken(client, subject=key), store=store) as service:
                await service.put(Grant(server.issue_grant("alice")), "alice")
                await service.get("alice")
                for _ in range(2):
                    with pytest.raises(TransientRefreshError):
                        await service.revoke("alice")
                assert (await service.status("alice")).status == "signed_out"
                with pytest.raises(GrantRejected):
                    await service.get("alice")
                assert service.health().ready
