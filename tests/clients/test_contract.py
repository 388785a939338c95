"""Every HTTP client that the library is plugged into passes one contract, over real sockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import aiohttp
import httpx
import httpx2
import requests
from tests.clients.callers import BlockingCaller, Caller
from tests.clients.contract import Contract, at, down

from evertoken.clients.aiohttp import BearerMiddleware
from evertoken.clients.httpx import BearerAuth as HttpxAuth
from evertoken.clients.requests import BearerAuth as RequestsAuth

__all__ = ["at", "down"]


class AiohttpCaller(Caller):
    """A response of aiohttp cannot be pickled."""

    def seen(self) -> list[Any]:
        return [self.last.request_info, self.last.request_info.headers]

    def pickled(self) -> list[Any]:
        return []


class _Httpx(Contract):
    library: Any = httpx
    # As tests/benchmarks/bench_httpx.py writes it.
    without = 12

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
    differs: ClassVar = {
        "test_bodies": "Bytes are sent again. A file is read as a stream, and sent again only in multipart"
    }


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
    without = 14
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


class TestRequests(Contract):
    name = "requests.Session"
    extra = "requests"
    lines = "session.auth = BearerAuth(tokens.handle())"
    without = 16
    blocking = True

    def auth(self, handle, **options):
        return RequestsAuth(handle, **options)

    @contextlib.asynccontextmanager
    async def client(self, auth) -> AsyncIterator[Any]:
        with requests.Session() as session:
            session.trust_env = False
            session.auth = auth

            def send(method, url, body):
                response = session.request(method, url, data=body)
                return response.status_code, response

            yield BlockingCaller(send)


ADAPTERS: list[type[Contract]] = [
    TestHttpx, TestHttpxSync, TestHttpx2, TestHttpx2Sync, TestAiohttp, TestRequests,
]  # fmt: skip
