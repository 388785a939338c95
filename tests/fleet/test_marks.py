"""The mark on record before a request leaves: lost with its store, or left behind although nothing was sent."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from tests.fleet.simulation import KEY, Server, Store, Worker, end, start
from tests.gated import virtual
from tests.kinds import rotating

from evertoken import GrantRejected, TokenManager, TokenUnavailable
from evertoken._coordination.hearing import OFFER
from evertoken.stores import MemoryStore


@virtual
@pytest.mark.parametrize("habit", ["hold", "reject"])
@pytest.mark.parametrize("when", ["marking", "unmarking"])
async def test_a_mark_that_nothing_came_of(clock, habit, when):
    """K4: a request that never left is not ambiguous to who knows that, though the store went down over its mark."""
    store, server = Store(clock), Server(clock, rotating=True)
    one = Worker("one", store, server, on_ambiguous=habit)
    await start([one])
    first = await one.use()
    assert first is not None
    call = store.call

    async def failing(operation: str, *args: Any) -> Any:
        if when == "marking" and operation == "mark":
            # It is written, and the answer is lost.
            await call(operation, *args)
            raise ConnectionResetError("the store is gone")
        if when == "unmarking" and operation == "commit":
            raise ConnectionResetError("the store is gone")
        return await call(operation, *args)

    store.call = failing
    server.down = when == "unmarking"
    await clock.advance(51.0)
    assert server.issued == 1
    store.call, server.down = call, False
    await clock.advance(8.0)
    assert server.issued == 2
    assert one.manager.peek() not in {first, None}
    assert not server.replays
    assert not one.errors
    await end([one])


@virtual
@pytest.mark.parametrize("habit", ["hold", "reject"])
async def test_flushed_in_flight(clock, habit):
    """K3, K4: a store that is flushed while a request is under way does not make those who wait for it send another."""
    store, server = Store(clock), Server(clock, rotating=True)
    workers = [Worker(name, store, server, on_ambiguous=habit) for name in ("one", "two", "three")]
    await start(workers)
    assert len({await worker.use() for worker in workers}) == 1
    server.latency = 6.0
    store.notices = False
    while not (record := await store.memory.read(KEY)) or record.sent_at is None:
        await clock.advance(0.1)
    # The server has spent the refresh token, its answer is on the way, and the others wait for it.
    await clock.advance(3.5)
    store.flush()
    store.notices = True
    await clock.advance(20.0)
    assert not server.replays
    tokens = [await worker.use() for worker in workers]
    assert len(set(tokens)) == 1
    assert tokens[0] is not None
    await clock.advance(400.0)
    assert not server.replays
    assert all([await worker.use() for worker in workers])
    await end(workers)


@virtual
async def test_a_mark_that_a_peer_took_over(clock):
    """K4: a mark that nothing came of is not one's own any more once a peer has presented the same refresh token."""
    store, server = Store(clock), Server(clock, rotating=True, lifetime=600.0)
    one, two = (Worker(name, store, server) for name in ("one", "two"))
    # So that a peer presents it again at once.
    one.grace = two.grace = 60.0
    await start([one, two])
    first = await one.use()
    assert await two.use() == first
    await clock.advance(1.0)
    call = store.call

    async def failing(operation: str, *args: Any) -> Any:
        if operation == "commit":
            raise ConnectionResetError("the store is gone")
        return await call(operation, *args)

    store.call, server.down = failing, True
    with pytest.raises(TokenUnavailable):
        await one.manager.refresh()
    store.call, server.down = call, False
    await clock.advance(1.0)
    one.stop()
    two.dies_at = ("after fetch", 1)
    dying = asyncio.ensure_future(two.manager.refresh())
    # Beyond the grace.
    await clock.advance(65.0)
    assert (two.state, server.issued) == ("dead", 2)
    one.resume()
    await clock.advance(30.0)
    assert not server.replays
    assert one.manager.peek() == first
    dying.cancel()
    await end([one, two])


@virtual
async def test_a_mark_that_could_not_be_taken_back_in_time(clock):
    """K4: a request that never left is not ambiguous to who knows that, though a peer had the lease meanwhile."""
    store, server = Store(clock), Server(clock, rotating=True, lifetime=600.0)
    one, two = (Worker(name, store, server, on_ambiguous="reject") for name in ("one", "two"))
    await start([one, two])
    assert await one.use() == await two.use() is not None
    await clock.advance(1.0)
    one.stops_at = "before fetch"
    stopped = asyncio.ensure_future(one.manager.refresh())
    await clock.advance(12.0)
    assert one.state == "stopped"
    with pytest.raises(GrantRejected, match="ambiguous"):
        await two.manager.refresh()
    one.resume()
    with pytest.raises(TokenUnavailable):
        await stopped
    await clock.advance(30.0)
    assert server.issued == 2
    assert one.manager.peek() == two.manager.peek() is not None
    assert not server.replays
    await end([one, two])


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_another_member_with_the_lease_for_a_moment(clock):
    """K2: who waits for a peer's answer does not wait anew because another member held the lease for a moment."""
    took = []
    for hold in (0.0, 0.2):
        server, store = rotating.Server(clock, lifetime=100.0), MemoryStore(clock=clock)
        async with TokenManager(
            rotating.Source(server, server.login()), clock=clock, store=store, namespace=""
        ) as tokens:
            ends_at = (await tokens.get()).expires_at
            (name,) = [one async for one in store.keys()]  # noqa: SIM118 - it is no mapping
            begun = await store.begin(name, "a dead peer", 5.0)
            marked = dataclasses.replace(begun.record, version=9, sent_at=clock.time(), sent_by="a dead peer")
            assert await store.commit(marked, begun.lease)
            await clock.advance(ends_at + OFFER - 0.1 - clock.time())
            assert tokens.peek() is None
            if hold:
                lease = (await store.begin(name, "another", 5.0)).lease
                await clock.advance(hold)
                await store.abandon(lease)
            while tokens.peek() is None:
                await clock.advance(0.05)
            took.append(clock.time() - ends_at)
    assert OFFER <= took[0] <= took[1] <= took[0] + 0.4, took
