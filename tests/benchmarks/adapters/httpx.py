"""httpx, with a transport in memory."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx

URL = "https://api.example.com/v1/things"


def answer(request: Any) -> httpx.Response:
    assert request.headers["authorization"] == "Bearer token"
    return httpx.Response(200)


@contextlib.asynccontextmanager
async def of_async(tokens):
    transport = httpx.MockTransport(answer)
    async with (
        httpx.AsyncClient(transport=transport, headers={"Authorization": "Bearer token"}) as static,
        httpx.AsyncClient(transport=transport, auth=tokens.auth()) as ours,
    ):

        async def ask_static():
            await static.get(URL)

        async def ask_ours():
            await ours.get(URL)

        yield ask_static, ask_ours


@contextlib.asynccontextmanager
async def of_sync(tokens):
    transport = httpx.MockTransport(answer)
    with (
        httpx.Client(transport=transport, headers={"Authorization": "Bearer token"}) as static,
        httpx.Client(transport=transport, auth=tokens.auth()) as ours,
    ):
        yield lambda: static.get(URL), lambda: ours.get(URL)


PAIRS = {"httpx.AsyncClient": of_async, "httpx.Client": of_sync}
