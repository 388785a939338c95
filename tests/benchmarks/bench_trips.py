"""How often one refresh asks the store, counted on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.benchmarks._measure import Options, Row, Rows, run
from tests.benchmarks._proxy import Counting, counting
from tests.benchmarks.bench_refresh import Minted, Rotating
from tests.stores.servers import postgres, valkey

from evertoken import Budget, RateLimit, TokenManager
from evertoken.stores import PostgresStore, RedisStore

# The pause after each refresh, in seconds, in which notices of it arrive.
QUIET = 0.05
# The first refreshes prepare statements and load scripts.
WARM = 3
TRIPS = {"minted": 2.0, "rotating": 3.0, "limited": 2.0}
# Far more than the test uses, because the test counts round trips to the store.
LIMITS = {"crm": RateLimit(requests=100_000, per=1.0)}
BUDGETS = {"crm": Budget(tokens=1_000_000, per=86_400.0)}


class Limited(Minted):
    provider = "crm"


SOURCES: dict[str, Callable[[], Any]] = {"minted": Minted, "rotating": Rotating, "limited": Limited}


def rows(options: Options) -> Rows:
    count = options.pick(100, 20)
    with valkey() as server:
        for kind in SOURCES:
            yield from run(lambda kind=kind: _valkey(server.port, kind, count))  # type: ignore[misc]
    with postgres() as server:
        for kind in SOURCES:
            yield from run(lambda kind=kind: _postgres(server.port, kind, count))  # type: ignore[misc]


async def _valkey(port: int, kind: str, count: int) -> list[Row]:
    async with counting(port) as counted:
        trips, _ = await _refreshed(RedisStore(f"redis://127.0.0.1:{counted.port}/0"), kind, count, counted)
    note = f"{count} refreshes, {counted.connections} connections"
    return [Row(f"Valkey, {kind}: round trips a refresh", trips, TRIPS[kind], unit="", note=note)]


async def _postgres(port: int, kind: str, count: int) -> list[Row]:
    async with counting(port) as counted:
        store = PostgresStore(f"postgresql://evertoken@127.0.0.1:{counted.port}/postgres")
        trips, statements = await _refreshed(store, kind, count, counted)
    note = f"{count} refreshes, {counted.connections} connections"
    return [
        Row(f"PostgreSQL, {kind}: round trips a refresh", trips, TRIPS[kind], unit="", note=note),
        Row(f"PostgreSQL, {kind}: statements a refresh", statements, TRIPS[kind], unit=""),
    ]


async def _refreshed(store: Any, kind: str, count: int, counted: Counting) -> tuple[float, float]:
    limits: dict[str, Any] = {"rate_limits": LIMITS, "budgets": BUDGETS} if kind == "limited" else {}
    async with TokenManager(SOURCES[kind](), store=store, namespace=kind, **limits) as tokens:
        await tokens.get()
        for number in range(WARM + count):
            if number == WARM:
                counted.reset()
            await tokens.refresh()
            await asyncio.sleep(QUIET)
        return counted.round_trips / count, counted.statements / count
