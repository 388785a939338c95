"""Eight processes on one store, in real time: how many fetches, and who ever waits?"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from tests.benchmarks._measure import Options, Row, Rows
from tests.benchmarks._process import ServerProcess
from tests.stores.servers import valkey

MEMBERS, RATE, LIFETIME, LATENCY = 8, 100, 4.0, 0.3


def rows(options: Options) -> Rows:
    for store in ("Valkey", "FileStore"):
        for rotating in (False, True):
            yield from _fleet(store, rotating, options.pick(50, 4))


@contextlib.contextmanager
def _place(store: str) -> Iterator[str]:
    if store == "Valkey":
        with valkey() as server:
            yield f"redis://127.0.0.1:{server.port}/0"
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "tokens")


def _fleet(store: str, rotating: bool, lifetimes: int) -> Rows:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ServerProcess(lifetime=LIFETIME, latency=LATENCY))
        task = {
            "store": stack.enter_context(_place(store)),
            "token_endpoint": server.token_endpoint,
            "resource": server.resource,
            "refresh_token": server.tell("issue_grant") if rotating else None,
            "seconds": LIFETIME * lifetimes,
            "rate": RATE,
        }
        members = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.benchmarks._fleet", json.dumps(task)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(MEMBERS)
        ]
        begun = perf_counter()
        for member in members:
            assert member.stdout is not None
            assert member.stdout.readline() == "lives\n"
        for member in members:
            assert member.stdin is not None
            member.stdin.write("\n")
            member.stdin.flush()
        seen = [json.loads(member.communicate()[0]) for member in members]
        took = perf_counter() - begun
        stats = server.stats
    # A token is fetched when a fifth of its life is left; jitter brings that forward by a tenth of the fifth at most.
    most = math.ceil(took / (LIFETIME * (1.0 - 0.2 * 1.1)) * 1.02) + 1
    name = f"{store}, {'rotating' if rotating else 'minted'}"
    bad = [what for one in seen for what in one["bad"]]
    count = sum(one["requests"] for one in seen)
    yield Row(
        f"{name}: fetches of {MEMBERS} processes",
        float(stats.token_requests),
        float(most),
        unit="",
        note=f"{took / LIFETIME:.1f} lifetimes of {LIFETIME:g} s; {count:,} requests",
    )
    yield Row(f"{name}: requests that did not end in 200", float(len(bad)), 0.0, unit="", note=", ".join(set(bad)))
    yield Row(f"{name}: 401s seen by the server", float(stats.resource_401), 0.0, unit="")
    yield Row(f"{name}: slowest get()", max(one["slowest_get"] for one in seen) * 1e3, 50.0, unit="ms")
    yield Row(
        f"{name}: slowest request, all causes",
        max(one["slowest_request"] for one in seen) * 1e3,
        unit="ms",
        note=f"p99 {max(one['p99'] for one in seen) * 1e3:.0f} ms",
    )
    if rotating:
        yield Row(f"{name}: replays", float(stats.replays), 0.0, unit="", note="a spent refresh token presented")
