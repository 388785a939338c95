"""azure-core, through the bearer policy of the library, over a transport in memory."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

from azure.core import AsyncPipelineClient, PipelineClient
from azure.core.credentials import AccessTokenInfo
from azure.core.pipeline.policies import AsyncBearerTokenCredentialPolicy, BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest

from evertoken.clients.azure import AsyncHealingTransport, AsyncTokenCredential, HealingTransport, TokenCredential

SCOPE = "https://storage.azure.com/.default"
NEVER = 253_402_300_799


class Memory:
    """A transport that answers at once."""

    def send(self, request: Any, **_: Any) -> Any:
        assert request.headers["Authorization"] == "Bearer token"
        return SimpleNamespace(status_code=200, headers={})


class AsyncMemory(Memory):
    async def send(self, request: Any, **_: Any) -> Any:
        return super().send(request)


class Static:
    def get_token_info(self, *_: str, options: Any = None) -> AccessTokenInfo:
        return AccessTokenInfo("token", NEVER)


class AsyncStatic:
    async def get_token_info(self, *_: str, options: Any = None) -> AccessTokenInfo:
        return AccessTokenInfo("token", NEVER)


@contextlib.asynccontextmanager
async def blocking(tokens):
    def asking(credential: Any, transport: Any) -> Any:
        policies: Any = [BearerTokenCredentialPolicy(credential, SCOPE)]
        client: Any = PipelineClient("https://a.example", policies=policies, transport=transport)
        return lambda: client.send_request(HttpRequest("GET", "https://a.example/"))

    credential = TokenCredential(tokens.handle())
    yield asking(Static(), Memory()), asking(credential, HealingTransport(credential, Memory()))


@contextlib.asynccontextmanager
async def of_async(tokens):
    def asking(credential: Any, transport: Any) -> Any:
        policies: Any = [AsyncBearerTokenCredentialPolicy(credential, SCOPE)]
        client: Any = AsyncPipelineClient("https://a.example", policies=policies, transport=transport)

        async def ask() -> None:
            await client.send_request(HttpRequest("GET", "https://a.example/"))

        return ask

    credential = AsyncTokenCredential(tokens.handle())
    yield asking(AsyncStatic(), AsyncMemory()), asking(credential, AsyncHealingTransport(credential, AsyncMemory()))


PAIRS = {"azure.core.AsyncPipelineClient": of_async, "azure.core.PipelineClient": blocking}
