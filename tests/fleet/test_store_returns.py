"""A store that is away while an answer arrives, and comes back: the member that has the answer is heard first."""

from __future__ import annotations

import asyncio

import pytest
from tests.fleet.simulation import Server, Store, Worker, end, start
from tests.gated import virtual


@virtual
@pytest.mark.parametrize("outage", [8.0, 30.0, 70.0, 600.0])
@pytest.mark.parametrize("first", ["asked", "supervised", "notified"])
async def test_the_holder_is_heard_first(clock, outage, first):
    """K1, K3: a store that comes back gets the answer from the member that has it; no peer spends its predecessor."""
    store, server = Store(clock), Server(clock, rotating=True)
    one, two = Worker("w0", store, server), Worker("w1", store, server)
    await start([one, two])
    assert await one.use() == await two.use()
    fetching = asyncio.create_task(one.manager.refresh())
    while server.issued < 2:
        await clock.advance(0.01)
    store.down = True
    await clock.advance(outage)
    store.down = False
    if first != "supervised":
        await two.use()
    for _ in range(10 if first == "notified" else 0):
        # A watch that is back wakes the waiters, and so do the writes of others.
        store.memory._watchers[-1][1](None)
        await clock.advance(0.05)
    await clock.advance(30.0)

    assert server.replays == []
    assert await one.use() == await two.use()
    assert (await fetching).access_token == "at-2"
    await end([one, two])


@virtual
@pytest.mark.parametrize("looked", [False, True])
async def test_a_flushed_store_is_told_before_a_fetch(clock, looked):
    """K1, K3: nobody presents what the first member wrote to a flushed store before its peers had their time."""
    store, server = Store(clock), Server(clock, rotating=True)
    workers = [Worker(f"w{number}", store, server) for number in range(3)]
    one, two, three = workers
    await start(workers)
    assert await one.use() == await two.use() == await three.use()
    two.stop()
    three.stop()
    newer = await one.manager.refresh()
    # Until then it would take a notice for that of its own write.
    await clock.advance(1.5)
    await store.flush_unheard()
    # The one that knows hears of the store two seconds later than its peers.
    one.stop()
    two.resume()
    three.resume()
    for _, heard in store.memory._watchers[1:] if looked else ():
        heard(None)
    await clock.advance(0.02)
    fetching = [asyncio.create_task(worker.manager.refresh()) for worker in (two, three)]
    for _ in range(5):
        await clock.advance(0.02)
        store.memory._watchers[-1][1](None)
    await clock.advance(1.9)
    one.resume()
    store.memory._watchers[0][1](None)
    await clock.advance(10.0)

    assert server.replays == []
    assert [(await task).access_token for task in fetching] == [newer.access_token] * 2
    await end(workers)


@virtual
@pytest.mark.parametrize("fetch_timeout", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("gone", ["before fetch", "flushed"])
async def test_peers_are_heard_whatever_a_fetch_may_take(clock, fetch_timeout, gone):
    """K4, F7: a fetch timeout shorter than the time that peers are given does not keep a grant out of use for ever."""
    store, server = Store(clock), Server(clock, rotating=True)
    one, two = (Worker(name, store, server, fetch_timeout=fetch_timeout) for name in ("w0", "w1"))
    await start([one])
    await one.use()
    if gone == "flushed":
        await store.flush_unheard()
    else:
        one.dies_at = (gone, 1)
        await clock.advance(59.0)
        assert one.state == "dead"
        await start([two])
    await clock.advance(90.0)
    last = one if gone == "flushed" else two

    assert await last.use() is not None
    assert server.issued >= 2
    assert server.replays == []
    await end([one, two] if gone != "flushed" else [one])


@virtual
@pytest.mark.parametrize("peers", [1, 3, 6])
@pytest.mark.parametrize("resumed", [0.5, 3.0, 6.0, 9.5])
async def test_the_holder_is_heard_after_a_dead_member_held_the_lease(clock, peers, resumed):
    """K1, K4: while a member that died holds the lease nobody can write; the member with the answer is heard then."""
    store, server = Store(clock), Server(clock, rotating=True, lifetime=6.0)
    one = Worker("w0", store, server, fetch_timeout=60.0)
    others = [Worker(f"w{number}", store, server, fetch_timeout=60.0) for number in range(1, peers + 1)]
    await start([one, *others])
    for worker in (one, *others):
        await worker.use()
    fetching = asyncio.create_task(one.manager.refresh())
    while server.issued < 2:
        await clock.advance(0.01)
    one.stop()
    # Its peers give it time. A member that knows no token takes the longest lease there is meanwhile.
    await clock.advance(7.0)
    dead = Worker("dead", store, server)
    dead.dies_at = ("after begin", 1)
    await start([dead])
    waiting = asyncio.create_task(dead.manager.get())
    while dead.state == "running":
        await clock.advance(0.01)
    await clock.advance(resumed)
    one.resume()
    await clock.advance(40.0)

    assert server.replays == []
    assert [token.access_token for worker in (one, *others) if (token := await worker.use())] == [
        f"at-{server.issued}" for _ in (one, *others)
    ]
    waiting.cancel()
    await asyncio.gather(fetching, waiting, return_exceptions=True)
    await end([one, *others, dead])


@virtual
@pytest.mark.parametrize("stopped", ["before begin", "after begin", "before abandon", "after abandon"])
@pytest.mark.parametrize("resumed", [1.0, 3.0, 5.0, 8.0])
@pytest.mark.parametrize("holder_stops", [False, True])
async def test_the_holder_is_heard_after_a_peer_stood_still(clock, stopped, resumed, holder_stops):
    """K1, K4: a member that stood still with the lease in hand gives the one with the answer its time again."""
    store, server = Store(clock), Server(clock, rotating=True)
    one, two = (Worker(name, store, server, fetch_timeout=60.0) for name in ("w0", "w1"))
    await start([one, two])
    assert await one.use() == await two.use()
    fetching = asyncio.create_task(one.manager.refresh())
    while server.issued < 2:
        await clock.advance(0.01)
    store.down = True
    await clock.advance(80.0)
    one.stop()
    store.down = False
    two.stops_at = stopped
    using = asyncio.create_task(two.use())
    while two.state == "running":
        await clock.advance(0.01)
    one.resume()
    await clock.advance(max(resumed - 0.5, 0.0))
    if holder_stops:
        one.stop()
    await clock.advance(0.5)
    two.resume()
    await clock.advance(2.0)
    one.resume()
    await clock.advance(40.0)

    assert server.replays == []
    assert await one.use() is not None
    assert await two.use() is not None
    await asyncio.gather(fetching, using, return_exceptions=True)
    await end([one, two])
