"""
The store in Redis, on a real Valkey server: the conformance suite, and a server that is stopped, frozen and flushed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redis.asyncio as redis_asyncio
import valkey.asyncio as valkey_asyncio
from tests.stores.servers import Server, clustered, free_port, valkey

from evertoken import Held, Lease, Record, Token
from evertoken.stores import RedisStore, _redis_client, _redis_url
from evertoken.testing.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN = Token("opaque", issued_at=1.0)


async def loaded(store: RedisStore) -> None:
    """Wait until a restarted server has loaded its saved data."""
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        with contextlib.suppress(redis_asyncio.RedisError):
            await store.read("k")
            return
        await asyncio.sleep(0.02)


def version_in(data: bytes) -> int:
    try:
        return int(json.loads(data)["version"])
    except (ValueError, TypeError):
        return 0


async def plant(address: str, name: str, key: str, data: bytes) -> None:
    async with redis_asyncio.Redis.from_url(address) as client:
        await client.hset(name, mapping={"record": data, "version": version_in(data), "key": key})


async def set_lease(address: str, name: str, seconds: float) -> None:
    async with redis_asyncio.Redis.from_url(address) as client:
        now, _ = await client.time()
        await client.hset(name, "ends", str(int((now + seconds) * 1000)))


def url(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


class TestRedisStore(StoreConformance):
    """A store that makes its own client."""

    @pytest.fixture(autouse=True)
    def place(self, valkey_server: Server) -> None:
        self.url = url(valkey_server)
        self.prefix = f"test-{uuid4().hex}:"

    async def make(self) -> RedisStore:
        return RedisStore(self.url, prefix=self.prefix)

    async def set_lease(self, key: str, seconds: float) -> None:
        await set_lease(self.url, RedisStore(self.url, prefix=self.prefix)._name(key), seconds)

    async def plant(self, key: str, data: bytes) -> None:
        await plant(self.url, RedisStore(self.url, prefix=self.prefix)._name(key), key, data)


class TestGivenClient(StoreConformance):
    """A client of the user's that decodes its results."""

    @pytest.fixture(autouse=True)
    def place(self, valkey_server: Server) -> None:
        self.url = url(valkey_server)
        self.prefix = f"test-{uuid4().hex}:"
        self.clients: list[Any] = []

    async def make(self) -> RedisStore:
        self.clients.append(redis_asyncio.Redis.from_url(self.url, decode_responses=True))
        return RedisStore(self.clients[-1], prefix=self.prefix)

    async def set_lease(self, key: str, seconds: float) -> None:
        await set_lease(self.url, RedisStore(self.url, prefix=self.prefix)._name(key), seconds)

    async def plant(self, key: str, data: bytes) -> None:
        await plant(self.url, RedisStore(self.url, prefix=self.prefix)._name(key), key, data)

    async def test_on_another_loop(self) -> None:
        """K2: a client that is given stays on its loop, which its owner sees to."""

    async def clean(self) -> None:
        for client in self.clients:
            assert await client.ping()
            await client.aclose()


async def test_valkeys_own_client(valkey_server):
    """K2: valkey-py's client is as good as redis-py's."""
    async with valkey_asyncio.Valkey.from_url(url(valkey_server)) as client:
        store = RedisStore(client, prefix=f"{uuid4().hex}:")
        lease = (await store.begin("k", "me", 5.0)).lease
        assert isinstance(lease, Lease)
        assert await store.commit(Record("k", 1, TOKEN), lease)
        assert await store.read("k") == Record("k", 1, TOKEN)


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Server]:
    """Run a cluster of one server."""
    with valkey("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        async with redis_asyncio.Redis.from_url(url(server)) as node:
            await node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            end = time.monotonic() + 20.0
            while "cluster_state:ok" not in str(await node.execute_command("CLUSTER", "INFO")):
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
        yield server


@clustered
async def test_a_cluster():
    """K2: in a cluster all of a key is in one place, and watching and listing work as well."""
    async with cluster() as server, redis_asyncio.RedisCluster.from_url(url(server)) as client:
        store = RedisStore(client, prefix="c:")
        seen: list[str | None] = []
        watching = asyncio.ensure_future(store.watch(seen.append))
        while not seen:
            await asyncio.sleep(0.01)
        for number in range(20):
            lease = (await store.begin(f"k{number}", "me", 5.0)).lease
            assert isinstance(lease, Lease)
            assert isinstance((await store.begin(f"k{number}", "you", 5.0)).lease, Held)
            assert await store.mark(Record(f"k{number}", 1, TOKEN), lease)
            assert await store.commit(Record(f"k{number}", 2, TOKEN), lease)
        listed = [key async for key in store.keys()]  # noqa: SIM118 - a store is no dict
        assert sorted(listed) == sorted(f"k{number}" for number in range(20))
        while len(seen) < 41:
            await asyncio.sleep(0.01)
        watching.cancel()
        await asyncio.wait([watching])


@clustered
async def test_a_small_pool_of_a_cluster():
    """K3: a cluster's client with few connections to each server is waited for."""
    async with cluster() as server, redis_asyncio.RedisCluster.from_url(url(server), max_connections=2) as client:
        store = RedisStore(client, prefix="c:")
        begun = await asyncio.gather(*(store.begin(f"k{number}", "me", 10.0) for number in range(200)))
        assert all(isinstance(one.lease, Lease) for one in begun)


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_the_server_goes_and_comes(how, monkeypatch):
    """K3: with the server gone or silent each step ends within its bound, and works again after; the watch says so."""
    monkeypatch.setattr(_redis_url, "SOCKET_TIMEOUT", 1.0)
    monkeypatch.setattr(_redis_client, "SILENCE", 1.0)
    with valkey() as server:
        async with RedisStore(url(server)) as store, RedisStore(url(server)) as peer:
            lease = (await store.begin("k", "me", 10.0)).lease
            assert isinstance(lease, Lease)
            assert await store.mark(Record("k", 1, TOKEN), lease)
            seen: list[str | None] = []

            async def watch() -> None:
                while True:
                    with contextlib.suppress(Exception):
                        await peer.watch(seen.append)
                    await asyncio.sleep(0.05)

            watching = asyncio.ensure_future(watch())
            while not seen:
                await asyncio.sleep(0.01)
            (server.stop if how == "stopped" else server.freeze)()
            for call in (
                lambda: store.read("k"),
                lambda: store.renew(lease, 5.0),
                lambda: store.begin("other", "me", 5.0),
                lambda: store.commit(Record("k", 2, TOKEN), lease),
            ):
                begun = time.monotonic()
                with pytest.raises((OSError, redis_asyncio.RedisError)):
                    await call()
                assert time.monotonic() - begun < 10.0
            (server.start if how == "stopped" else server.thaw)()
            await loaded(store)
            # The saved data is there, and the lease too.
            record = await store.read("k")
            assert record is not None
            assert await store.commit(Record("k", record.version + 1, TOKEN), lease)
            if how == "stopped":
                end = time.monotonic() + 20.0
                while seen.count(None) < 2:
                    assert time.monotonic() < end
                    await asyncio.sleep(0.02)
            lease = (await store.begin("late", "me", 5.0)).lease
            assert isinstance(lease, Lease)
            assert await store.commit(Record("late", 1, TOKEN), lease)
            end = time.monotonic() + 20.0
            while "late" not in seen and seen.count(None) < 2:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            watching.cancel()
            await asyncio.wait([watching])


async def test_flushed(valkey_server):
    """K2: after FLUSHALL a lease from before is no longer good, though the new one has the same fence."""
    async with RedisStore(url(valkey_server), prefix=f"{uuid4().hex}:") as store:
        old = (await store.begin("k", "old", 10.0)).lease
        assert isinstance(old, Lease)
        async with redis_asyncio.Redis.from_url(url(valkey_server)) as client:
            await client.flushall()
        new = (await store.begin("k", "new", 10.0)).lease
        assert isinstance(new, Lease)
        assert new.fence == old.fence
        assert not await store.commit(Record("k", 1, TOKEN), old)
        assert not await store.renew(old, 5.0)
        assert await store.commit(Record("k", 1, TOKEN), new)


async def test_expire_after(valkey_server):
    """K1: with expire_after the server forgets a key that nobody wrote for that long, and not before."""
    async with RedisStore(url(valkey_server), prefix=f"{uuid4().hex}:", expire_after=100.0) as store:
        lease = (await store.begin("k", "me", 5.0)).lease
        assert isinstance(lease, Lease)
        assert await store.commit(Record("k", 1, TOKEN), lease)
        async with redis_asyncio.Redis.from_url(url(valkey_server)) as client:
            assert 99_000 < await client.pttl(store._name("k")) <= 100_000


async def test_a_prefix_that_begins_another(valkey_server):
    """K2: two stores in one server share nothing, also where the prefix of one begins with that of the other."""
    prefix = f"{uuid4().hex}:"
    async with (
        RedisStore(url(valkey_server), prefix=prefix) as one,
        RedisStore(url(valkey_server), prefix=f"{prefix}more:") as other,
    ):
        for store, key in ((one, "one"), (other, "other"), (one, "both"), (other, "both")):
            lease = (await store.begin(key, "me", 5.0)).lease
            assert isinstance(lease, Lease)
            assert await store.commit(Record(key, 1, TOKEN), lease)
        async with redis_asyncio.Redis.from_url(url(valkey_server)) as client:
            await client.set(f"{prefix}a counter of somebody's", 1)
        assert sorted([key async for key in one.keys()]) == ["both", "one"]  # noqa: SIM118 - a store is no dict
        assert sorted([key async for key in other.keys()]) == ["both", "other"]  # noqa: SIM118
        assert await one.read("other") is None


async def test_many_steps_at_once(valkey_server):
    """F6: steps of many keys at one time find a connection each, however many those are."""
    async with RedisStore(url(valkey_server), prefix=f"{uuid4().hex}:") as store:
        begun = await asyncio.gather(*(store.begin(f"k{number}", "me", 10.0) for number in range(300)))
        assert all(isinstance(one.lease, Lease) for one in begun)


async def test_torn_is_set_aside(valkey_server, caplog):
    """K1: a broken record is moved aside and reported once, and a write above nothing works again."""
    async with RedisStore(url(valkey_server), prefix=f"{uuid4().hex}:") as store:
        async with redis_asyncio.Redis.from_url(url(valkey_server)) as client:
            await client.hset(store._name("k"), mapping={"record": b"\x00torn", "version": 9, "key": "k"})
            with caplog.at_level(logging.WARNING, "evertoken"):
                assert await store.read("k") is None
                assert await store.read("k") is None
            assert len(caplog.records) == 1
            lease = (await store.begin("k", "me", 5.0)).lease
            assert isinstance(lease, Lease)
            assert await store.commit(Record("k", 1, TOKEN), lease)
            assert await client.hget(store._name("k"), "torn") == b"\x00torn"


@pytest.mark.parametrize("torn", ["", "abc", "nan", "inf", "1e400", "-1", "0.5", str(2**53 - 1), "9" * 19, "9" * 400])
@pytest.mark.parametrize("field", ["ends", "fence", "version"])
async def test_a_torn_lease_is_begun_anew(valkey_server, field, torn):
    """K2: an invalid number in the place of a lease blocks nobody, and the earlier holder has lost the lease."""
    async with RedisStore(url(valkey_server), prefix=f"{uuid4().hex}:") as store:
        async with redis_asyncio.Redis.from_url(url(valkey_server)) as client:
            old = (await store.begin("k", "old", 10.0)).lease
            assert isinstance(old, Lease)
            assert await store.mark(Record("k", 1, TOKEN), old)
            await client.hset(store._name("k"), field, torn)
            if field == "ends":
                assert not await store.renew(old, 10.0)
                assert await store.holder("k") is None
            else:
                await store.abandon(old)
                await client.hset(store._name("k"), "ends", "0")
            new = (await store.begin("k", "new", 10.0)).lease
            assert isinstance(new, Lease)
            assert await store.holder("k") == ("new", pytest.approx(10.0, abs=5.0))
            assert not await store.commit(Record("k", 2, TOKEN), old)
            assert await store.renew(new, 10.0)
            assert await store.commit(Record("k", 3, TOKEN), new)
            await store.abandon(new)
            again = (await store.begin("k", "again", 10.0)).lease
            assert isinstance(again, Lease)
            assert again.fence > new.fence


async def test_a_socket_of_this_host(tmp_path):
    """K2: a server on the same host is reached by its socket as well."""
    path = tmp_path / "valkey.sock"
    with valkey("--unixsocket", str(path)):
        async with RedisStore(f"unix://{path}") as store:
            lease = (await store.begin("k", "me", 5.0)).lease
            assert isinstance(lease, Lease)
            assert await store.commit(Record("k", 1, TOKEN), lease)
            assert await store.read("k") == Record("k", 1, TOKEN)


@pytest.mark.parametrize("bad", ["", "http://x", "localhost:6379", "memcached://x", "redis://:p/w@h:1", "redis://[h"])
def test_bad_urls(bad):
    """S1: a URL of another kind is refused by name, and not shown, because it may contain a password."""
    with pytest.raises(ValueError, match="redis must be a URL"):
        RedisStore(bad)


def test_no_client():
    """S1: an object that is neither URL nor client is refused. No repr shows a password."""
    with pytest.raises(TypeError, match="redis must be a URL or an asyncio client, not object"):
        RedisStore(object())
    with pytest.raises(TypeError, match="a cluster needs redis-py 8"):
        RedisStore(type("ValkeyCluster", (), {})())
    with pytest.raises(ValueError, match="expire_after"):
        RedisStore("redis://h", expire_after=0.0)
    with pytest.raises(ValueError, match="max_connections"):
        RedisStore("redis://h", max_connections=0)
    assert repr(RedisStore("rediss://user:p4ss@h:1/2")) == "RedisStore('rediss://h:1/2', prefix='evertoken:')"
