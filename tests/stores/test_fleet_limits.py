"""A fleet of real processes that shares the rate and the budget of a provider, over real HTTP and a real store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from evertoken import RateLimit
from evertoken.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.breakage,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals"),
]

ROOT = Path(__file__).parents[2]


class Member:
    """One process."""

    def __init__(self, task: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "tests.stores.limited", json.dumps(task)]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
        )

    def said(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


@pytest.fixture(params=["valkey", "postgres"])
def fleet(request) -> Iterator[Any]:
    """Return a function that starts a member, and waits until it lives."""
    running = request.getfixturevalue(f"{request.param}_server")
    name = f"m{uuid4().hex}"
    store = {
        "valkey": [f"redis://127.0.0.1:{running.port}/0", f"{name}:"],
        "postgres": [f"postgresql://evertoken@127.0.0.1:{running.port}/postgres", name],
    }[request.param]
    with contextlib.ExitStack() as stack:

        def start(server: TokenServer, keys: list[Any], **task: Any) -> Member:
            member = Member({
                "store": store, "token_endpoint": server.token_endpoint, "keys": keys, "timeout": 300.0, **task
            })  # fmt: skip
            stack.enter_context(member.process)
            stack.callback(member.process.kill)
            assert member.said() == ["lives"]
            return member

        yield start


@pytest.mark.parametrize("size", [1, 4])
def test_the_rate_of_a_fleet(fleet, size):
    """F8: cold keys on members of one store: no 429, all are served, and nine tenths of the rate are used."""
    keys = int(os.environ.get("EVERTOKEN_FLEET_KEYS", "200"))
    limit = {"requests": 100, "per": 6.0}
    with TokenServer(lifetime=36_000.0, latency=0.02, rate_limit=RateLimit(**limit)) as server:
        members = [fleet(server, list(range(number, keys, size)), limit=limit) for number in range(size)]
        for member in members:
            member.go()
        served = sum(int(member.said()[0]) for member in members)
        # From the first request on: how long the processes take to get going is no use of the rate.
        took = server.requests[-1].at - server.requests[0].at
        refused = [request.at - server.requests[0].at for request in server.requests if request.outcome == "429"]
    assert served == keys
    # On a busy machine the first requests of the members may arrive together, and fill a window.
    assert len(refused) <= size // 2
    assert keys / took >= 0.9 * 100 / 6.0


def test_killed_while_it_spends(fleet):
    """F8: a budget outlives `kill -9`: never one token too few is counted, and at most one too many for each kill."""
    budget = {"tokens": 1000, "per": 3600.0 * 24 * 3650}
    kills = 6
    with TokenServer(lifetime=36_000.0, latency=0.1) as server:
        for number in range(kills):
            member = fleet(server, [f"k{number}"], budget=budget)
            member.go()
            time.sleep(0.03 * number)
            member.process.send_signal(signal.SIGKILL)
            member.process.wait()
        time.sleep(0.2)
        last = fleet(server, ["last"], budget=budget)
        last.go()
        _, used = last.said()
        issued = server.stats.tokens_issued
    assert issued <= int(used) <= issued + kills
