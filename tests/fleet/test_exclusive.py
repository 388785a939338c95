"""Providers where a new token kills the one before: a fleet takes turns, and adopts before it fetches."""

from __future__ import annotations

import asyncio

import pytest
from tests.fleet.simulation import Server, Store, Worker, end, start
from tests.gated import virtual

from evertoken import TokenError, TokenUnavailable


class Exclusive(Worker):
    """A worker whose source says so."""

    exclusive = True


def fleet(clock, count):
    store, server = Store(clock), Server(clock, rotating=False)
    return store, server, [Exclusive(f"w{number}", store, server) for number in range(count)]


@virtual
async def test_one_fetch_a_lifetime(clock):
    """K2: members do not invalidate each other's tokens in turn. One fetch a lifetime serves all of them soon."""
    _store, server, workers = fleet(clock, 5)
    await start(workers)
    assert all([await worker.use() for worker in workers])
    for _ in range(300):
        await clock.advance(1.0)
        assert all(worker.manager.peek() for worker in workers)
    await clock.advance(0.5)
    assert {worker.manager.peek().access_token for worker in workers} == {f"at-{server.issued}"}
    assert server.issued <= 1 + 300.0 / (60.0 * 0.76)
    await end(workers)


@virtual
async def test_refused_means_read_again(clock):
    """K2, U1: a 401 for a token that a peer's fetch killed leads to the peer's token, and to no fetch."""
    store, server, workers = fleet(clock, 5)
    await start(workers)
    first = await workers[0].use()
    assert [await worker.use() for worker in workers] == [first] * 5
    store.notices = False
    await clock.advance(5.0)
    second = await workers[0].manager.refresh()
    assert [worker.manager.peek() for worker in workers[1:]] == [first] * 4
    heard = await asyncio.gather(*(worker.manager.refused(first) for worker in workers for _ in range(10)))
    assert heard == [second] * 50
    assert server.issued == 2
    await end(workers)


@virtual
async def test_a_floor_between_fetches(clock):
    """K2, F1: a member that wants a new token right after a peer's fetch waits, for every reason of the fetch."""
    _store, server, workers = fleet(clock, 5)
    await start(workers)
    assert all([await worker.use() for worker in workers])
    await clock.advance(5.0)
    outcomes = await asyncio.gather(*(worker.manager.refresh() for worker in workers), return_exceptions=True)
    assert server.issued == 2
    # The callers who asked at the same time got it as well, or were told when to come back.
    assert {getattr(outcome, "access_token", None) for outcome in outcomes} <= {"at-2", None}
    with pytest.raises(TokenUnavailable, match="each new one invalidates the previous one") as told:
        await workers[1].manager.refresh()
    assert server.issued == 2
    assert told.value.retry_at is not None
    assert told.value.retry_at > clock.time()
    # It is tried once more when that is over, as any refresh that failed.
    await clock.advance(10.0)
    assert server.issued == 3
    assert {worker.manager.peek().access_token for worker in workers} == {"at-3"}
    await end(workers)


@virtual
async def test_not_without_the_lease(clock):
    """K3: while the store is down, no member fetches, because a fetch would kill the token that the others serve."""
    store, server, workers = fleet(clock, 3)
    await start(workers)
    first = await workers[0].use()
    assert [await worker.use() for worker in workers] == [first] * 3
    store.down = True
    for _ in range(59):
        await clock.advance(1.0)
        assert [worker.manager.peek() for worker in workers] == [first] * 3
        with pytest.raises(TokenError):
            await workers[0].manager.refresh()
    assert server.issued == 1
    store.down = False
    await clock.advance(30.0)
    assert len({await worker.use() for worker in workers}) == 1
    assert server.issued == 2
    await end(workers)
