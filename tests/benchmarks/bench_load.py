"""Eight processes that share 2,000 keys through one server: CPU a refresh, fetches, connections."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import redis
from tests.benchmarks._measure import Options, Row, Rows
from tests.benchmarks._process import cpu_of
from tests.stores.servers import Server, postgres, valkey

# A fleet that starts cold is busy for a while, and then refreshes each key about once.
MEMBERS, KEYS, SECONDS, LIFETIME = 8, 2_000, 55.0, 60.0
CPU = {"Valkey": (2.5, None), "PostgreSQL": (5.0, 2.0)}
CONNECTIONS = 20


def rows(options: Options) -> Rows:
    keys, seconds = options.pick((KEYS, SECONDS), (200, 55.0))
    for name in ("Valkey", "PostgreSQL"):
        yield from _load(name, options.pick(MEMBERS, 4), keys, seconds)
    for name in ("Valkey", "PostgreSQL"):
        yield from _providers(name, keys)


@dataclass
class Seen:
    """The reports of the members, and the CPU, the steps and the connections of the server."""

    members: list[dict[str, Any]]
    server_cpu: float
    steps: float
    connections: int

    def total(self, name: str) -> float:
        return float(sum(member[name] for member in self.members))


def _load(name: str, members: int, keys: int, seconds: float) -> Rows:
    seen = _run(name, members=members, keys=keys, providers=1, seconds=seconds, lifetime=LIFETIME)
    fetches = sorted(tuple(fetch) for member in seen.members for fetch in member["fetches"])
    # Two fetches of one key within half of the lifetime: the second one was needless.
    again = sum(one[0] == two[0] and two[1] - one[1] < LIFETIME / 2 for one, two in itertools.pairwise(fetches))
    client, server = CPU[name]
    cold, count = seen.total("cold_fetches"), len(fetches)
    later = (seen.total("cpu") - seen.total("cold_cpu")) / max(count - cold, 1)
    title = f"{name}, {members} processes x {keys:,} keys"
    yield Row(
        f"{title}: fetches, cold",
        cold,
        float(keys),
        unit="",
        note=f"in {max(member['cold_took'] for member in seen.members):.1f} s",
    )
    yield Row("... fetches of a key that had a new token", float(again), 0.0, unit="", note=f"of {count:,} fetches")
    yield Row(
        "... CPU of the members a refresh",
        seen.total("cpu") / count * 1e3,
        client,
        unit="ms",
        note=f"{seen.total('cold_cpu') / cold * 1e3:.2f} ms cold, {later * 1e3:.2f} ms later",
    )
    yield Row("... CPU of the server a refresh", seen.server_cpu / count * 1e3, server, unit="ms")
    yield Row(
        "... commands or transactions of the server a refresh", seen.steps / count, unit="", note="of all members"
    )
    yield Row("... keys without a token at the end", seen.total("lacking"), 0.0, unit="", note=_failures(seen))
    yield Row("... connections to the server, at most", float(seen.connections), float(CONNECTIONS * members), unit="")


def _providers(name: str, keys: int) -> Rows:
    seen = _run(name, members=2, keys=keys, providers=keys, seconds=0.0, lifetime=3600.0)
    yield Row(
        f"{name}, {keys:,} providers x 2 processes: connections a process",
        seen.connections / 2,
        float(CONNECTIONS),
        unit="",
        note=f"{keys:,} keys{_failures(seen)}",
    )
    yield Row("... fetches, cold", seen.total("cold_fetches"), float(keys), unit="")


def _failures(seen: Seen) -> str:
    return "".join(f"; {words}" for member in seen.members for words in member["failed"])


def _run(name: str, *, members: int, **task: Any) -> Seen:
    with contextlib.ExitStack() as stack:
        server, url, count, steps = stack.enter_context(_server(name))
        command = [sys.executable, "-m", "tests.benchmarks._load", json.dumps({"store": url, **task})]
        started = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(members)
        ]
        peak = stack.enter_context(_peak(count))
        _together(started, "lives")
        before, asked = cpu_of(server.pid), steps()
        _together(started, "cold")
        found = [json.loads(member.communicate()[0]) for member in started]
        return Seen(found, cpu_of(server.pid) - before, steps() - asked, peak())


def _together(members: list[subprocess.Popen[str]], word: str) -> None:
    for member in members:
        assert member.stdout is not None
        assert member.stdout.readline() == f"{word}\n"
    for member in members:
        assert member.stdin is not None
        member.stdin.write("\n")
        member.stdin.flush()


@contextlib.contextmanager
def _server(name: str) -> Iterator[tuple[Server, str, Callable[[], int], Callable[[], int]]]:
    """
    Run a server. Yield it, its URL, and functions that count the connections of others and the commands it received.
    """
    if name == "Valkey":
        with valkey("--appendfsync", "everysec") as server, redis.Redis(port=server.port) as looking:
            yield (
                server,
                f"redis://127.0.0.1:{server.port}/0",
                lambda: len(looking.client_list()) - 1,
                # The store sends scripts and reads. Scripts read by another command.
                lambda: sum(
                    int(found["calls"])
                    for command, found in looking.info("commandstats").items()
                    if command in {"cmdstat_evalsha", "cmdstat_hget"}
                ),
            )
        return
    with postgres() as server:
        url = f"postgresql://evertoken@127.0.0.1:{server.port}/postgres"
        with psycopg.connect(url, autocommit=True) as asking:

            def ask(query: LiteralString) -> int:
                row = asking.execute(query).fetchone()
                return 0 if row is None else int(row[0])

            yield (
                server,
                url,
                lambda: ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'") - 1,
                lambda: ask("SELECT sum(xact_commit) FROM pg_stat_database"),
            )


@contextlib.contextmanager
def _peak(count: Callable[[], int]) -> Iterator[Callable[[], int]]:
    """Count again and again, in a thread; yield what returns the highest count."""
    counts = [0]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.25):
            counts.append(count())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: max(counts)
    finally:
        ended.set()
        thread.join()
