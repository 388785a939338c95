"""
What the steps of the store in Redis cost, and what they ask of the server, its users, its clock and a client.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redis.asyncio as redis_asyncio
from tests.stores.servers import Server, free_port, valkey

from evertoken import Held, Lease, Record, Token
from evertoken.stores import RedisStore, _keys
from evertoken.stores._record import UnreadableRecord
from evertoken.stores.encryption import AesGcm, generate_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SECRET = "planted-access-token-4711"
TOKEN = Token(SECRET, issued_at=1.0, refresh_token="planted-refresh-token-4711")


def url(server: Server, more: str = "") -> str:
    return f"redis://{more}127.0.0.1:{server.port}/0"


def new_prefix() -> str:
    return f"{uuid4().hex}:"


@pytest.fixture
async def admin(valkey_server: Server) -> AsyncIterator[Any]:
    async with redis_asyncio.Redis.from_url(url(valkey_server)) as client:
        yield client


async def lease_of(store: RedisStore, key: str = "k", owner: str = "me", ttl: float = 10.0) -> Lease:
    lease = (await store.begin(key, owner, ttl)).lease
    assert isinstance(lease, Lease)
    return lease


async def keep(store: RedisStore, key: str = "k", version: int = 1) -> None:
    assert await store.commit(Record(key, version, TOKEN), await lease_of(store, key))


# Round trips


async def commands_of(admin: Any, work: Callable[[], Awaitable[object]]) -> list[str]:
    """
    Return the commands that the server is sent during *work*, those of scripts excepted.
    """
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


async def known(store: RedisStore) -> None:
    """
    Let the server know all scripts.
    """
    lease = await lease_of(store, "other key")
    assert await store.renew(lease, 10.0)
    await store.abandon(lease)
    await keep(store, "other key")


async def minted(store: RedisStore) -> None:
    assert await store.commit(Record("k", 2, TOKEN), await lease_of(store))


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


async def renewed(store: RedisStore) -> None:
    assert await store.renew(await lease_of(store), 10.0)


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
    """K3: a server that was started again knows no script, and each step works all the same."""
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
    """K1: what is sealed with a key that is not at hand raises at each step, stays as it is, and bars nobody."""
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
            with pytest.raises(UnreadableRecord, match="not at hand"):
                await step()
        assert (await able.begin("k", "other", 10.0)).record == record
        await lease_of(able, owner="other")


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
