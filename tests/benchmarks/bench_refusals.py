"""Refused tokens: all of them revoked at once, and a resource that likes none."""

from __future__ import annotations

import asyncio
import contextlib
import math
from time import perf_counter

import httpx
from tests.benchmarks._measure import Options, Row, Rows, run
from tests.benchmarks._process import ServerProcess

from evertoken import TokenManager

CONCURRENT, CLIENTS = 500, 20


def rows(options: Options) -> Rows:
    with ServerProcess(latency=0.1, resource_latency=0.2) as server:
        yield from run(lambda: _revoked(server))
    yield from run(lambda: _refused(options.pick(10_000, 2_000)))


async def _revoked(server: ServerProcess) -> list[Row]:
    async with TokenManager(server.client_credentials()) as tokens, contextlib.AsyncExitStack() as stack:
        # One auth and several clients: httpx's pool needs ten seconds for 500 simultaneous requests, with any auth, and
        # the server closes idle connections in the meantime.
        auth = tokens.auth()
        limits = httpx.Limits(max_connections=CONCURRENT // CLIENTS)
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(auth=auth, timeout=60.0, limits=limits))
            for _ in range(CLIENTS)
        ]

        async def burst() -> tuple[float, list[httpx.Response]]:
            begun = perf_counter()
            sent = (clients[number % CLIENTS].get(server.resource) for number in range(CONCURRENT))
            answers = await asyncio.gather(*sent)
            return perf_counter() - begun, answers

        good, _ = await burst()
        server.tell("revoke_all")
        took, answers = await burst()
    stats = server.stats
    return [
        Row("500 requests with a revoked token: fetches", float(stats.token_requests - 1), 1.0, unit=""),
        Row(
            "... that ended in 200",
            float(sum(answer.status_code == 200 for answer in answers)),
            float(CONCURRENT),
            unit="",
            least=True,
        ),
        Row(
            "... 401s on the way",
            float(stats.resource_401),
            unit="",
            note=f"{took:.1f} s in all; with a good token {good:.1f} s",
        ),
    ]


async def _refused(count: int) -> list[Row]:
    fetches = 0

    async def fetch():
        nonlocal fetches
        fetches += 1
        await asyncio.sleep(0.02)
        return f"token-{fetches}", 3600.0

    sent = 0

    async def answer(request):
        nonlocal sent
        sent += 1
        await asyncio.sleep(0.005)
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    async with TokenManager(fetch) as tokens:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), auth=tokens.auth()) as client:
            refused = 0

            async def worker(share):
                nonlocal refused
                for _ in range(share):
                    answer = await client.get("https://api.example.com/")
                    refused += answer.status_code == 401

            begun = perf_counter()
            await asyncio.gather(*(worker(count // 50) for _ in range(50)))
            took = perf_counter() - begun
    # A first fetch, a first refusal, and then 1, 2, 4, 8... seconds between those that count.
    most = 2 + math.ceil(math.log2(took + 1.0)) + 1
    return [
        Row(
            f"{count:,} requests, each token refused: fetches",
            float(fetches),
            float(most),
            unit="",
            note=f"in {took:.1f} s",
        ),
        Row("... callers who got their 401", float(refused), float(count), unit="", least=True),
        Row("... requests sent for each", sent / count, 1.05, unit="x", note="a retry only with another token"),
    ]
