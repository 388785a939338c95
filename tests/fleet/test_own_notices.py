"""A member is not told of its own writes, and never mistakes a peer's write for its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.fleet.simulation import Server, Store, Worker
from tests.gated import virtual
from tests.machinery.scripted import Recorder

from evertoken import GrantRejected, Lease, Record, TokenManager, TokenUnavailable
from evertoken._coordination.watch import REWATCH
from evertoken.events import StoreFailed
from evertoken.stores import MemoryStore


class Telling:
    """
    A store whose notices come when *how* says.

    "early": before the writer has its answer. "late": after it. "merged": one for all writes of half a second. "deaf":
    in the first second the watch misses writes, like a watch that has just begun.
    """

    def __init__(self, inner: MemoryStore, how: str) -> None:
        self.inner, self.how = inner, how
        self.tells_each_write = how not in {"merged", "deaf"}
        self.begin, self.renew, self.abandon = inner.begin, inner.renew, inner.abandon
        self.reads = 0
        self.watchers: list[Callable[[str | None], object]] = []
        self.pending: set[str] = set()
        self.deaf = how == "deaf"

    async def read(self, key: str) -> Record | None:
        self.reads += 1
        return await self.inner.read(key)

    async def mark(self, record: Record, lease: Lease) -> bool:
        return await self._written(record.key, written=await self.inner.mark(record, lease))

    async def commit(self, record: Record, lease: Lease) -> bool:
        return await self._written(record.key, written=await self.inner.commit(record, lease))

    async def watch(self, changed: Callable[[str | None], object]) -> None:
        self.watchers.append(changed)
        try:
            changed(None)
            await asyncio.Event().wait()
        finally:
            self.watchers.remove(changed)

    async def _written(self, key: str, *, written: bool) -> bool:
        if not written or self.deaf:
            return written
        loop = asyncio.get_running_loop()
        if self.how == "early":
            self._tell(key)
            await asyncio.sleep(0.01)
        elif self.how == "late":
            loop.call_later(0.01, self._tell, key)
        else:
            if key not in self.pending:
                loop.call_later(0.5, self._tell, key)
            self.pending.add(key)
        return written

    def _tell(self, key: str) -> None:
        self.pending.discard(key)
        for changed in list(self.watchers):
            changed(key)


@virtual
@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.parametrize("how", ["early", "late", "merged", "deaf"])
async def test_a_sign_out_right_after_an_own_write_is_heard(clock, how, rotating):
    """K3: a member that has written just now hears at once of a peer's sign-out, whenever the store tells of writes."""
    store = Telling(MemoryStore(clock=clock), how)
    source = Worker("source", Store(clock), Server(clock, rotating=rotating))
    async with (
        TokenManager(source, store=store, namespace="", clock=clock) as one,
        TokenManager(source, store=store, namespace="", clock=clock) as two,
    ):
        await one.get()
        store.deaf = False
        await two.get()
        await two.revoke()
        await clock.advance(0.9)
        assert one.peek() is None
        with pytest.raises(GrantRejected, match="signed out"):
            await one.get()


@virtual
@pytest.mark.parametrize("fails", [ConnectionError("down"), False])
async def test_a_sign_out_right_after_a_write_that_failed_is_heard(clock, fails):
    """K3: a member whose write did not reach the store waits for no notice of it, and hears the next one."""
    failing = False

    class Failing(Telling):
        async def mark(self, record, lease):
            if not failing:
                return await super().mark(record, lease)
            if fails:
                raise fails
            return False

    store = Failing(MemoryStore(clock=clock), "late")
    source = Worker("source", Store(clock), Server(clock, rotating=True))
    async with (
        TokenManager(source, store=store, namespace="", clock=clock) as one,
        TokenManager(source, store=store, namespace="", clock=clock) as two,
    ):
        await one.get()
        await clock.advance(2.0)
        failing = True
        with pytest.raises(TokenUnavailable, match="could not be recorded"):
            await one.refresh()
        assert one.peek() is not None
        await two.revoke()
        await clock.advance(0.5)
        assert one.peek() is None


@virtual
@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.parametrize("how", ["early", "late"])
async def test_an_own_write_is_not_read_again(clock, how, rotating):
    """If the store tells each write once, a single member never reads its own writes again."""
    store = Telling(MemoryStore(clock=clock), how)
    source = Worker("source", Store(clock), Server(clock, rotating=rotating))
    async with TokenManager(source, store=store, namespace="", clock=clock) as one:
        await one.get()
        await clock.advance(2.0)
        reads = store.reads
        await one.refresh()
        await clock.advance(5.0)
        assert store.reads == reads


@virtual
async def test_which_failures_of_a_watch_are_told(clock):
    """K4: of the failures of a watch in a row the first, second, fourth and so on are told."""

    class Breaking(Telling):
        lasts = 300.0

        async def watch(self, changed):
            changed(None)
            await asyncio.sleep(self.lasts)
            self.lasts = 0.0
            raise ConnectionError("down")

    told = Recorder()
    store = Breaking(MemoryStore(clock=clock), "late")
    source = Worker("source", Store(clock), Server(clock, rotating=False))
    async with TokenManager(source, store=store, namespace="", clock=clock, observers=[told]):
        await clock.advance(299.5)
        assert told.of(StoreFailed) == []
        counts = []
        for _ in range(8):
            await clock.advance(REWATCH)
            counts.append(len([one for one in told.of(StoreFailed) if one.operation == "watch"]))
    assert counts == [1, 2, 2, 3, 3, 3, 3, 4]
