"""Commands other than a refresh, while a fleet and a store are in the middle of something."""

from __future__ import annotations

import asyncio

import pytest
from tests.fleet.simulation import Server, Store, Worker, end, start
from tests.gated import virtual

from evertoken import Token, TokenManager


@virtual
@pytest.mark.parametrize("written", [False, True])
async def test_put_cancelled_once_it_is_kept(clock, written):
    """K1: a put() that is cancelled while the store is told has put the token, here as in the store."""
    store, server = Store(clock), Server(clock, rotating=True, lifetime=600.0)
    one = Worker("one", store, server)
    await start([one])
    assert await one.use() is not None
    await clock.advance(1.0)
    commit, reached, go = one.commit, asyncio.Event(), asyncio.Event()

    async def hanging(record, lease, /):
        done = await commit(record, lease) if written else None
        reached.set()
        await go.wait()
        return await commit(record, lease) if done is None else done

    one.commit = hanging
    token = Token("put", issued_at=clock.time(), expires_at=clock.time() + 600.0, refresh_token="rt-put")
    server.good = "rt-put"
    putting = asyncio.ensure_future(one.manager.put(token))
    await reached.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    one.commit = commit
    assert one.manager.peek() == token
    go.set()
    await clock.advance(0.1)
    record = await store.record()
    assert record.token == token
    await clock.advance(700.0)
    assert await one.use() is not None
    assert server.issued == 2
    assert not server.replays
    await end([one])


@virtual
async def test_put_beside_a_fetch_without_the_store(clock):
    """K3: a token that is put serves at once, also while the store is slow or down, and nothing overwrites it."""
    store, server = Store(clock), Server(clock, rotating=False, lifetime=600.0)
    one = Worker("one", store, server)
    await start([one])
    store.down = True
    begin, go = one.begin, asyncio.Event()

    async def slow(key, owner, ttl, /):
        await go.wait()
        return await begin(key, owner, ttl)

    one.begin = slow
    token = Token("put", issued_at=clock.time(), expires_at=clock.time() + 600.0)
    before = one.fetches
    putting = asyncio.ensure_future(one.manager.put(token))
    await clock.advance(0.1)
    one.begin = begin
    assert await one.manager.get() == token
    go.set()
    await putting
    assert one.fetches == before
    await clock.advance(10.0)
    assert one.manager.peek() == token
    store.down = False
    await clock.advance(10.0)
    record = await store.record()
    assert record.token == token
    await end([one])


@virtual
async def test_revoke_while_a_peer_fetches(clock):
    """K2: who signs a key out serves nothing, though it adopted what a peer wrote while it waited for the lease."""
    store, server = Store(clock), Server(clock, rotating=True, lifetime=600.0)
    one, two = (Worker(name, store, server) for name in ("one", "two"))
    await start([one, two])
    assert await one.use() == await two.use() is not None
    await clock.advance(1.0)
    server.latency = 3.0
    refreshing = asyncio.ensure_future(two.manager.refresh())
    await clock.advance(1.0)
    await one.manager.revoke()
    assert one.manager.peek() is None
    assert (await refreshing).access_token == "at-2"
    await clock.advance(5.0)
    assert one.manager.peek() is None
    assert two.manager.peek() is None
    record = await store.record()
    assert record.revoked
    await end([one, two])


@virtual
async def test_forget_what_the_store_keeps(clock):
    """K1: a key that was forgotten is read from the store again, and presents no refresh token of before."""
    store, server = Store(clock), Server(clock, rotating=True)
    one = Worker("one", store, server)
    await start([one])
    token = await one.use()
    assert token is not None
    await clock.advance(1.0)
    assert await one.manager.forget()
    assert await one.use() == token
    assert server.issued == 1
    assert not server.replays
    await end([one])


@virtual
async def test_an_idle_key_that_no_store_keeps(clock):
    """K1: a refresh token that the store should hold and does not is not dropped with its key, however idle that is."""
    store, server = Store(clock), Server(clock, rotating=True, lifetime=600.0)
    one = Worker("one", store, server)
    async with TokenManager(source_for=lambda _: one, store=one, namespace="", clock=clock, idle_after=100.0) as tokens:
        await tokens.get("k")
        await clock.advance(1.0)
        call = store.call

        async def failing(operation, *args):
            store.down = store.down or (operation == "commit")
            return await call(operation, *args)

        store.call = failing
        token = await tokens.refresh("k")
        assert store.down
        await clock.advance(300.0)
        store.call, store.down = call, False
        await clock.advance(10.0)
        record = await store.memory.read('["","k"]')
        assert record is not None
        assert record.token == token
        # Once it is kept it goes like any other.
        await clock.advance(300.0)
        assert tokens.snapshot().keys == {}
    assert not server.replays
