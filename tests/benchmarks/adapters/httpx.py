"""httpx, and httpx2 which has the same names, with a transport in memory."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx

URL = "https://api.example.com/v1/things"


def pairs(library: Any) -> dict[str, Any]:
    """Return the pairs of *library*: httpx or httpx2."""

    def answer(request: Any) -> Any:
        assert request.headers["authorization"] == "Bearer token"
        return library.Response(200)

    @contextlib.asynccontextmanager
    async def of_async(tokens):
        transport = library.MockTransport(answer)
        async with (
            library.AsyncClient(transport=transport, headers={"Authorization": "Bearer token"}) as static,
            library.AsyncClient(transport=transport, auth=tokens.auth()) as ours,
        ):

            async def ask_static():
                await static.get(URL)

            async def ask_ours():
                await ours.get(URL)

            yield ask_static, ask_ours

    @contextlib.asynccontextmanager
    async def of_sync(tokens):
        transport = library.MockTransport(answer)
        with (
            library.Client(transport=transport, headers={"Authorization": "Bearer token"}) as static,
            library.Client(transport=transport, auth=tokens.auth()) as ours,
        ):
            yield lambda: static.get(URL), lambda: ours.get(URL)

    return {f"{library.__name__}.AsyncClient": of_async, f"{library.__name__}.Client": of_sync}


PAIRS = pairs(httpx)
