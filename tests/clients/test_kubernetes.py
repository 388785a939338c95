"""The three Kubernetes clients against an API on loopback that looks at the token."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import pickle
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import kubernetes.aio.client as aio_client
import kubernetes.client as sync_client
import kubernetes_asyncio.client as asyncio_client
import pytest
from tests.clients.sdk_contract import SdkContract, Service
from tests.sources.wire import Asked, Wire, http

from evertoken import OriginRefused
from evertoken.clients.kubernetes import authenticate, heal

VERSION = {
    **dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "platform"), "x"),
    "major": "1", "minor": "35",
}  # fmt: skip


class Api(Service):
    """The part of the API of a cluster that tells its version, and lists no pods."""

    url: str
    always = False

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not self.accepts(token) or self.always:
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
    library: ClassVar[str | None] = "kubernetes"
    lines = "client = heal(ApiClient(configuration), tokens.handle())"
    without = 12
    module = sync_client


class TestKubernetesAio(_Async):
    name = "kubernetes.aio.client.ApiClient"
    library: ClassVar[str | None] = "kubernetes"
    lines = "client = heal(ApiClient(configuration), tokens.handle())"
    without = 12
    module = aio_client


class TestKubernetesAsyncio(_Async):
    name = "kubernetes_asyncio.client.ApiClient"
    library: ClassVar[str | None] = "kubernetes-asyncio"
    lines = "client = heal(ApiClient(configuration), tokens.handle())"
    without = 12
    module = asyncio_client


class _Configured:
    """The hook alone, for programs that set a default configuration."""

    module: ModuleType
    heals = "The library does not report a 401 to the hook, and the caller gets the error. `attempt` heals it"
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
    library: ClassVar[str | None] = "kubernetes"
    module = sync_client


class TestAioConfiguration(_Configured, _Async):
    name = "kubernetes.aio.client.Configuration"
    library: ClassVar[str | None] = "kubernetes"
    module = aio_client


class TestAsyncioConfiguration(_Configured, _Async):
    name = "kubernetes_asyncio.client.Configuration"
    library: ClassVar[str | None] = "kubernetes-asyncio"
    module = asyncio_client


# Beyond the contract

MODULES = {"kubernetes": sync_client, "kubernetes.aio": aio_client, "kubernetes_asyncio": asyncio_client}
EACH = pytest.mark.parametrize("module", MODULES.values(), ids=list(MODULES))


async def ask(client: Any, method: str, *args: Any, **options: Any) -> Any:
    """Make a call of either kind of client, and close it."""
    module = next(one for one in MODULES.values() if isinstance(client, one.ApiClient))
    call = getattr(module.CoreV1Api(client), method)
    if module is sync_client:
        with client:
            return await asyncio.to_thread(call, *args, **options)
    async with client:
        return await call(*args, **options)


def raw(module: ModuleType) -> tuple[str, dict[str, Any]]:
    """Return the method, and its options, whose answer is read by the caller."""
    if module is aio_client:
        return "list_namespace_without_preload_content", {}
    return "list_namespace", {"_preload_content": False}


@pytest.fixture
async def at():
    async with TestKubernetes().setting() as found:
        yield found


@EACH
async def test_a_body_is_sent_again(at, module):
    """U3: The library changes the fields of a request as it sends it; the second one has all of it again."""
    await at.tokens.get()
    await at.server.revoke("secret-1")
    client = heal(module.ApiClient(module.Configuration(host=at.server.url)), at.handle)
    made = await ask(client, "create_namespace", {"metadata": {"name": "made"}})
    assert made.metadata.name == "made"
    assert at.server.shown == ["secret-1", "secret-2"]
    assert [json.loads(body) for body in at.server.bodies] == [{"metadata": {"name": "made"}}]


@EACH
async def test_a_watch_is_healed(at, module):
    """U1: A request whose answer is read by the caller is healed too, though it raises nothing."""
    await at.tokens.get()
    await at.server.revoke("secret-1")
    client = heal(module.ApiClient(module.Configuration(host=at.server.url)), at.handle)
    method, options = raw(module)
    assert (await ask(client, method, watch=True, **options)).status == 200
    assert at.server.shown == ["secret-1", "secret-2"]


@EACH
@pytest.mark.parametrize("reading", [True, False], ids=["read", "raw"])
async def test_a_lasting_refusal(at, module, reading):
    """U1: If a token is refused again, the caller gets the refusal, and no further token is fetched."""
    at.server.always = True
    method, options = ("list_namespace", {}) if reading else raw(module)
    for _ in range(3):
        client = heal(module.ApiClient(module.Configuration(host=at.server.url)), at.handle)
        try:
            status = (await ask(client, method, **options)).status
        except module.ApiException as error:
            status = error.status
        assert status == 401
    assert at.source.fetches == 2


@EACH
async def test_the_token_of_one_request(at, module):
    """U4: A token that was given for one request alone is another's, and is neither reported nor replaced."""
    await at.tokens.get()
    client = heal(module.ApiClient(module.Configuration(host=at.server.url)), at.handle)
    auth = {"type": "api_key", "in": "header", "key": "authorization", "value": "Bearer stranger"}
    with pytest.raises(module.ApiException):
        await ask(client, "list_namespace", _request_auth=auth)
    assert at.server.shown == ["stranger"]
    assert at.source.fetches == 1


@EACH
@pytest.mark.parametrize("other", ["http://cluster.example", "https://127.0.0.1:1", "cluster.example"])
async def test_another_host(at, module, other):
    """U4: The token is bound to the first host, also where copies of the configuration have another."""
    configuration = authenticate(module.Configuration(host=at.server.url), at.handle)
    await ask(module.ApiClient(configuration), "list_namespace")
    copied = copy.deepcopy(configuration)
    assert copied.refresh_api_key_hook is configuration.refresh_api_key_hook
    copied.host = other
    with pytest.raises(OriginRefused):
        await ask(module.ApiClient(copied), "list_namespace")


@EACH
async def test_a_host_in_the_clear(at, module):
    """U4: Plain http outside loopback needs `allow_http=True`, as does an origin that is named."""
    configuration = module.Configuration(host="http://cluster.example")
    with pytest.raises(OriginRefused, match="in the clear"):
        await ask(module.ApiClient(authenticate(configuration, at.handle)), "list_namespace")
    with pytest.raises(ValueError, match="in the clear"):
        authenticate(configuration, at.handle, origins=["http://cluster.example"])


@EACH
async def test_a_prefix_that_was_set(at, module):
    """U1: `api_key_prefix`, as the examples of the library have it, does not double the scheme."""
    configuration = module.Configuration(host=at.server.url)
    for key in ("authorization", "BearerToken"):
        configuration.api_key_prefix[key] = "Bearer"
    await ask(module.ApiClient(authenticate(configuration, at.handle)), "list_namespace")
    assert at.server.shown == ["secret-1"]


@EACH
async def test_what_the_configuration_shows(at, module):
    """S1: No token is visible in the configuration, in a copy of it, or in the client."""
    configuration = module.Configuration(host=at.server.url)
    client = heal(module.ApiClient(configuration), at.handle)
    await ask(client, "list_namespace")
    shown = [client.configuration.api_key, copy.deepcopy(client.configuration).api_key]
    shown += [vars(client.rest_client), vars(client.configuration.refresh_api_key_hook)]
    assert "secret-1" not in repr(shown)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client.configuration.refresh_api_key_hook)


async def test_the_default_configuration(at):
    """U1: A client without a configuration has a copy of the default one, whose hook is the same."""
    configuration = authenticate(sync_client.Configuration(host=at.server.url), at.handle)
    sync_client.Configuration.set_default(configuration)
    try:
        await ask(sync_client.ApiClient(), "list_namespace")
    finally:
        sync_client.Configuration.set_default(None)
    assert at.server.shown == ["secret-1"]


@pytest.mark.parametrize("module", [sync_client, asyncio_client], ids=["kubernetes", "kubernetes_asyncio"])
async def test_fields_that_the_library_takes_out(at, module):
    """U3: The library takes fields out as it sends a multipart body; the second request has them again."""
    seen: list[Any] = []

    def answer(*_: Any, headers: Any) -> Any:
        seen.append(dict(headers))
        del headers["Content-Type"]
        return SimpleNamespace(status=401 if len(seen) == 1 else 200, read=lambda: b"")

    async def async_answer(*_: Any, headers: Any) -> Any:
        async def read() -> bytes:
            return b""

        found = answer(headers=headers)
        found.read = read
        return found

    await at.tokens.get()
    blocking = module is sync_client
    configuration = module.Configuration(host=at.server.url)
    rest = SimpleNamespace(request=answer if blocking else async_answer)
    client: Any = SimpleNamespace(configuration=configuration, rest_client=rest)
    heal(client, at.handle)
    await asyncio.to_thread(configuration.auth_settings) if blocking else await configuration.auth_settings()
    fields = {"authorization": configuration.api_key["BearerToken"], "Content-Type": "multipart/form-data"}
    if blocking:
        await asyncio.to_thread(rest.request, "POST", "/", headers=fields)
    else:
        await rest.request("POST", "/", headers=fields)
    assert [sent.get("Content-Type") for sent in seen] == ["multipart/form-data"] * 2
    assert [sent["authorization"] for sent in seen] == ["Bearer secret-1", "Bearer secret-2"]
