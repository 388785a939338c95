"""Other libraries beside ours: the same server, the same job. A library that is not installed is skipped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from time import perf_counter

from tests.benchmarks._measure import Options, Row, Rows, median, run
from tests.benchmarks._peers import PEERS, Peer
from tests.benchmarks._process import ServerProcess

LATENCY = 0.3


@contextlib.asynccontextmanager
async def opened(kind: type[Peer], server: ServerProcess):
    peer = kind(server)
    await peer.open()
    server.tell("reset_stats")
    try:
        yield peer
    finally:
        await peer.aclose()


async def together(kind: type[Peer], server: ServerProcess, count: int) -> tuple[int, float, int]:
    async with opened(kind, server) as peer:
        begun = perf_counter()
        answers = await asyncio.gather(*(peer.get() for _ in range(count)), return_exceptions=True)
        took = perf_counter() - begun
    return server.stats.token_requests, took, sum(isinstance(answer, BaseException) for answer in answers)


async def first_cancelled(kind: type[Peer], server: ServerProcess) -> tuple[int, int]:
    async with opened(kind, server) as peer:
        tasks = [asyncio.create_task(peer.get()) for _ in range(20)]
        await asyncio.sleep(LATENCY / 3.0)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks[1:], return_exceptions=True)
    return sum(not isinstance(answer, BaseException) for answer in answers), server.stats.token_requests


async def at_the_instant(kind: type[Peer], server: ServerProcess) -> tuple[float, int]:
    """Return the longest that a caller waited within two seconds in which a renewal was due, and how many waited."""
    server.tell("set", "lifetime", kind.due_after)
    waits: list[float] = []
    try:
        async with opened(kind, server) as peer:
            await peer.get()
            peer.ripen()

            async def caller():
                begun = perf_counter()
                with contextlib.suppress(Exception):
                    await peer.get()
                waits.append(perf_counter() - begun)

            server.tell("set", "lifetime", 3600.0)
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(caller())
                    await asyncio.sleep(0.02)
    finally:
        server.tell("set", "lifetime", 3600.0)
    if server.stats.token_requests < 2:
        msg = "no renewal came due"
        raise AssertionError(msg)
    return max(waits), sum(wait > LATENCY / 2.0 for wait in waits)


async def hit(kind: type[Peer], server: ServerProcess) -> float:
    async with opened(kind, server) as peer:
        await peer.get()
        # The cost of the library itself, without the switch to a thread.
        get_sync = getattr(peer, "get_sync", None)
        times = []
        for _ in range(31):
            begun = perf_counter()
            if get_sync is not None:
                for _ in range(500):
                    get_sync()
            else:
                for _ in range(500):
                    await peer.get()
            times.append((perf_counter() - begun) / 500)
    return median(times)


def rows(options: Options) -> Rows:
    logging.getLogger("azure").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with ServerProcess(latency=LATENCY, rotate=False) as server:
        ours: float | None = None
        for kind in PEERS:
            try:
                found = _beside(kind, server, options.pick(kind.many, 200), ours)
            except ImportError as error:
                yield Row(kind.name, "skipped", unit="", note=f"{error.name} is not installed")
                continue
            for row in found:
                if ours is None and row.unit == "ns" and isinstance(row.measured, float):
                    ours = row.measured
                yield row


def _beside(kind: type[Peer], server: ServerProcess, count: int, ours: float | None) -> list[Row]:
    # Only our own rows are judged; those of the others tell.
    def target(value: float) -> float | None:
        return value if kind.name == "evertoken" else None

    few, _, _ = run(lambda: together(kind, server, 20))
    many, took, failed = run(lambda: together(kind, server, count))
    survived, fetches = run(lambda: first_cancelled(kind, server))
    worst, waited = run(lambda: at_the_instant(kind, server))
    spent = f"{took:.1f} s{f', {failed} failed' if failed else ''}"
    found = [
        Row(f"{kind.name}: fetches of 20 cold callers", float(few), target(1.0), "", kind.note),
        Row(f"{kind.name}: fetches of {count:,} cold callers", float(many), target(1.0), "", spent),
        Row(
            f"{kind.name}: served of 19 when the first is cancelled",
            float(survived),
            target(19.0),
            "",
            f"{fetches} fetches",
            least=True,
        ),
        Row(
            f"{kind.name}: slowest caller as the token is renewed",
            worst * 1e3,
            target(10.0),
            "ms",
            f"{waited} of 100 waited; endpoint 300 ms",
        ),
    ]
    if kind.plain_hit or hasattr(kind, "get_sync"):
        one = run(lambda: hit(kind, server)) * 1e9
        found.append(Row(f"{kind.name}: a hit", one, unit="ns", note=f"{one / (ours or one):.1f} x ours"))
    return found
