"""The Kubernetes clients, whose requests end before the socket."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace
from typing import Any

import kubernetes.client as sync_client
import kubernetes_asyncio.client as asyncio_client

from evertoken.clients.kubernetes import heal

VERSION = json.dumps({
    **dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "platform"), "x"),
    "major": "1", "minor": "35",
}).encode()  # fmt: skip


def answer(*_: Any, headers: Any, **__: Any) -> Any:
    assert headers["authorization"] == "Bearer token"
    fields = {"content-type": "application/json"}
    return SimpleNamespace(status=200, reason="OK", data=VERSION, headers=fields, getheader=fields.get,
                           getheaders=lambda: fields, read=lambda: VERSION)  # fmt: skip


async def async_answer(*_: Any, headers: Any, **__: Any) -> Any:
    return answer(headers=headers)


def client(module: Any, request: Any, tokens: Any = None) -> Any:
    key = {} if tokens is not None else {"authorization": "Bearer token", "BearerToken": "Bearer token"}
    made = module.ApiClient(module.Configuration(host="http://127.0.0.1", api_key=key))
    made.rest_client.request = request
    return made if tokens is None else heal(made, tokens.handle())


@contextlib.asynccontextmanager
async def blocking(tokens):
    with client(sync_client, answer) as static, client(sync_client, answer, tokens) as ours:
        yield sync_client.VersionApi(static).get_code, sync_client.VersionApi(ours).get_code


@contextlib.asynccontextmanager
async def of_async(tokens):
    async with client(asyncio_client, async_answer) as static, client(asyncio_client, async_answer, tokens) as ours:

        async def ask_static():
            await asyncio_client.VersionApi(static).get_code()

        async def ask_ours():
            await asyncio_client.VersionApi(ours).get_code()

        yield ask_static, ask_ours


PAIRS = {"kubernetes_asyncio.client.ApiClient": of_async, "kubernetes.client.ApiClient": blocking}
