"""
What a request through `auth()` costs, on a transport that costs next to nothing.
"""

from __future__ import annotations

from time import perf_counter

import httpx
from tests.benchmarks._measure import Options, Row, Rows, median, run

from evertoken import TokenManager

URL = "https://api.example.com/v1/things"


def rows(options: Options) -> Rows:
    yield from run(lambda: _rows(options))


async def _rows(options: Options) -> list[Row]:
    async def fetch():
        return "token", 3600.0

    def answer(request):
        assert request.headers["authorization"] == "Bearer token"
        return httpx.Response(200)

    async def requests(client, count):
        begun = perf_counter()
        for _ in range(count):
            await client.get(URL)
        return perf_counter() - begun

    transport = httpx.MockTransport(answer)
    preset = {"Authorization": "Bearer token"}
    async with (
        TokenManager(fetch) as tokens,
        httpx.AsyncClient(transport=transport, headers=preset) as plain,
        httpx.AsyncClient(transport=transport, auth=tokens.auth()) as ours,
    ):
        await requests(plain, 200)
        await requests(ours, 200)
        shares, base = [], []
        for number in range(options.pick(301, 81)):
            first, second = (plain, ours) if number % 2 else (ours, plain)
            spent = {first: await requests(first, 20), second: await requests(second, 20)}
            shares.append(spent[ours] / spent[plain])
            base.append(spent[plain] / 20)
    return [
        Row("httpx request with a preset header", median(base) * 1e6, unit="us", note="in memory"),
        Row("httpx request through auth()", median(shares), 1.05),
    ]
