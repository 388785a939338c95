"""
What is on record before a request leaves: lost with its store, or left behind though nothing was sent.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.fleet.simulation import KEY, Server, Store, Worker, end, start
from tests.gated import virtual


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
        if when == "marking" and operation == "write" and args[0].sent_at is not None:
            # It is written, and the answer is lost.
            await call(operation, *args)
            raise ConnectionResetError("the store is gone")
        if when == "unmarking" and operation == "write" and args[0].sent_at is None:
            raise ConnectionResetError("the store is gone")
        return await call(operation, *args)

    store.call = failing
    server.down = when == "unmarking"
    await clock.advance(51.0)
    assert server.issued == 1
    record = await store.memory.read(KEY)
    assert record is not None
    assert record.sent_at is not None
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
