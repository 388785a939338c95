"""The steps of the store in Redis: their cost in round trips, and codecs, errors and forgotten scripts on the way."""

from __future__ import annotations

import asyncio
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio as redis_asyncio
from tests.stores.on_redis import TOKEN, keep, known, lease_of, minted, new_prefix, renewed, url
from tests.stores.servers import free_port, valkey

from evertoken import Record
from evertoken.stores import RedisStore, _keys
from evertoken.stores._record import UnreadableRecord
from evertoken.stores.encryption import AesGcm, generate_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Round trips


async def commands_of(admin: Any, work: Callable[[], Awaitable[object]]) -> list[str]:
    """Return the commands that the server is sent during *work*, those of scripts excepted."""
    seen: list[str] = []
    async with admin.monitor() as monitor:
        await admin.echo("begin")
        await work()
        await admin.echo("end")
        async for said in monitor.listen():
            if said["command"] == "ECHO begin":
                seen.clear()
            elif said["command"] == "ECHO end":
                break
            elif said["client_type"] != "lua":
                seen.append(said["command"].split()[0])
    return seen


async def rotating(store: RedisStore) -> None:
    lease = await lease_of(store)
    assert await store.mark(Record("k", 2, TOKEN, 5.0, "me"), lease)
    assert await store.commit(Record("k", 3, TOKEN), lease)


async def marked_twice(store: RedisStore) -> None:
    lease = await lease_of(store)
    assert await store.mark(Record("k", 2, TOKEN, 5.0, "me"), lease)
    assert await store.mark(Record("k", 3, TOKEN, 6.0, "me"), lease)
    assert await store.commit(Record("k", 4, TOKEN), lease)


async def of_a_new_key(store: RedisStore) -> None:
    assert await store.commit(Record("new", 1, TOKEN), await lease_of(store, "new"))


async def begun_again(store: RedisStore) -> None:
    await lease_of(store)
    assert await store.commit(Record("k", 2, TOKEN), await lease_of(store))


async def outdated(store: RedisStore) -> None:
    lease = await lease_of(store)
    assert not await store.commit(Record("k", 1, TOKEN), lease)


async def abandoned(store: RedisStore) -> None:
    await store.abandon(await lease_of(store))


async def read(store: RedisStore) -> None:
    assert await store.read("k") is not None


@pytest.mark.parametrize(
    ("work", "trips"),
    [
        (minted, 2),
        (rotating, 3),
        (marked_twice, 4),
        (of_a_new_key, 2),
        (begun_again, 3),
        (outdated, 2),
        (abandoned, 2),
        (renewed, 2),
        (read, 1),
    ],
)
@pytest.mark.parametrize("codec", [None, AesGcm(generate_key())], ids=["plain", "sealed"])
async def test_round_trips(valkey_server, admin, work, trips, codec):
    """K2: each step is one command to the server, so that a refresh takes two, or three where it marks."""
    async with RedisStore(url(valkey_server), codec, prefix=new_prefix()) as store:
        await known(store)
        await keep(store)
        assert await commands_of(admin, lambda: work(store)) == ["HGET" if work is read else "EVALSHA"] * trips


async def test_a_lease_that_is_held_is_one_round_trip(valkey_server, admin):
    """K2: that the lease is another's, and its record, take one command."""
    async with RedisStore(url(valkey_server), prefix=new_prefix()) as store:
        await known(store)
        await keep(store)
        await lease_of(store, owner="other")
        assert await commands_of(admin, lambda: store.begin("k", "me", 10.0)) == ["EVALSHA"]


async def test_scripts_that_the_server_forgot(valkey_server, admin):
    """K3: a restarted server knows no script, and each step still works."""
    async with RedisStore(url(valkey_server), prefix=new_prefix()) as store:
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: keep(store),
            lambda: rotating(store),
            lambda: abandoned(store),
            lambda: renewed(store),
            lambda: store.holder("k"),
            lambda: store.delete("k"),
        ]
        for step in steps:
            await admin.script_flush()
            await step()


async def test_connections_that_the_server_closed(valkey_server, admin):
    """K3: a connection that the server closed while it was idle is made anew, and costs no step."""
    async with RedisStore(url(valkey_server), prefix=new_prefix()) as store:
        for version in range(1, 4):
            await keep(store, version=version)
            await admin.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.05)


# Codecs


@pytest.mark.parametrize("step", ["read", "begin", "mark", "commit"])
async def test_a_vault_is_asked_off_the_loop(valkey_server, step, monkeypatch):
    """F6: what a codec does, such as ask a vault for its keys, never runs on the event loop."""
    monkeypatch.setattr(_keys, "_AT_MOST", 0.0)
    key, asked = generate_key(), set()

    def vault() -> str:
        asked.add(threading.get_ident())
        return key

    async with RedisStore(url(valkey_server), AesGcm(vault), prefix=new_prefix()) as store:
        await keep(store)
        lease = await lease_of(store)
        asked.clear()
        record = Record("k", 2, TOKEN)
        await {
            "read": lambda: store.read("k"),
            "begin": lambda: store.begin("k", "other", 10.0),
            "mark": lambda: store.mark(record, lease),
            "commit": lambda: store.commit(record, lease),
        }[step]()
    assert asked
    assert threading.get_ident() not in asked


async def test_a_record_sealed_with_an_unknown_key(valkey_server):
    """K1: a record sealed with a missing key raises at each step, stays as it is, and blocks nobody."""
    prefix, codec = new_prefix(), AesGcm(generate_key())
    async with (
        RedisStore(url(valkey_server), codec, prefix=prefix) as able,
        RedisStore(url(valkey_server), AesGcm(generate_key()), prefix=prefix) as unable,
    ):
        lease = await lease_of(unable)
        assert await able.mark(record := Record("k", 1, TOKEN), lease)
        for step in (
            lambda: unable.read("k"),
            lambda: unable.mark(Record("k", 2, TOKEN), lease),
            lambda: unable.commit(Record("k", 2, TOKEN), lease),
            lambda: unable.begin("k", "me", 10.0),
        ):
            with pytest.raises(UnreadableRecord, match="not available"):
                await step()
        assert (await able.begin("k", "other", 10.0)).record == record
        await lease_of(able, owner="other")


# Secrets


@pytest.mark.parametrize("step", ["mark", "commit"])
async def test_no_frame_of_an_error_shows_a_token(step):
    """S1: the frames of what a step raises hold no token, whether the server is gone or refuses."""
    with valkey("--cluster-port", str(free_port())) as server:
        async with RedisStore(url(server)) as store:
            lease = await lease_of(store)
            async with redis_asyncio.Redis.from_url(url(server)) as client:
                await client.config_set("maxmemory", "1")
            for _ in range(2):
                with pytest.raises((OSError, redis_asyncio.RedisError)) as caught:
                    await getattr(store, step)(Record("k", 1, TOKEN), lease)
                frames = list(traceback.walk_tb(caught.value.__traceback__))[1:]
                assert not [frame for frame, _ in frames if "planted" in repr({**frame.f_locals, "record": ""})]
                assert "planted" not in str(caught.value)
                await asyncio.to_thread(server.stop)
