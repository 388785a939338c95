"""How many connections the store in Redis uses, and how it behaves when no connection is free."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio as redis_asyncio
import valkey.asyncio as valkey_asyncio
from tests.stores.servers import Server

from evertoken import Lease, Record, Token
from evertoken.stores import RedisStore

TOKEN = Token("opaque", issued_at=1.0)


def url(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


async def keep(store: RedisStore, key: str, version: int = 1) -> None:
    lease = (await store.begin(key, "me", 10.0)).lease
    assert isinstance(lease, Lease)
    assert await store.commit(Record(key, version, TOKEN), lease)


async def clients_named(admin: Any, name: str) -> int:
    return sum(client["name"] == name for client in await admin.client_list())


@pytest.mark.parametrize(
    ("arguments", "most"), [({}, 16), ({"max_connections": 3}, 3), ({"max_connections": 1}, 1)], ids=str
)
async def test_connections_are_bounded(valkey_server, arguments, most):
    """F6: however many keys and providers there are, steps that find no connection free wait for one."""
    name = uuid4().hex
    async with (
        redis_asyncio.Redis.from_url(url(valkey_server)) as admin,
        RedisStore(f"{url(valkey_server)}?client_name={name}", prefix=f"{uuid4().hex}:", **arguments) as store,
    ):
        watching = asyncio.ensure_future(store.watch(lambda _: None))
        await asyncio.gather(*(keep(store, f"k{number}") for number in range(300)))
        assert await clients_named(admin, name) <= most + 1
        assert len([key async for key in store.keys()]) == 300  # noqa: SIM118 - a store is no dict
        watching.cancel()
        await asyncio.wait([watching])


def of_redis(address: str, size: int) -> Any:
    return redis_asyncio.Redis.from_url(address, max_connections=size)


def of_redis_blocking(address: str, size: int) -> Any:
    pool = redis_asyncio.BlockingConnectionPool.from_url(address, max_connections=size, timeout=0.02)
    return redis_asyncio.Redis.from_pool(pool)


def of_valkey_blocking(address: str, size: int) -> Any:
    pool = valkey_asyncio.BlockingConnectionPool.from_url(address, max_connections=size, timeout=0.02)
    return valkey_asyncio.Valkey.from_pool(pool)


def of_valkey(address: str, size: int) -> Any:
    return valkey_asyncio.Valkey.from_url(address, max_connections=size)


@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("make", [of_redis, of_redis_blocking, of_valkey, of_valkey_blocking])
async def test_a_small_pool_is_waited_for(valkey_server, make, size):
    """K3: a client whose pool is small, and which the program and a watch use too, is a store that is well."""
    async with make(url(valkey_server), size) as client:
        prefix, seen = f"{uuid4().hex}:", []
        stores = [RedisStore(client, prefix=prefix) for _ in range(2)]
        watching = asyncio.ensure_future(stores[0].watch(seen.append))
        await asyncio.gather(*(keep(stores[number % 2], f"k{number}") for number in range(200)))

        async def used_by_the_program() -> None:
            for _ in range(5):
                with contextlib.suppress(redis_asyncio.ConnectionError, valkey_asyncio.ConnectionError):
                    await client.blpop("nothing is here", 0.1)

        program = asyncio.ensure_future(used_by_the_program())
        await asyncio.gather(*(keep(stores[number % 2], f"k{number}", 2) for number in range(200)))
        await program
        assert not watching.done(), watching
        assert seen
        watching.cancel()
        await asyncio.wait([watching])


async def test_a_pool_without_room_for_a_watch(valkey_server):
    """K3: a watch that would take the last connection of a pool is refused by name, and the steps go on."""
    async with redis_asyncio.Redis.from_url(url(valkey_server), max_connections=1) as client:
        store = RedisStore(client, prefix=f"{uuid4().hex}:")
        with pytest.raises(ConnectionError, match="pool of 1 connections"):
            await store.watch(lambda _: None)
        await asyncio.gather(*(keep(store, f"k{number}") for number in range(50)))
