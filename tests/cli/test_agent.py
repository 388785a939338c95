"""`evertoken agent`, as a process: signals, kill -9, a store that is down, a secret that is rotated, its socket."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from tests.cli.world import BILLING, SECRET, World

pytestmark = pytest.mark.breakage

AGENT = """
[agent]
socket = "agent.sock"
health_file = "health"
"""
FILE = 'write_to = "billing"\n'


def ask(world: World, *requests: Any) -> list[Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(world.folder / "agent.sock"))
        for request in requests:
            connection.sendall(request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as file:
            return [json.loads(line) for _ in requests if (line := file.readline())]


def token_in(world: World) -> str | None:
    path = world.folder / "billing"
    return path.read_text() if path.exists() else None


def running(world: World, agent: Any) -> Any:
    agent.until(lambda: "serving" in agent.said)
    return agent.until(lambda: token_in(world))


def test_one_agent_serves_files_and_socket(world):
    """R3: the file, the socket and the commands have the same token, which was fetched once; both are private."""
    world.write(BILLING + FILE + AGENT)
    with world.start("agent") as agent:
        token = running(world, agent)
        assert world.run("get", "billing").stdout == token
        assert world.run("exec", "billing=A", "--", "sh", "-c", 'echo "$A"').stdout == token
        assert "fresh" in world.run("top").stdout
        assert len(world.server.requests) == 1
        for name in ("billing", "agent.sock"):
            assert stat.S_IMODE((world.folder / name).stat().st_mode) == 0o600
        # It is written every few seconds, and the first time before there is a token.
        assert agent.until(lambda: json.loads((world.folder / "health").read_text())["ready"])
        assert agent.end(signal.SIGTERM) == 0
    assert sorted(path.name for path in world.folder.iterdir() if "log" not in path.name) == [
        "billing", "evertoken.toml", "secret",
    ]  # fmt: skip
    assert SECRET not in agent.said
    assert token.strip() not in agent.said


PROTOCOL = [
    ({"op": "health"}, {"ok": True}),
    ({"op": "get", "name": "billing"}, {"ok": True}),
    ({"op": "get", "name": "billing", "min_ttl": 60, "timeout": 1.5}, {"ok": True}),
    ({"op": "top"}, {"ok": True}),
    ({"op": "refused", "name": "billing", "access_token": "another"}, {"ok": True}),
    ({"op": "get", "name": "biling"}, {"error": "unknown"}),
    ({"op": "get"}, {"error": "invalid"}),
    ({"op": "get", "name": 7}, {"error": "invalid"}),
    ({"op": "get", "name": "billing", "min_ttl": "x"}, {"error": "invalid"}),
    ({"op": "get", "name": "billing", "timeout": -1}, {"error": "invalid"}),
    ({"op": "get", "name": "billing", "timeout": True}, {"error": "invalid"}),
    ({"op": "get", "name": "billing", "key": "x"}, {"error": "invalid"}),
    ({"op": "refused", "name": "billing"}, {"error": "invalid"}),
    ({"op": "nothing"}, {"error": "invalid"}),
    ({"op": ["get"]}, {"error": "invalid"}),
    ({}, {"error": "invalid"}),
    (b"[]\n", {"error": "invalid"}),
    (b"nothing\n", {"error": "invalid"}),
    (b"\xff\n", {"error": "invalid"}),
    (b"\n", {"error": "invalid"}),
    (b"[" * 50_000 + b"\n", {"error": "invalid"}),
]


def test_the_protocol(world):
    """Each request has its answer, in order, on one connection. A malformed request gets an error and harms nobody."""
    world.write(BILLING + FILE + AGENT)
    with world.start("agent") as agent:
        token = running(world, agent)
        answers = ask(world, *[request for request, _ in PROTOCOL])
        assert len(answers) == len(PROTOCOL)
        for (request, expected), answer in zip(PROTOCOL, answers, strict=True):
            assert expected.items() <= answer.items(), request
            assert answer["ok"] or answer["message"], request
        assert answers[1]["token"]["access_token"] == token.strip()
        assert answers[5]["message"].endswith("there is no source 'biling' (did you mean 'billing'?)")
        with contextlib.suppress(ConnectionError):
            assert ask(world, b"x" * 1_100_000 + b"\n") == []
        agent.until(lambda: "a line has at most 1048576 bytes" in agent.said)
        # A token that was refused is replaced.
        new = ask(world, {"op": "refused", "name": "billing", "access_token": token.strip()})[0]["token"]
        agent.until(lambda: token_in(world) == new["access_token"] + "\n" != token)


def test_connections_that_stay(world):
    """Connections that ask nothing keep nobody from asking, nor the agent from ending."""
    world.write(BILLING + FILE + AGENT)
    with world.start("agent") as agent:
        running(world, agent)
        idle = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for connection in idle:
            connection.connect(str(world.folder / "agent.sock"))
            connection.sendall(b'{"op": "get"')
        assert ask(world, {"op": "health"})[0]["ok"]
        begun = time.monotonic()
        assert agent.end(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 10
        for connection in idle:
            connection.close()


def test_sigterm_drains(world):
    """L1: a request that waits for a fetch is answered before the agent ends."""
    world.write(BILLING + AGENT)
    world.server.latency = 1.5
    answers: list[Any] = []
    with world.start("agent") as agent:
        agent.until(lambda: "serving" in agent.said)
        asking = threading.Thread(target=lambda: answers.extend(ask(world, {"op": "get", "name": "billing"})))
        asking.start()
        agent.until(lambda: world.server.requests)
        time.sleep(0.2)
        assert agent.end(signal.SIGTERM) == 0
        asking.join(10)
    assert answers[0]["ok"], answers


BROKEN = [
    "no toml [",
    BILLING.replace("client_id", "clientid") + FILE + AGENT,
    BILLING.replace('"secret"', '"nowhere"') + FILE + AGENT,
    BILLING + 'write_to = "no/such/folder"\n' + AGENT,
    BILLING + FILE + "rate_limit = {{ requests = 0, per = 1 }}\n" + AGENT,
    "",
]


def test_sighup_refuses_what_is_broken(world):
    """A broken configuration is refused with its mistake, and the old one goes on; a good one is taken."""
    world.write(BILLING + FILE + AGENT)
    with world.start("agent") as agent:
        token = running(world, agent)
        for number, text in enumerate(BROKEN, 1):
            world.rewrite(world.config, text.format(token_endpoint=world.server.token_endpoint))
            agent.signal(signal.SIGHUP)
            agent.until(lambda number=number: agent.said.count("old") >= number)
            assert world.run("get", "billing", "--socket", str(world.folder / "agent.sock")).stdout == token
        assert "clientid: unknown key (did you mean 'client_id'?)" in agent.said
        world.write(BILLING + FILE + BILLING.replace("billing", "second") + 'write_to = "second"\n' + AGENT)
        agent.signal(signal.SIGHUP)
        agent.until((world.folder / "second").exists)
        assert token_in(world) == token
        # That of the source that stayed as it was goes on, and is not fetched again.
        assert len(world.server.requests) == 2
        assert agent.end() == 0


def test_kill_and_again(world):
    """After kill -9, at any moment, the file is whole, the socket is taken over, and no draft is left."""
    world.write(BILLING + FILE + AGENT)
    world.server.lifetime = 2.0
    seen: set[str] = set()
    for _ in range(4):
        with world.start("agent") as agent:
            agent.until(lambda: "serving" in agent.said)
            first = agent.until(lambda: token_in(world))
            agent.until(lambda first=first: token_in(world) != first)
            agent.end(signal.SIGKILL)
            content = token_in(world)
            assert content is not None
            assert content.endswith("\n")
            seen.add(content)
    with world.start("agent") as agent:
        agent.until(lambda: token_in(world) not in seen)
        assert not list(world.folder.glob(".billing.*"))
        assert ask(world, {"op": "health"})[0]["ok"]
        assert agent.end() == 0


def test_a_second_agent_is_refused(world):
    """Two agents do not take the socket from each other."""
    world.write(BILLING + FILE + AGENT)
    with world.start("agent") as agent:
        agent.until(lambda: "serving" in agent.said)
        agent.until(lambda: len(world.server.requests) == 1)
        second = world.run("agent")
        assert len(world.server.requests) == 1
        assert (second.returncode, "another agent listens at" in second.stderr) == (1, True)
        assert "no longer updated" not in second.stderr
        assert ask(world, {"op": "health"})[0]["ok"]


def test_a_store_that_is_down(world):
    """K3: while its store is down, the agent serves the tokens that it can mint, and says so."""
    world.write('namespace = "x"\n[store]\nurl = "redis://127.0.0.1:1/0"\n' + BILLING + FILE + AGENT)
    with world.start("agent") as agent:
        token = running(world, agent)
        assert world.run("get", "billing").stdout == token
        assert "StoreFailed" in agent.said
        assert agent.end() == 0


def test_a_secret_that_is_rotated(world):
    """F4: a new secret in its file is presented at once, and the file never holds an expired token."""
    world.server.lifetime = 3.0
    world.write(BILLING + FILE + AGENT)
    with world.start("agent") as agent:
        first = running(world, agent)
        world.server.add_client("svc", "rotated-s3cret-2")
        world.rewrite(world.secret, "rotated-s3cret-2")
        agent.until(lambda: token_in(world) != first)
        assert "RefreshRejected" not in agent.said
        assert agent.end() == 0
        assert "s3cret" not in agent.said


def test_a_store_is_shared_with_the_commands(world):
    """K2: where no agent runs, a command takes the token from the store, and asks the server once in all."""
    world.write('namespace = "x"\n[store]\nurl = "file:{folder}/tokens"\n' + BILLING)
    tokens = {world.run("get", "billing").stdout for _ in range(3)}
    assert (len(tokens), len(world.server.requests)) == (1, 1)


def test_health_over_http(world):
    """The health of the agent is at a loopback address: alive and ready, or not."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    world.write(BILLING + FILE + AGENT + f'health_address = "127.0.0.1:{port}"\n')
    status = world.server.fail(500)
    with world.start("agent") as agent:
        agent.until(lambda: "serving" in agent.said)

        def answer(path: str) -> int:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
                    return int(response.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert (answer("/livez"), answer("/readyz"), answer("/")) == (200, 503, 404)
        status.heal()
        assert world.run("get", "billing", "--timeout", "20").returncode == 0
        assert answer("/readyz") == 200
        assert agent.end() == 0


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ("a file", "exists, and is not a socket"),
        ("an open folder", "the socket needs a safe folder: others may write to"),
        ("no folder", "No such file or directory"),
        ("a long name", "the path of the socket is too long: '"),
    ],
)
def test_where_no_socket_can_be(world, before, says):
    """S3: a socket where others could put theirs, or in the place of a file, is refused."""
    folder = world.folder / "run"
    world.write(BILLING + AGENT.replace("agent.sock", f"run/{'x' * 120 if before == 'a long name' else 'agent.sock'}"))
    if before != "no folder":
        folder.mkdir()
        folder.chmod(0o777 if before == "an open folder" else 0o700)
    if before == "a file":
        (folder / "agent.sock").write_text("mine")
    done = world.run("agent")
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    assert before != "a file" or (folder / "agent.sock").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gets_nothing(world):
    """A connection of another user is closed without an answer, also where the mode of the socket let it in."""
    world.write(BILLING + FILE + AGENT)
    with world.start("agent") as agent:
        running(world, agent)
        (world.folder / "agent.sock").chmod(0o666)
        opened = [path for path in world.folder.parents if not path.stat().st_mode & 0o001]
        modes = {path: path.stat().st_mode for path in (*opened, world.folder)}
        for path in modes:
            path.chmod(0o755)
        try:
            pid = os.fork()
            if not pid:
                os.setuid(12345)
                try:
                    os._exit(len(ask(world, {"op": "health"})))
                except OSError:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        finally:
            for path, mode in modes.items():
                path.chmod(stat.S_IMODE(mode))
        agent.until(lambda: "a connection of another user (uid 12345) was refused" in agent.said)
