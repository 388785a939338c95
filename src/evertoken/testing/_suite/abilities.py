"""Conformance of optional abilities of a store: report writes, read many records, and list the content."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from evertoken._model.protocols import LONGEST_LEASE, Record
from evertoken.stores._record import UnreadableRecord
from evertoken.testing._suite.base import GRAIN, Suite, a_token, bulk, keep, lease_of, listed, wait_until, watched, win
from evertoken.testing._suite.records import KEYS, TORN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from evertoken._model.protocols import TokenStore, WatchedStore

__all__ = ["Listing", "Reading", "Watching"]


class Watching(Suite):
    """`WatchedStore.watch`. The tests are skipped if the store does not have it."""

    @asynccontextmanager
    async def told(self, store: WatchedStore) -> AsyncGenerator[list[str | None]]:
        """Watch *store*. Give the keys that it reports, from the moment when no write can be missed."""
        calls: list[str | None] = []
        task = asyncio.get_running_loop().create_task(store.watch(calls.append))
        try:
            await wait_until(lambda: bool(calls) or task.done(), self.patience, "the first call of changed")
            assert not task.done(), f"the watch ended by itself: {task!r}"
            assert calls.pop(0) is None, "changed is called with None first"
            yield calls
            assert not task.done(), f"the watch ended by itself: {task!r}"
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=self.patience)
        assert task.cancelled(), "a watch that is cancelled ends as cancelled"
        said = len(calls)
        await asyncio.sleep(0.05)
        assert len(calls) == said, "a watch that is cancelled calls nobody"

    async def heard(self, calls: list[str | None], key: str) -> None:
        """Wait until *calls* contain *key*, or a None for any key."""
        await wait_until(lambda: key in calls or None in calls, self.patience, f"the watch does not tell of {key!r}")
        calls.clear()

    async def test_every_write_is_told(self) -> None:
        """K2: a watch reports each write, by another instance and by its own."""
        async with self.pair() as (one, other), self.told(watched(one)) as calls:
            for version in range(1, 8, 2):
                for later, store, key in ((0, other, "k"), (1, one, "k"), (0, other, '["",null]'), (0, one, "\u043a")):
                    lease = await lease_of(store, key)
                    write = store.mark if later else store.commit
                    assert await write(Record(key, version + later, a_token()), lease)
                    await self.heard(calls, key)
                    await store.abandon(lease)

    async def test_writes_at_once_are_all_told(self) -> None:
        """K2: if many keys are written at the same time, all of them are reported."""
        names = {f"key-{number}" for number in range(40)}
        async with self.pair() as (one, other), self.told(watched(one)) as calls:
            await asyncio.gather(*(keep(other, name) for name in names))
            await wait_until(lambda: None in calls or names <= set(calls), self.patience, "all writes")

    async def test_what_was_written_before_is_not_missed(self) -> None:
        """K2: after the first call, a read sees all earlier writes."""
        async with self.pair() as (one, other):
            record = await keep(other, "k")
            async with self.told(watched(one)):
                assert await one.read("k") == record

    async def test_several_watch(self) -> None:
        """
        K2: watches of one instance and of others get the same reports, and one that ends does not affect the others.
        """
        async with self.pair(3) as (one, other, writer), self.told(watched(one)) as first:
            async with self.told(watched(one)) as second, self.told(watched(other)) as third:
                await keep(writer, "k")
                for calls in (first, second, third):
                    await self.heard(calls, "k")
            await keep(writer, "l")
            await self.heard(first, "l")

    async def test_a_watch_can_begin_again(self) -> None:
        """K2: a watch that was cancelled can begin again."""
        async with self.pair() as (one, other):
            for version in range(1, 4):
                async with self.told(watched(one)) as calls:
                    lease = await lease_of(other)
                    assert await other.commit(Record("k", version, a_token()), lease)
                    await self.heard(calls, "k")


class Reading(Suite):
    """`BulkStore.read_many`. The tests are skipped if the store does not have it."""

    async def test_many_are_read_at_once(self) -> None:
        """K2: the records of all requested keys that have one are returned, each under its own key."""
        async with self.pair() as (one, other):
            reading = bulk(other)
            assert await reading.read_many([]) == {}
            assert await reading.read_many(["k"]) == {}
            names = sorted({f"key-{number}" for number in range(self.many)} | set(KEYS))
            for start in range(0, len(names), 20):
                await asyncio.gather(*(keep(one, name) for name in names[start : start + 20]))
            lease = await lease_of(one, "marked")
            assert await one.mark(Record("marked", 3, None, 5.5, "me", revoked=True, generation=2), lease)
            await lease_of(one, "leased, never written")
            names += ["marked", "leased, never written", "never leased"]
            expected = {name: record for name in names if (record := await one.read(name)) is not None}
            assert len(expected) == len(names) - 2
            assert await reading.read_many(names) == expected
            assert await reading.read_many(["key-0", "key-0", "another"]) == {"key-0": expected["key-0"]}

    async def test_one_of_many_cannot_be_read(self) -> None:
        """
        K1: a record that only a later release can read is an error, also among others, and does not count as missing.
        """
        async with self.opened() as store:
            reading = bulk(store)
            record = await keep(store, "l")
            await self.plant("k", b'{"format": 99, "key": "k", "version": 1, "whatever": 1}')
            with pytest.raises(UnreadableRecord):
                await reading.read_many(["l", "k"])
            assert await reading.read_many(["l"]) == {"l": record}

    async def test_one_of_many_is_torn(self) -> None:
        """K3: bytes that are not a record count as missing, and the others are returned."""
        async with self.opened() as store:
            reading = bulk(store)
            record = await keep(store, "l")
            for data in TORN:
                await self.plant("k", data)
                assert await reading.read_many(["k", "l"]) == {"l": record}


class Listing(Suite):
    """`ListedStore`: keys, holder, delete. The tests are skipped if the store does not have them."""

    async def names(self, store: TokenStore) -> list[str]:
        """Return all keys."""
        return sorted([key async for key in listed(store).keys()])  # noqa: SIM118 - it is not a mapping

    async def test_keys(self) -> None:
        """
        L2: the key of every record is listed once, also that of a tombstone, but not that of a lease without a record.
        """
        names = sorted({f"key-{number}" for number in range(self.many)} | set(KEYS))
        async with self.pair() as (one, other):
            assert await self.names(other) == []
            for start in range(0, len(names), 20):
                await asyncio.gather(*(keep(one, name) for name in names[start : start + 20]))
            await lease_of(one, "leased, never written")
            lease = await lease_of(one, "key-0")
            assert await one.mark(Record("key-0", 2, None), lease)
            assert await self.names(other) == names

    async def test_keys_while_they_change(self) -> None:
        """L2: a key that exists all the time is listed, while others are written and deleted."""
        async with self.pair() as (one, other):
            for number in range(30):
                await keep(one, f"stays-{number}")
            seen: list[str] = []
            async for key in listed(one).keys():
                seen.append(key)
                await keep(other, f"new-{len(seen)}")
                if len(seen) > 1:
                    await listed(other).delete(f"new-{len(seen) - 1}")
                if len(seen) > 200:  # noqa: PLR2004 - a listing may follow its own additions for ever
                    break
            assert {f"stays-{number}" for number in range(30)} <= set(seen)

    async def test_holder(self) -> None:
        """L2: an operator sees the holder of a lease and the remaining time, or that there is no holder."""
        async with self.pair() as (one, other):
            looking = listed(other)
            assert await looking.holder("k") is None
            lease = await lease_of(one, owner="worker-\u2603")
            found = await looking.holder("k")
            assert found is not None
            assert found[0] == "worker-\u2603"
            assert LONGEST_LEASE - self.patience < found[1] <= LONGEST_LEASE + GRAIN
            await one.abandon(lease)
            assert await looking.holder("k") is None
            await lease_of(one, owner="gone", ttl=self.short)
            await asyncio.sleep(self.short + GRAIN)
            assert await looking.holder("k") is None
            lease = await lease_of(one)
            assert await one.commit(Record("k", 1, a_token()), lease)
            assert await looking.holder("k") is None

    async def test_the_holder_of_another_time(self) -> None:
        """L2, T2: a lease that counts as free, because the clock was set, has no holder."""
        async with self.pair() as (one, other):
            looking = listed(other)
            await lease_of(one)
            await self.set_lease("k", LONGEST_LEASE + 3600.0)
            assert await looking.holder("k") is None

    async def test_delete(self) -> None:
        """
        L2: a record is deleted once. Its holder keeps the lease, fences continue to grow, and any version may follow.
        """
        async with self.pair() as (one, other):
            assert not await listed(other).delete("k")
            lease = await lease_of(one)
            assert not await listed(other).delete("k")
            assert await one.mark(Record("k", 9, a_token()), lease)
            assert await listed(other).delete("k")
            assert not await listed(other).delete("k")
            assert await one.read("k") is None
            assert await self.names(one) == []
            found = await listed(other).holder("k")
            assert found is not None
            assert found[0] == "me"
            assert await one.mark(record := Record("k", 2, a_token()), lease)
            assert await other.read("k") == record
            assert await listed(one).delete("k")
            await one.abandon(lease)
            assert (await win(other, "k", "other", LONGEST_LEASE, self.patience)).fence > lease.fence
