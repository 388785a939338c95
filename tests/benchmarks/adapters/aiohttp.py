"""aiohttp, over a socket: it has no transport in memory."""

from __future__ import annotations

import contextlib

import aiohttp
from tests.benchmarks._answering import answering

from evertoken.clients.aiohttp import BearerMiddleware


@contextlib.asynccontextmanager
async def pair(tokens):
    with answering() as url:
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer token"}) as static,
            aiohttp.ClientSession(middlewares=[BearerMiddleware(tokens.handle())]) as ours,
        ):

            async def ask_static():
                async with static.get(url) as response:
                    assert response.status == 200

            async def ask_ours():
                async with ours.get(url) as response:
                    assert response.status == 200

            yield ask_static, ask_ours


PAIRS = {"aiohttp.ClientSession": pair}
