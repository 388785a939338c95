"""Libraries that take a function which returns the token: an adapter needs no file of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import httpx
from tests.clients.sdk_contract import SdkContract, Service
from tests.sources.wire import Asked, Wire, http


class Refused(Exception):
    """How the SDK handles a 401."""


class AsyncSdk:
    """An SDK that asks an async function for the token of each call, as `AsyncOpenAI(api_key=)` does."""

    def __init__(self, url: str, api_key: Callable[[], Awaitable[str]]) -> None:
        self.url = url
        self.api_key = api_key

    async def ask(self) -> None:
        fields = {"Authorization": f"Bearer {await self.api_key()}"}
        async with httpx.AsyncClient(trust_env=False) as client:
            status = (await client.get(self.url, headers=fields)).status_code
        if status == 401:
            raise Refused


class Sdk:
    """The same with a plain function."""

    def __init__(self, url: str, api_key: Callable[[], str]) -> None:
        self.url = url
        self.api_key = api_key

    def ask(self) -> None:
        fields = {"Authorization": f"Bearer {self.api_key()}"}
        if httpx.get(self.url, headers=fields, trust_env=False).status_code == 401:
            raise Refused


class Gateway(Service):
    """An API that looks at the token."""

    url: str

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        token = asked.headers["authorization"].removeprefix("Bearer ")
        return http(200 if self.accepts(token) else 401)


class _Callable(SdkContract):
    library: ClassVar[str | None] = None
    without = 2
    heals = "The library reports no refusal, and the caller gets its error. `attempt` around the call heals it"
    refusal = Refused

    @contextlib.asynccontextmanager
    async def server(self):
        gateway = Gateway()
        async with Wire(gateway.answer) as wire:
            gateway.url = wire.url()
            yield gateway


class TestAsyncCallable(_Callable):
    name = "any that takes an async function"
    lines = "client = Client(api_key=handle.access_token)"

    def given(self, handle):
        return handle.access_token

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        yield AsyncSdk(server.url, given).ask


class TestCallable(_Callable):
    name = "any that takes a plain function"
    lines = "client = Client(api_key=handle.access_token_sync)"
    blocking = True

    def given(self, handle):
        return handle.access_token_sync

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        yield Sdk(server.url, given).ask
