"""Conformance: many tasks at once, cancellation in the middle, other loops, and stores that are entered repeatedly."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from evertoken._model.protocols import LONGEST_LEASE, Lease, Record
from evertoken.testing._suite.base import Suite, a_token, keep, lease_of, win

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import TokenStore

__all__ = ["Concurrency"]

_TASKS = 20


class Concurrency(Suite):
    """A store in a busy program."""

    async def test_twenty_tasks_on_one_key(self) -> None:
        """K2: tasks on two instances that take turns by the lease lose no write. Each builds on the previous one."""
        turns = 3

        async def work(store: TokenStore, owner: str) -> None:
            for _ in range(turns):
                lease = await win(store, "k", owner, LONGEST_LEASE, self.patience * 3)
                found = await store.read("k")
                version = 0 if found is None else found.version
                await asyncio.sleep(0)
                assert await store.commit(Record("k", version + 1, a_token(f"{owner}-{version + 1}")), lease)

        async with self.pair() as stores:
            await asyncio.gather(*(work(stores[number % 2], f"owner-{number}") for number in range(_TASKS)))
            found = await stores[0].read("k")
            assert found is not None
            assert found.version == _TASKS * turns

    async def test_twenty_tasks_on_many_keys(self) -> None:
        """F6: tasks that work on different keys do not disturb each other."""

        async def work(store: TokenStore, key: str) -> None:
            for version in range(1, 6):
                lease = await lease_of(store, key)
                assert await store.mark(record := Record(key, 2 * version, a_token(f"{key}-{version}"), 5.5), lease)
                assert await store.read(key) == record
                assert await store.renew(lease, LONGEST_LEASE)
                assert await store.commit(Record(key, 2 * version + 1, a_token(f"{key}-{version}")), lease)

        async with self.pair() as stores:
            await asyncio.gather(*(work(stores[number % 2], f"key-{number}") for number in range(_TASKS)))

    async def test_readers_see_whole_records(self) -> None:
        """K1: a reader during a write sees the record before or after the write, never a mixture."""
        tokens = [a_token(letter * 20_000, refresh_token=letter * 20_000) for letter in "ab"]
        done = asyncio.Event()
        seen: list[int] = []

        async def read(store: TokenStore) -> None:
            while not done.is_set():
                found = await store.read("k")
                assert found is not None
                assert found.token == tokens[found.version % 2]
                assert not seen or found.version >= seen[-1]
                seen.append(found.version)
                await asyncio.sleep(0)

        async with self.pair() as (one, other):
            lease = await lease_of(one)
            assert await one.mark(Record("k", 2, tokens[0]), lease)
            reader = asyncio.get_running_loop().create_task(read(other))
            try:
                for version in range(3, 30):
                    assert await one.mark(Record("k", version, tokens[version % 2]), lease)
                    await asyncio.sleep(0)
            finally:
                done.set()
                await reader
        assert seen

    async def test_cancelled_in_the_middle(self) -> None:
        """
        R3: each operation may be cancelled at any moment. The store continues to work, and the record stays whole.
        """
        async with self.pair() as (one, other):
            version = 0
            for steps, seconds in ((0, 0.0), (1, 0.0), (2, 0.0), (5, 0.0), (0, 0.0005), (0, 0.002), (0, 0.01)):
                lease = await win(other, "k", "other", LONGEST_LEASE, self.patience)
                version += 3
                assert await other.mark(Record("k", version, a_token(f"before-{version}")), lease)
                operations: list[Callable[[], Any]] = [
                    partial(one.read, "k"),
                    partial(one.mark, Record("k", version + 1, a_token(f"after-{version + 1}")), lease),
                    partial(one.renew, lease, LONGEST_LEASE),
                    partial(one.commit, Record("k", version + 2, a_token(f"after-{version + 2}")), lease),
                    partial(one.abandon, lease),
                    partial(one.begin, "k", "cancelled", self.short / 3.0),
                ]
                for operation in operations:
                    task = asyncio.get_running_loop().create_task(operation())
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    await asyncio.sleep(seconds)
                    task.cancel()
                    await asyncio.wait({task}, timeout=self.patience)
                    assert task.done(), "an operation that is cancelled ends"
                # A cancelled operation may have happened or not, soon or at once, but never half.
                await other.abandon(lease)
                taken = await win(one, "k", "next", LONGEST_LEASE, self.patience * 4)
                found = await one.read("k")
                assert found is not None
                assert found.version in {version, version + 1, version + 2}
                name = "before" if found.version == version else "after"
                assert found.token == a_token(f"{name}-{found.version}")
                assert await one.commit(Record("k", version + 3, a_token()), taken)
                version += 3

    async def test_entered_twice(self) -> None:
        """
        L1: several managers may have a store entered at once. The first one that leaves does not affect the others.
        """
        store: Any = await self.make()
        if not hasattr(store, "__aenter__"):
            await self.clean()
            pytest.skip("the store is no context manager")
        try:
            async with store:
                async with store:
                    await keep(store, "k", 1)
                assert await store.read("k") == Record("k", 1, a_token("token-of-version-1"))
                await keep(store, "k", 2)
            async with store:
                await keep(store, "k", 3)
                assert await store.read("k") == Record("k", 3, a_token("token-of-version-3"))
        finally:
            await self.clean()

    async def test_left_and_entered_by_turns(self) -> None:
        """L1: managers that start and close do not disturb other managers."""
        store: Any = await self.make()
        if not hasattr(store, "__aenter__"):
            await self.clean()
            pytest.skip("the store is no context manager")

        async def live(number: int) -> None:
            for version in range(1, 4):
                async with store:
                    await keep(store, f"key-{number}", version)

        try:
            await asyncio.gather(*(live(number) for number in range(8)))
        finally:
            await self.clean()

    async def test_on_another_loop(self) -> None:
        """U5: one instance is used from several loops, each in its own thread."""

        async def there(store: Any) -> Record | None:
            if not hasattr(store, "__aenter__"):
                await keep(store, "there")
                return await store.read("here")  # type: ignore[no-any-return]
            async with store:
                await keep(store, "there")
                return await store.read("here")  # type: ignore[no-any-return]

        async with self.opened() as store:
            record = await keep(store, "here")
            assert await asyncio.to_thread(asyncio.run, there(store)) == record
            assert await store.read("there") is not None
            assert isinstance((await store.begin("there", "me", LONGEST_LEASE)).lease, Lease)
