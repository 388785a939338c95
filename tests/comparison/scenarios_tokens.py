"""Scenarios about tokens that are refused or used up."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks._measure import run
from tests.benchmarks._process import ServerProcess
from tests.comparison._peer import Peer
from tests.comparison._play import Scenario, attempt, opened, together

__all__ = ["TOKENS"]

#: Each member of two sends so many requests at once, and so often.
ROUNDS, REQUESTS = 4, 5


def revoked(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        async with opened(kind, server) as peer:
            await attempt(peer)
            server.tell("set", "latency", 0.3)
            server.tell("revoke_all")
            server.tell("reset_stats")
            outcomes = await together(peer, 50)
            return f"{sum(outcome.failed for outcome in outcomes)} / {server.stats.token_requests}"

    return run(main)


def refused(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        async with opened(kind, server) as peer:
            await attempt(peer)
            server.tell("set", "refuse_all", True)
            server.tell("reset_stats")
            for _ in range(20):
                await together(peer, 5)
            return f"{server.stats.token_requests}"

    return run(main)


def rotating(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        server.tell("set", "rotate", True)
        server.tell("set", "latency", 0.2)
        server.tell("set", "lifetime", kind.due_after)
        failed = 0
        async with opened(kind, server, grant=server.tell("issue_grant")) as peer:
            for _ in range(3):
                failed += sum(outcome.failed for outcome in await together(peer, 20))
                await asyncio.sleep(1.5)
            return f"{server.stats.replays} / {failed}"

    return run(main)


def two_processes(kind: type[Peer], server: ServerProcess) -> str:
    server.tell("set", "rotate", True)
    server.tell("set", "latency", 0.2)
    server.tell("set", "lifetime", kind.due_after)
    with tempfile.TemporaryDirectory() as folder:
        task = {
            "name": kind.name,
            "url": server.url,
            "grant": server.tell("issue_grant"),
            "file": str(Path(folder) / "grant"),
        }
        server.tell("reset_stats")
        command = [sys.executable, "-m", "tests.comparison._member", json.dumps(task)]
        members = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        for member in members:
            assert member.stdout is not None
            member.stdout.readline()
        found = []
        for member in members:
            assert member.stdin is not None
            member.stdin.write("go\n")
            member.stdin.flush()
        for member in members:
            output, _ = member.communicate(timeout=60.0)
            found.append(int(output))
    return f"{server.stats.replays} / {sum(found)}"


TOKENS = (
    Scenario("revoked", "revoked, 50 requests: failed / fetches", revoked),
    Scenario("refused", "all refused, 100 requests: fetches", refused),
    Scenario("rotating", "rotating, 3 x 20 callers: replays / failed", rotating),
    Scenario("two processes", "rotating, 2 processes: replays / failed", two_processes),
)
