"""The server of the store in Redis: rights of its users, its clock, keys that expire, and values of strangers."""

from __future__ import annotations

import asyncio
import logging

import pytest
import redis.asyncio as redis_asyncio
from tests.stores.on_redis import TOKEN, keep, known, lease_of, minted, new_prefix, renewed, url

from evertoken import Held, Record
from evertoken.stores import RedisStore

# Users, clocks, expiry


@pytest.mark.parametrize(
    "rights",
    [
        pytest.param(("+@all", "resetchannels"), id="no channel"),
        pytest.param(("+@all", "resetchannels", "&other"), id="another channel"),
        pytest.param(("+@all", "allchannels", "-publish", "-subscribe"), id="not these commands"),
    ],
)
async def test_a_user_without_rights_to_the_channel(valkey_server, admin, rights, caplog):
    """K1, K3: a notice that cannot be sent undoes no write. That peers are not told is said once."""
    prefix = new_prefix()
    await admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", f"~{prefix}*", *rights)
    async with RedisStore(url(valkey_server, "app:pw@"), prefix=prefix) as store:
        seen: list[str | None] = []
        watching = [asyncio.ensure_future(store.watch(seen.append)) for _ in range(2)]
        with caplog.at_level(logging.WARNING, "evertoken"):
            for version in range(1, 6, 2):
                lease = await lease_of(store)
                assert await store.mark(Record("k", version, TOKEN, 5.0), lease)
                assert await store.commit(record := Record("k", version + 1, TOKEN), lease)
                assert await store.read("k") == record
            end = asyncio.get_running_loop().time() + 10.0
            while len(seen) < 2:
                assert asyncio.get_running_loop().time() < end
                await asyncio.sleep(0.01)
        assert seen == [None, None]
        assert not [task for task in watching if task.done()]
        said = [entry.getMessage() for entry in caplog.records]
        assert len([line for line in said if "may not publish" in line]) == 1
        assert len([line for line in said if "may not subscribe" in line]) == 1
        assert "pw" not in caplog.text
        for task in watching:
            task.cancel()
        await asyncio.wait(watching)


async def test_the_rights_that_the_documentation_names(valkey_server, admin, caplog):
    """K2, L2: a user with the documented rights, to the keys and the channel of the prefix alone, does all there is."""
    prefix = new_prefix()
    rights = (f"~{prefix}*", f"&{prefix}*", "+@all", "-@admin", "-@dangerous")
    await admin.execute_command("ACL", "SETUSER", "documented", "reset", "on", ">pw", *rights)
    async with RedisStore(url(valkey_server, "documented:pw@"), prefix=prefix, expire_after=100.0) as store:
        seen: list[str | None] = []
        watching = asyncio.ensure_future(store.watch(seen.append))
        while not seen:
            await asyncio.sleep(0.01)
        with caplog.at_level(logging.WARNING, "evertoken"):
            await known(store)
            await keep(store)
            await admin.hset(store._name("k"), "record", "torn")
            assert await store.read("k") is None
            await keep(store, version=2)
            assert sorted([key async for key in store.keys()]) == ["k", "other key"]  # noqa: SIM118
            assert await store.holder("k") is None
            assert await store.delete("k")
        while seen.count("k") < 2:
            await asyncio.sleep(0.01)
        assert len(caplog.records) == 1
        watching.cancel()
        await asyncio.wait([watching])


async def test_a_clock_that_is_set_back_a_little(valkey_server, admin):
    """K2, T2: a small correction of the server's clock takes no lease from its holder."""
    async with RedisStore(url(valkey_server), prefix=new_prefix()) as store:
        await lease_of(store)
        name = store._name("k")
        await admin.hset(name, "ends", str(int(await admin.hget(name, "ends")) + 100))
        assert isinstance((await store.begin("k", "other", 10.0)).lease, Held)
        assert await store.holder("k") is not None


async def begun(store: RedisStore) -> None:
    await lease_of(store)


async def given_back(store: RedisStore) -> None:
    await store.abandon(await lease_of(store))


async def deleted(store: RedisStore) -> None:
    await keep(store)
    assert await store.delete("k")


@pytest.mark.parametrize("work", [begun, given_back, renewed, minted, deleted])
@pytest.mark.parametrize("expire_after", [0.5, 100.0])
async def test_whatever_is_made_expires(valkey_server, admin, work, expire_after):
    """K1: with expire_after a key that never succeeded expires as well, and no lease ends before its time."""
    async with RedisStore(url(valkey_server), prefix=new_prefix(), expire_after=expire_after) as store:
        await work(store)
        left = await admin.pttl(store._name("k"))
        assert 0 < left <= max(expire_after, 10.0) * 1000
        if work is begun:
            assert left > 9000


async def test_without_expire_after_nothing_expires(valkey_server, admin):
    """K1: unless it is asked for, the server forgets nothing."""
    async with RedisStore(url(valkey_server), prefix=new_prefix()) as store:
        await keep(store)
        assert await admin.pttl(store._name("k")) == -1


# Strangers


@pytest.mark.parametrize("decode", [False, True])
async def test_foreign_values_hide_no_record(valkey_server, admin, decode, caplog):
    """L2: what a stranger keeps under a name of ours is passed over and reported once, and the rest is listed."""
    prefix = new_prefix()
    async with redis_asyncio.Redis.from_url(url(valkey_server), decode_responses=decode) as client:
        store = RedisStore(client, prefix=prefix)
        for name in ("a", "b", "c"):
            await keep(store, name)
        strangers = [
            lambda name: admin.set(name, "x"),
            lambda name: admin.lpush(name, "x"),
            lambda name: admin.sadd(name, "x"),
            lambda name: admin.zadd(name, {"x": 1.0}),
            lambda name: admin.xadd(name, {"x": "y"}),
            lambda name: admin.hset(name, "key", "another key"),
            lambda name: admin.hset(name, "key", b"\xff\xfe"),
        ]
        for number, stranger in enumerate(strangers):
            await stranger(store._name(f"stranger {number}"))
        await admin.hset(store._name("no key"), "x", "y")
        await admin.set(f"{prefix}{{{'g' * 64}}}", "x")
        await admin.set(f"{prefix}{{".encode() + b"\xff" * 64 + b"}", "x")
        with caplog.at_level(logging.WARNING, "evertoken"):
            for _ in range(2):
                assert sorted([key async for key in store.keys()]) == ["a", "b", "c"]  # noqa: SIM118
        assert len(caplog.records) == len(strangers)
        for number in range(len(strangers)):
            assert await store.delete(f"stranger {number}")
            assert await store.read(f"stranger {number}") is None
        assert sorted([key async for key in store.keys()]) == ["a", "b", "c"]  # noqa: SIM118


@pytest.mark.parametrize("step", ["begin", "mark", "commit"])
async def test_a_foreign_value_is_not_written_over(valkey_server, admin, step):
    """K1: a value of another type in the place of a record is an error, and stays."""
    async with RedisStore(url(valkey_server), prefix=new_prefix()) as store:
        lease, name = await lease_of(store), store._name("k")
        await admin.delete(name)
        await admin.set(name, "a stranger's")
        with pytest.raises(redis_asyncio.ResponseError, match="WRONGTYPE"):
            if step == "begin":
                await store.begin("k", "me", 10.0)
            else:
                await getattr(store, step)(Record("k", 1, TOKEN), lease)
        assert await admin.get(name) == b"a stranger's"
