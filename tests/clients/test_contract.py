"""Every HTTP client that the library is plugged into passes one contract, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar

import aiohttp
import httpx
import httpx2
import requests
from tests.clients.contract import Contract, at, down

from evertoken.clients.aiohttp import BearerMiddleware
from evertoken.clients.httpx import BearerAuth as HttpxAuth
from evertoken.clients.requests import BearerAuth as RequestsAuth

__all__ = ["at", "down"]


async def pieces() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


def plain_pieces() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


class Caller:
    """A client of coroutines."""

    def __init__(self, send: Callable[..., Any]) -> None:
        self.send = send
        self.last: Any = None

    async def here(self, method: str, url: str, body: Any = None) -> int:
        status, self.last = await self.send(method, url, pieces() if body == "generator" else body)
        return int(status)

    async def __call__(self, method: str, url: str, body: Any = None) -> int:
        return await self.here(method, url, body)

    def seen(self) -> list[Any]:
        return [self.last.request, self.last.request.headers]

    def pickled(self) -> list[Any]:
        return [self.last]


class BlockingCaller(Caller):
    """A client without a loop; it is called in threads, or `here`, where it blocks the loop."""

    def _ask(self, method: str, url: str, body: Any = None) -> int:
        status, self.last = self.send(method, url, plain_pieces() if body == "generator" else body)
        return int(status)

    async def here(self, method: str, url: str, body: Any = None) -> int:
        return self._ask(method, url, body)

    async def __call__(self, method: str, url: str, body: Any = None) -> int:
        return await asyncio.to_thread(self._ask, method, url, body)


class AiohttpCaller(Caller):
    """A response of aiohttp cannot be pickled."""

    def seen(self) -> list[Any]:
        return [self.last.request_info, self.last.request_info.headers]

    def pickled(self) -> list[Any]:
        return []


class _Httpx(Contract):
    library: Any = httpx

    def auth(self, handle, **options):
        return HttpxAuth(handle, **options)

    @contextlib.asynccontextmanager
    async def client(self, auth):
        async with self.library.AsyncClient(auth=auth, follow_redirects=True, trust_env=False) as client:

            async def send(method, url, body):
                response = await client.request(method, url, content=body)
                return response.status_code, response

            yield Caller(send)


class TestHttpx(_Httpx):
    name = "httpx.AsyncClient"
    lines = "httpx.AsyncClient(auth=tokens.auth())"
    differs: ClassVar = {"test_bodies": "Bytes are; a file is read as a stream, and sent again in multipart only"}


class TestHttpx2(_Httpx):
    name = "httpx2.AsyncClient"
    extra = "httpx2"
    lines = "httpx2.AsyncClient(auth=tokens.auth())"
    library = httpx2
    differs = TestHttpx.differs


class _HttpxSync(_Httpx):
    blocking = True

    @contextlib.asynccontextmanager
    async def client(self, auth):
        with self.library.Client(auth=auth, follow_redirects=True, trust_env=False) as client:

            def send(method, url, body):
                response = client.request(method, url, content=body)
                return response.status_code, response

            yield BlockingCaller(send)


class TestHttpxSync(_HttpxSync):
    name = "httpx.Client"
    lines = "httpx.Client(auth=tokens.auth())"
    differs = TestHttpx.differs


class TestHttpx2Sync(_HttpxSync):
    name = "httpx2.Client"
    extra = "httpx2"
    lines = "httpx2.Client(auth=tokens.auth())"
    library = httpx2
    differs = TestHttpx.differs


class TestAiohttp(Contract):
    name = "aiohttp.ClientSession"
    extra = "aiohttp"
    lines = "aiohttp.ClientSession(middlewares=[BearerMiddleware(tokens.handle())])"
    differs: ClassVar = {
        "test_foreign_origin": "It goes on without the token, because several middlewares can share a session"
    }

    def auth(self, handle, **options):
        return BearerMiddleware(handle, **options)

    @contextlib.asynccontextmanager
    async def client(self, auth):
        async with aiohttp.ClientSession(middlewares=[auth]) as session:

            async def send(method, url, body):
                async with session.request(method, url, data=body) as response:
                    await response.read()
                    return response.status, response

            yield AiohttpCaller(send)


class _Requests(Contract):
    blocking = True
    library: Any = requests
    kind: Any = RequestsAuth

    def auth(self, handle, **options):
        return self.kind(handle, **options)

    @contextlib.asynccontextmanager
    async def client(self, auth) -> AsyncIterator[Any]:
        with self.library.Session() as session:
            session.trust_env = False
            session.auth = auth

            def send(method, url, body):
                response = session.request(method, url, data=body)
                return response.status_code, response

            yield BlockingCaller(send)


class TestRequests(_Requests):
    name = "requests.Session"
    extra = "requests"
    lines = "session.auth = BearerAuth(tokens.handle())"


ADAPTERS: list[type[Contract]] = [
    TestHttpx, TestHttpxSync, TestHttpx2, TestHttpx2Sync, TestAiohttp, TestRequests,
]  # fmt: skip
