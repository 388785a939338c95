"""
The store in Redis as it is deployed: behind TLS, with a Sentinel that promotes a replica, and as a cluster of several.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redis.asyncio as redis_asyncio
from redis.asyncio.sentinel import Sentinel
from tests.stores.certificates import Certificate, certificate_in
from tests.stores.proxy import Proxy
from tests.stores.servers import Server, clustered, free_port, sentinel, valkey

from evertoken import Held, Lease, Record, Token, TokenManager, TokenStore
from evertoken.stores import RedisStore
from evertoken.testing import TokenServer
from evertoken.testing.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

pytestmark = pytest.mark.breakage

TOKEN = Token("opaque", issued_at=1.0)


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 40.0) -> None:
    """Wait until *condition* holds; errors on the way count as not yet."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, redis_asyncio.RedisError):
            if await condition():
                return
        assert time.monotonic() < end, what
        await asyncio.sleep(0.05)


async def keep(store: TokenStore, key: str, version: int = 1) -> Lease:
    lease = (await store.begin(key, f"owner-{version}", 5.0)).lease
    assert isinstance(lease, Lease)
    assert await store.mark(Record(key, version, TOKEN), lease)
    return lease


# TLS


@pytest.fixture(scope="module")
def vouched(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate_in(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def encrypted(server: Server, vouched: Certificate) -> AsyncIterator[int]:
    """Put TLS before a server whose build has none; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*vouched)
    async with Proxy(server.port, context) as proxy:
        yield proxy.port


class TestOverTLS(StoreConformance):
    """A URL that begins with rediss://, its certificate checked."""

    many = 40

    @pytest.fixture(autouse=True)
    def place(self, valkey_server: Server, vouched: Certificate) -> None:
        self.server, self.vouched = valkey_server, vouched
        self.prefix = f"tls-{uuid4().hex}:"
        self.stack = contextlib.AsyncExitStack()
        self.port = 0

    async def make(self) -> RedisStore:
        if not self.port:
            self.port = await self.stack.enter_async_context(encrypted(self.server, self.vouched))
        # Each handshake takes its time on this loop, on both sides.
        patience = "socket_timeout=30&socket_connect_timeout=30"
        url = f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={self.vouched.certificate}&{patience}"
        return RedisStore(url, prefix=self.prefix)

    async def clean(self) -> None:
        await self.stack.aclose()

    async def test_on_another_loop(self) -> None:
        """U5: what stands before the server lives on one loop, so that this is for the plain server to show."""


async def test_a_certificate_of_nobody(valkey_server: Server, vouched: Certificate) -> None:
    """S2: a server without a trusted certificate is not used, and rediss:// never falls back to a plain one."""
    async with encrypted(valkey_server, vouched) as port:
        for url in (f"rediss://127.0.0.1:{port}/0", f"rediss://127.0.0.1:{valkey_server.port}/0"):
            with pytest.raises((redis_asyncio.ConnectionError, redis_asyncio.TimeoutError)):
                await RedisStore(url).begin("k", "me", 1.0)


# Sentinel


@pytest.fixture
def replicated() -> Iterator[tuple[Server, Server, Server]]:
    """A master, its replica, and a Sentinel that knows of both."""
    with valkey() as master, valkey("--replicaof", f"127.0.0.1 {master.port}") as replica, sentinel(master) as watcher:
        yield master, replica, watcher


async def test_a_master_that_dies(replicated: tuple[Server, Server, Server]) -> None:
    """K2, K3: when a Sentinel promotes a replica the fleet goes on with it: kept, leased, watched and shared."""
    master, replica, watcher = replicated
    options: dict[str, Any] = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
    place = Sentinel([("127.0.0.1", watcher.port)], sentinel_kwargs=options, **options)
    with TokenServer() as idp:
        source = idp.refresh_token(rotates=True)
        async with (
            place.master_for("mymaster") as first,
            place.master_for("mymaster") as second,
            redis_asyncio.Redis(port=replica.port) as copy,
            redis_asyncio.Redis(port=watcher.port, decode_responses=True) as looking,
        ):
            one = TokenManager(source, store=RedisStore(first), namespace="", start="require")
            two = TokenManager(source, store=RedisStore(second), namespace="", start="require")
            async with one, two:
                token = await one.get()
                assert await two.get() == token

                async def copied() -> bool:
                    known = await looking.execute_command("SENTINEL", "REPLICAS", "mymaster")
                    return bool(known) and await copy.dbsize() == 1

                await until(copied, "the replica is in step, and known")
                await asyncio.to_thread(master.stop)
                assert await one.get() == token

                async def promoted() -> bool:
                    role: Any = await copy.role()
                    return bytes(role[0]) == b"master"

                await until(promoted, "the replica is promoted")

                async def refreshed() -> bool:
                    with contextlib.suppress(Exception):
                        await one.refresh()
                    return one.peek() != token

                await until(refreshed, "a refresh with the new master")

                async def adopted() -> bool:
                    return two.peek() == one.peek()

                await until(adopted, "the watch goes on at the new master")
        for client in place.sentinels:
            await client.aclose()
        assert idp.stats.replays == 0
        assert idp.stats.token_requests == 2


# A cluster


@contextlib.asynccontextmanager
async def cluster(size: int) -> AsyncIterator[list[Server]]:
    """Run a cluster of masters that share the slots."""
    buses = [free_port() for _ in range(size)]
    options = "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port"
    async with contextlib.AsyncExitStack() as stack:
        nodes = [stack.enter_context(valkey(*options, str(bus))) for bus in buses]
        asked = [await stack.enter_async_context(redis_asyncio.Redis(port=node.port)) for node in nodes]
        share = 16_384 // size + 1
        for number, client in enumerate(asked):
            first, last = number * share, min((number + 1) * share, 16_384) - 1
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            await asked[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)

        async def formed() -> bool:
            said = [str(await client.execute_command("CLUSTER", "INFO")) for client in asked]
            wanted = "cluster_state:ok", f"cluster_known_nodes:{size}", "cluster_slots_ok:16384"
            return all(word in one for one in said for word in wanted)

        await until(formed, "the cluster is formed")
        yield nodes


@clustered
async def test_a_cluster_of_three() -> None:
    """K2: in a cluster of several each key is in one place, notices reach watchers at any node, and all are listed."""
    async with (
        cluster(3) as nodes,
        redis_asyncio.RedisCluster(host="127.0.0.1", port=nodes[0].port) as here,
        redis_asyncio.RedisCluster(host="127.0.0.1", port=nodes[2].port) as there,
    ):
        store, peer = RedisStore(here, prefix="c:"), RedisStore(there, prefix="c:")
        seen: list[str | None] = []
        watching = asyncio.ensure_future(peer.watch(seen.append))

        async def heard() -> bool:
            assert not watching.done(), watching
            return bool(seen)

        await until(heard, "the watch begins")
        names = [f"k{number}" for number in range(60)]
        for name in names:
            await keep(store, name)
            assert isinstance((await peer.begin(name, "you", 5.0)).lease, Held)
            assert await peer.read(name) == Record(name, 1, TOKEN)

        async def all_heard() -> bool:
            return set(names) <= set(seen)

        await until(all_heard, "all notices")
        assert sorted([key async for key in store.keys()]) == sorted(names)  # noqa: SIM118 - a store is no dict
        placed = []
        for node in nodes:
            async with redis_asyncio.Redis(port=node.port) as client:
                placed.append(await client.dbsize())
        assert sum(placed) == 60
        assert min(placed) > 0
        watching.cancel()
        await asyncio.wait([watching])
