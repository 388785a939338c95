"""The cost of a request through `auth()`, on a transport that costs next to nothing."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from time import process_time
from typing import Any

import httpx
from tests.benchmarks._measure import Options, Row, Rows, median, run

from evertoken import TokenManager

URL = "https://api.example.com/v1/things"


class ByHand(httpx.Auth):
    """The least that a plug-in can be which also heals a 401 once."""

    def __init__(self, tokens: TokenManager[Any, None]) -> None:
        self.tokens = tokens

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = await self.tokens.get()
        request.headers["Authorization"] = token.authorization
        response = yield request
        if response.status_code == 401:
            await response.aread()
            await self.tokens.invalidate(token)
            request.headers["Authorization"] = (await self.tokens.get()).authorization
            yield request


def rows(options: Options) -> Rows:
    yield from run(lambda: _rows(options))


async def _rows(options: Options) -> list[Row]:
    async def fetch():
        return "token", 3600.0

    def answer(request):
        assert request.headers["authorization"] == "Bearer token"
        return httpx.Response(200)

    async def requests(client):
        begun = process_time()
        for _ in range(20):
            await client.get(URL)
        return process_time() - begun

    transport = httpx.MockTransport(answer)
    preset = {"Authorization": "Bearer token"}
    async with (
        TokenManager(fetch) as tokens,
        httpx.AsyncClient(transport=transport, headers=preset) as plain,
        httpx.AsyncClient(transport=transport, auth=ByHand(tokens)) as by_hand,
        httpx.AsyncClient(transport=transport, auth=tokens.auth()) as ours,
    ):
        clients = [plain, by_hand, ours]
        for client in clients * 10:
            await requests(client)
        # No client always runs behind the same other one.
        orders = list(itertools.permutations(clients))
        shares, base = [], []
        for number in range(options.pick(600, 120)):
            spent = {client: await requests(client) for client in orders[number % len(orders)]}
            shares.append((spent[by_hand] / spent[plain], spent[ours] / spent[plain], spent[ours] / spent[by_hand]))
            base.append(spent[plain] / 20)
    hand, preset_share, hand_share = (median(one[place] for one in shares) for place in range(3))
    return [
        Row("httpx request with a preset header", median(base) * 1e6, unit="us", note="in memory"),
        Row("httpx request through a hand-written plug-in that heals a 401", hand),
        Row("httpx request through auth(), against a preset header", preset_share, 1.06),
        Row("httpx request through auth(), against the hand-written plug-in", hand_share, 1.02),
    ]
