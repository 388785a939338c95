"""The three Kubernetes clients against an API on loopback that looks at the token."""

from __future__ import annotations

import contextlib
import copy
from types import ModuleType
from typing import Any

import kubernetes.aio.client as aio_client
import kubernetes.client as sync_client
import kubernetes_asyncio.client as asyncio_client
from tests.clients.sdk_contract import SdkContract, Service
from tests.sources.wire import Asked, Wire, http

from evertoken.clients.kubernetes import authenticate, heal

VERSION = {
    **dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "platform"), "x"),
    "major": "1", "minor": "35",
}  # fmt: skip


class Api(Service):
    """The part of the API of a cluster that tells its version, and lists no pods."""

    url: str

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not self.accepts(token):
            return http(401, {"kind": "Status", "code": 401})
        self.bodies.append(asked.body)
        if asked.target.startswith("/version"):
            return http(200, VERSION)
        if asked.method == "POST":
            return http(201, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "made"}})
        return http(200, {"apiVersion": "v1", "kind": "NamespaceList", "metadata": {}, "items": []})


@contextlib.asynccontextmanager
async def cluster():
    api = Api()
    async with Wire(api.answer) as wire:
        api.url = wire.url("")
        yield api


class _Kubernetes(SdkContract):
    module: ModuleType

    def server(self):
        return cluster()

    def given(self, handle):
        return handle

    def api_client(self, handle: Any, url: str) -> Any:
        return heal(self.module.ApiClient(self.module.Configuration(host=url)), handle)


class _Blocking(_Kubernetes):
    blocking = True

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        with self.api_client(given, server.url) as client:
            yield self.module.VersionApi(client).get_code


class _Async(_Kubernetes):
    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async with self.api_client(given, server.url) as client:
            yield self.module.VersionApi(client).get_code


class TestKubernetes(_Blocking):
    name = "kubernetes.client.ApiClient"
    library = "kubernetes"
    lines = "client = heal(ApiClient(configuration), tokens.handle())"
    without = 19
    module = sync_client


class TestKubernetesAio(_Async):
    name = "kubernetes.aio.client.ApiClient"
    library = "kubernetes"
    lines = "client = heal(ApiClient(configuration), tokens.handle())"
    without = 19
    module = aio_client


class TestKubernetesAsyncio(_Async):
    name = "kubernetes_asyncio.client.ApiClient"
    library = "kubernetes-asyncio"
    lines = "client = heal(ApiClient(configuration), tokens.handle())"
    without = 19
    module = asyncio_client


class _Configured:
    """The hook alone, for programs that set a default configuration."""

    heals = "The library tells the hook of no 401, and the error is the caller's. `attempt` around the call heals"
    lines = "authenticate(configuration, tokens.handle())"
    without = 4

    @staticmethod
    def refusal(error: Exception) -> bool:
        return getattr(error, "status", None) == 401

    def api_client(self, handle: Any, url: str) -> Any:
        # Clients without a configuration of their own have a deep copy of the default one.
        configuration = authenticate(self.module.Configuration(host=url), handle)
        return self.module.ApiClient(copy.deepcopy(configuration))


class TestConfiguration(_Configured, _Blocking):
    name = "kubernetes.client.Configuration"
    library = "kubernetes"
    module = sync_client


class TestAioConfiguration(_Configured, _Async):
    name = "kubernetes.aio.client.Configuration"
    library = "kubernetes"
    module = aio_client


class TestAsyncioConfiguration(_Configured, _Async):
    name = "kubernetes_asyncio.client.Configuration"
    library = "kubernetes-asyncio"
    module = asyncio_client
