"""L1, rule 1: what belongs to one start of a manager ends with it; the next start begins anew, on any loop."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
import weakref
from typing import Any

import pytest

from evertoken import GrantRejected, TokenManager
from evertoken.stores import MemoryStore

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning", "ignore::RuntimeWarning"
)


class Faulty:
    """A source with a fault until it is mended."""

    def __init__(self, fault):
        self.fault = fault
        self.fetches = 0

    async def fetch(self, _):
        self.fetches += 1
        if self.fault == "hangs":
            await asyncio.sleep(1e6)
        while self.fault == "ignores its cancellation":
            try:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                continue
        if self.fault == "rejects":
            raise GrantRejected("invalid_grant")
        if self.fault == "fails":
            raise ConnectionError
        return f"token-{self.fetches}", 600.0


#: Tasks that nobody waits for.
STARTED: list[asyncio.Future[Any]] = []


def begun(coroutine):
    """Begin *coroutine* in a task."""
    STARTED.append(asyncio.ensure_future(coroutine))


async def nothing(manager):
    await asyncio.sleep(0.05)


async def waiting(manager):
    for _ in range(3):
        begun(manager.get())
    await asyncio.sleep(0.05)


async def subscribed(manager):
    begun(anext(manager.subscribe()))
    await asyncio.sleep(0.05)


async def closing(manager):
    begun(manager.get())
    await asyncio.sleep(0.05)
    begun(manager.aclose())
    await asyncio.sleep(0.05)


async def starting(manager):
    await manager.aclose()
    begun(manager.start())
    await asyncio.sleep(0)


async def refreshing(manager):
    begun(manager.refresh())
    begun(manager.forget())
    await asyncio.sleep(0.05)


ENDS = ["closed", "stopped", "cancelled"]


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("under_way", [nothing, waiting, subscribed, closing, starting, refreshing])
@pytest.mark.parametrize("fault", ["hangs", "ignores its cancellation", "rejects", None])
def test_a_second_life(fault, under_way, end, shared):
    """L1: if a loop ends or stops with any work under way, the manager works and closes on the next loop."""
    source = Faulty(fault)
    store = MemoryStore() if shared else None
    manager = TokenManager(source, store=store, namespace="", close_grace=0.2, fetch_timeout=5.0)
    first = asyncio.new_event_loop()

    async def life():
        await manager.start()
        await under_way(manager)

    first.run_until_complete(life())
    if end == "cancelled":
        for task in asyncio.all_tasks(first):
            task.cancel()
        first.run_until_complete(asyncio.sleep(0))
    if end != "stopped":
        first.close()

    async def second():
        source.fault = None
        await asyncio.wait_for(manager.start(), 10.0)
        assert (await asyncio.wait_for(manager.get(timeout=10.0), 12.0)).access_token.startswith("token-")
        closing_at = time.monotonic()
        await asyncio.wait_for(manager.aclose(), 10.0)
        # Nothing of the first life is waited for.
        assert time.monotonic() - closing_at < 0.9
        assert len(asyncio.all_tasks()) == 1

    try:
        asyncio.run(second())
    finally:
        if not first.is_closed():
            first.close()
        del first
        STARTED.clear()
        gc.collect()


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("under_way", [nothing, waiting, subscribed, refreshing])
def test_what_is_collected_with_its_loop_starts_nothing(under_way, shared):
    """L1: a stopped loop that is collected ends its flights, and none of them starts work that nobody awaits."""

    async def life():
        manager = TokenManager(Faulty("hangs"), store=MemoryStore() if shared else None, namespace="")
        await manager.start()
        await under_way(manager)

    gc.collect()
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        loop = asyncio.new_event_loop()
        loop.run_until_complete(life())
        del loop
        STARTED.clear()
        gc.collect()
    assert [str(one.message) for one in met if issubclass(one.category, RuntimeWarning)] == []


@pytest.mark.parametrize("calls", [2, 5])
@pytest.mark.parametrize("mode", ["lazy", "warm", "require"])
@pytest.mark.parametrize("fault", [None, "fails"])
def test_concurrent_starts_join(calls, mode, fault):
    """L1: starts at the same time are one start: all return, or all raise."""
    source = Faulty(fault)

    async def main():
        manager = TokenManager(source, start=mode, start_timeout=1.0)
        found = await asyncio.gather(*(manager.start() for _ in range(calls)), return_exceptions=True)
        if fault is not None and mode == "require":
            assert all(isinstance(one, Exception) for one in found)
            assert manager.snapshot().state == "closed"
            source.fault = None
            await manager.start()
        else:
            assert found == [manager] * calls
        await manager.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
def test_a_manager_that_is_dropped(shared):
    """L1: a manager without references stops fetching, and is collected."""

    async def main():
        source = Faulty("fails")
        manager = TokenManager(source, store=MemoryStore() if shared else None, namespace="", close_grace=0.1)
        await manager.start()
        await asyncio.sleep(0.05)
        gone = weakref.ref(manager)
        del manager
        gc.collect()
        await asyncio.sleep(1.5)
        gc.collect()
        assert gone() is None
        fetches = source.fetches
        await asyncio.sleep(6.0)
        assert source.fetches == fetches
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
