"""A steady load over many short lifetimes, in real time: who ever waits?"""

from __future__ import annotations

import asyncio
import math
from time import perf_counter

import httpx
from tests.benchmarks._measure import Options, Row, Rows, percentile, run
from tests.benchmarks._process import ServerProcess

from evertoken import TokenManager

LIFETIME, LATENCY, RATE = 4.0, 0.3, 200


def rows(options: Options) -> Rows:
    lifetimes = options.pick(10, 3)
    with ServerProcess(lifetime=LIFETIME, latency=LATENCY) as server:
        yield from run(lambda: _steady(server, lifetimes))


async def _steady(server: ServerProcess, lifetimes: int) -> list[Row]:
    gets: list[float] = []
    late: list[float] = []
    requests: list[float] = []
    statuses: list[int] = []
    errors: list[str] = []

    async with (
        TokenManager(server.client_credentials()) as tokens,
        httpx.AsyncClient(auth=tokens.auth(), limits=httpx.Limits(max_connections=50)) as client,
    ):
        await tokens.get()

        async def load(due):
            begun = perf_counter()
            late.append(begun - due)
            await tokens.get()
            ended = perf_counter()
            gets.append(ended - begun)
            try:
                statuses.append((await client.get(server.resource)).status_code)
            except Exception as error:  # noqa: BLE001 - every error of a caller counts
                errors.append(repr(error))
            requests.append(perf_counter() - ended)

        start = perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(RATE * LIFETIME * lifetimes)):
                due = start + number / RATE
                await asyncio.sleep(max(0.0, due - perf_counter()))
                group.create_task(load(due))
        health = tokens.health()
    stats = server.stats
    # Due at the latest at the lead, at the earliest at the lead and its jitter; the first one; and one at the very end.
    most = math.ceil(lifetimes * LIFETIME / (LIFETIME * (1.0 - 0.2 * 1.1))) + 1
    assert health is not None
    return [
        Row(f"{len(gets):,} get() over {lifetimes} lifetimes: the slowest", max(gets) * 1e3, 10.0, unit="ms"),
        Row("... its median", percentile(gets, 0.5) * 1e6, unit="us"),
        Row(
            "the loop was late by, at most (all causes)",
            max(late) * 1e3,
            unit="ms",
            note="fetches of ours and of others on this machine",
        ),
        Row("requests that ended in 401", float(statuses.count(401)), 0.0, unit=""),
        Row("requests that did not end in 200", float(len(errors) + sum(s != 200 for s in statuses)), 0.0, unit=""),
        Row("401s seen by the server", float(stats.resource_401), 0.0, unit=""),
        Row(
            "slowest request",
            max(requests) * 1e3,
            unit="ms",
            note=f"p99 {percentile(requests, 0.99) * 1e3:.1f} ms; endpoint 300 ms",
        ),
        Row("fetches", float(stats.token_requests), float(most), unit="", note="one a lifetime, and the lead's share"),
        Row("fetches at one time", float(stats.max_in_flight), 1.0, unit=""),
    ]
