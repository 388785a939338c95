"""httpx2, with a transport in memory."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx2

URL = "https://api.example.com/v1/things"


def answer(request: Any) -> httpx2.Response:
    assert request.headers["authorization"] == "Bearer token"
    return httpx2.Response(200)


@contextlib.asynccontextmanager
async def of_async(tokens):
    transport = httpx2.MockTransport(answer)
    async with (
        httpx2.AsyncClient(transport=transport, headers={"Authorization": "Bearer token"}) as static,
        httpx2.AsyncClient(transport=transport, auth=tokens.auth()) as ours,
    ):

        async def ask_static():
            await static.get(URL)

        async def ask_ours():
            await ours.get(URL)

        yield ask_static, ask_ours


@contextlib.asynccontextmanager
async def of_sync(tokens):
    transport = httpx2.MockTransport(answer)
    with (
        httpx2.Client(transport=transport, headers={"Authorization": "Bearer token"}) as static,
        httpx2.Client(transport=transport, auth=tokens.auth()) as ours,
    ):
        yield lambda: static.get(URL), lambda: ours.get(URL)


PAIRS = {"httpx2.AsyncClient": of_async, "httpx2.Client": of_sync}
