"""niquests, with a transport in memory. It replaces urllib3: `nox -s niquests` makes an environment that has it."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import niquests

from evertoken.clients.niquests import AsyncBearerAuth, BearerAuth

URL = "https://api.example.com/v1/things"


def answer(request: Any, connection: Any) -> Any:
    assert request.headers["Authorization"] == "Bearer token"
    response: Any = niquests.Response()
    response.status_code, response.url, response.request, response.raw = 200, request.url, request, io.BytesIO()
    response.connection = connection
    return response


class Transport(niquests.adapters.BaseAdapter):
    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        return answer(request, self)

    def close(self) -> None:
        pass


class AsyncTransport(niquests.adapters.AsyncBaseAdapter):
    async def send(self, request: Any, *args: Any, **options: Any) -> Any:
        return answer(request, self)

    async def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def of_sync(tokens):
    with niquests.Session() as static, niquests.Session() as ours:
        for session in (static, ours):
            session.trust_env = False
            session.mount("https://", Transport())
        static.auth = "token"
        ours.auth = BearerAuth(tokens.handle())
        yield lambda: static.get(URL), lambda: ours.get(URL)


@contextlib.asynccontextmanager
async def of_async(tokens):
    async with niquests.AsyncSession() as static, niquests.AsyncSession() as ours:
        for session in (static, ours):
            session.trust_env = False
            session.mount("https://", AsyncTransport())
        static.auth = "token"
        ours.auth = AsyncBearerAuth(tokens.handle())

        async def ask_static():
            await static.get(URL)

        async def ask_ours():
            await ours.get(URL)

        yield ask_static, ask_ours


PAIRS = {"niquests.AsyncSession": of_async, "niquests.Session": of_sync}
