"""A fleet of real processes with a refresh token that rotates: killed and stopped at each step, and started again."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from tests.stores.own_tables import logins

from evertoken.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stores.servers import Server

pytestmark = [
    pytest.mark.breakage,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals"),
]

#: Seconds; the lease lasts half of it.
LIFETIME = 4.0


class Member:
    """One process, and its output."""

    def __init__(self, task: dict[str, Any]) -> None:
        command = [sys.executable, str(Path(__file__).parent / "member.py"), json.dumps(task)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def said(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def tell(self, *words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def ask(self, *words: str) -> list[str]:
        self.tell(*words)
        return self.said()

    def stand_at(self, step: str) -> None:
        """Let it refresh until it stands still at *step*; it may have adopted what a peer fetched meanwhile."""
        self.ask("stop", step)
        said: list[str] = []
        while said != ["at", step]:
            self.tell("refresh")
            said = self.said()
            assert said, "it ended"


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with TokenServer(lifetime=LIFETIME) as server:
        yield server


@pytest.fixture(params=["file", "valkey", "postgres", "own-postgres", "own-mariadb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    if request.param == "file":
        return [str(tmp_path / "tokens")]
    running: Server = request.getfixturevalue(f"{request.param.removeprefix('own-')}_server")
    name = f"m{uuid4().hex}"
    if request.param.startswith("own-"):
        # A table of a user's, which a program of the user's has made.
        url = f"postgresql+psycopg://evertoken@127.0.0.1:{running.port}/postgres"
        if request.param == "own-mariadb":
            url = f"mysql+pymysql://root@127.0.0.1:{running.port}/evertoken?charset=utf8mb4"
        engine = sa.create_engine(url)
        logins(sa.MetaData(), key=sa.String(700), name=name).create(engine)
        engine.dispose()
        return [url.replace("pymysql", "asyncmy"), name]
    if request.param == "valkey":
        return [f"redis://127.0.0.1:{running.port}/0", f"{name}:"]
    return [f"postgresql://evertoken@127.0.0.1:{running.port}/postgres", name]


@pytest.fixture
def fleet(server: TokenServer, store: list[str]) -> Iterator[Any]:
    """Return a function that starts a member."""
    refresh_token = server.issue_grant()
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> Member:
            endpoint = {"token_endpoint": server.token_endpoint, "refresh_token": refresh_token}
            member = Member({"store": store, **endpoint, **options})
            stack.enter_context(member.process)
            stack.callback(member.process.kill)
            return member

        yield start


@pytest.mark.parametrize("step", ["begun", "marked", "answered", "committed"])
def test_killed_at_each_step(server, fleet, step):
    """K2, K4: after `kill -9` of the holder a peer takes over within the lease; what nobody can know is reported."""
    # Like a server that tolerates lost answers: the spent refresh token is good for a while.
    server.grace = 60.0 if step == "answered" else 0.0
    holder, peer = fleet(), fleet()
    (_, first), (_, same) = holder.said(), peer.said()
    assert (first, server.stats.token_requests) == (same, 1)
    holder.stand_at(step)
    holder.process.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    token, ambiguous = peer.ask("refresh")

    assert token != first
    # No lease is longer than half a lifetime; the rest is for a machine with much to do.
    assert time.monotonic() - begun < LIFETIME / 2.0 + 6.0
    assert server.stats.replays == 0
    assert (int(ambiguous) > 0) is (step in {"marked", "answered"})
    # The grant is alive.
    assert peer.ask("refresh")[0] not in {first, token}
    assert server.stats.replays == 0


def test_killed_in_flight(server, fleet):
    """K4: where a second use would end the grant, the request whose answer is lost is not sent again, and said so."""
    server.reuse_revokes_family = True
    # So that it is valid still when the lease has ended, which is ten seconds then.
    server.lifetime = 40.0
    holder, peer = fleet(on_ambiguous="reject"), fleet(on_ambiguous="reject")
    holder.said()
    _, first = peer.said()
    server.latency = 1.0
    holder.tell("refresh")
    end = time.monotonic() + 10.0
    while server.stats.token_requests < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    holder.process.send_signal(signal.SIGKILL)
    said, ambiguous = peer.ask("refresh")

    assert (said, int(ambiguous) > 0) == ("GrantRejected", True)
    assert server.stats.replays == 0
    # The valid token stays in service.
    assert peer.ask("get")[0] == first


@pytest.mark.parametrize("step", ["begun", "answered"])
def test_stopped_past_its_lease(server, fleet, step):
    """K2: a holder stopped past its lease and resumed presents nothing, and adopts the newer token of a peer."""
    server.grace = 60.0 if step == "answered" else 0.0
    holder, peer = fleet(), fleet()
    (_, first), _ = holder.said(), peer.said()
    holder.stand_at(step)
    holder.process.send_signal(signal.SIGSTOP)
    newer, _ = peer.ask("refresh")
    assert newer != first
    fetched = server.stats.token_requests
    holder.process.send_signal(signal.SIGCONT)
    holder.tell("go")
    adopted, _ = holder.said()
    known = {newer}
    if server.stats.token_requests > fetched:
        # It was stopped for so long that the newer one was due as well.
        known.add(peer.ask("get")[0])

    assert adopted in known
    assert holder.ask("get")[0] == peer.ask("get")[0]
    assert server.stats.replays == 0


@pytest.mark.parametrize("store", ["file", "valkey"], indirect=True)
def test_eight_with_a_token_that_rotates(server, fleet):
    """K1, K2: eight processes spend each refresh token once, make one fetch a lifetime, and the grant lives on."""
    members = [fleet() for _ in range(8)]
    seen = {members[0].said()[1]}
    begun = time.monotonic()
    for member in members[1:]:
        seen.add(member.said()[1])
    while time.monotonic() < begun + 14.0:
        for member in members:
            token, ambiguous = member.ask("get")
            assert (len(token), ambiguous) == (8, "0")
            seen.add(token)
    took = time.monotonic() - begun
    assert server.stats.replays == 0
    # The lead is a fifth of the lifetime, and jitter takes a tenth of that more at most.
    assert took / LIFETIME <= server.stats.token_requests <= took / (LIFETIME * 0.78) + 3
    assert len(seen) >= 3
    assert members[0].ask("refresh")[0] not in {"GrantRejected", "TokenUnavailable", *seen}
    assert server.stats.replays == 0


def test_signed_out_in_all(server, fleet):
    """K3: what one process signs out no other serves for the rest of its hour, nor one that starts after it."""
    server.lifetime = 3600.0
    members = [fleet() for _ in range(3)]
    (_, token), *_ = [member.said() for member in members]
    assert members[0].ask("revoke") == ["revoked"]
    begun = time.monotonic()
    for member in members:
        while (said := member.ask("get")[0]) == token:
            assert time.monotonic() - begun < 10.0
            time.sleep(0.02)
        assert said == "GrantRejected"
    late = fleet()
    assert late.said() == []
    assert server.stats.token_requests == 1


def test_restart_of_all(server, fleet):
    """K2: workers that all start again while the token is valid fetch nothing."""
    server.lifetime = 3600.0
    for _ in range(2):
        members = [fleet() for _ in range(3)]
        assert len({tuple(member.said()) for member in members}) == 1
        for member in members:
            assert member.process.stdin is not None
            member.process.stdin.close()
        for member in members:
            assert member.process.wait(20.0) == 0
    assert server.stats.token_requests == 1
