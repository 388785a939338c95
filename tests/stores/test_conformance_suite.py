"""The conformance suite itself: it finds faults, and runs in the users' own tests."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from evertoken import Begun, Held, Lease, Record
from evertoken._model.protocols import LONGEST_LEASE
from evertoken.stores import MemoryStore
from evertoken.testing.conformance import StoreConformance


class Broken(StoreConformance):
    """The suite, on a store that breaks a promise."""

    short = 0.2
    patience = 0.7
    many = 20

    def __init__(self, store: Any) -> None:
        self.store = store

    async def make(self) -> Any:
        return self.store


class Forgets(MemoryStore):  # type: ignore[misc]
    async def read(self, key: str, /) -> Record | None:
        return None


class FoldsCase(MemoryStore):  # type: ignore[misc]
    async def read(self, key: str, /) -> Record | None:
        return await super().read(key.lower()) or await super().read(key)

    def _keep(self, record: Record, lease: Lease) -> bool:
        done = super()._keep(record, lease)
        self._records[record.key.lower()] = record
        return done


class DropsExtra(MemoryStore):  # type: ignore[misc]
    async def read(self, key: str, /) -> Record | None:
        found = await super().read(key)
        if found is None or found.token is None:
            return found
        return dataclasses.replace(found, token=found.token.replace(extra=None))


class DropsTombstones(MemoryStore):  # type: ignore[misc]
    async def read(self, key: str, /) -> Record | None:
        found = await super().read(key)
        return None if found is None or found.token is None else found


class DropsOrigins(MemoryStore):  # type: ignore[misc]
    def _keep(self, record: Record, lease: Lease) -> bool:
        return super()._keep(dataclasses.replace(record, origins=()), lease)


class IgnoresVersions(MemoryStore):  # type: ignore[misc]
    def _keep(self, record: Record, lease: Lease) -> bool:
        self._records.pop(record.key, None)
        return super()._keep(record, lease)


class NextVersionOnly(MemoryStore):  # type: ignore[misc]
    def _keep(self, record: Record, lease: Lease) -> bool:
        before = self._records.get(record.key)
        gap = before is not None and record.version > before.version + 1
        return not gap and super()._keep(record, lease)


class IgnoresFences(MemoryStore):  # type: ignore[misc]
    def _is_newest(self, lease: Lease) -> bool:
        self._leases.setdefault(lease.key, (lease, 0.0))
        return True


class IgnoresKeys(MemoryStore):  # type: ignore[misc]
    def _keep(self, record: Record, lease: Lease) -> bool:
        return super()._keep(record, dataclasses.replace(lease, key=record.key))


class RefusesLateAnswers(MemoryStore):  # type: ignore[misc]
    async def commit(self, record: Record, lease: Lease, /) -> bool:
        return await self.holder(record.key) is not None and await super().commit(record, lease)


class GivesToAll(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        before = self._leases.get(key)
        if before is not None:
            self._leases[key] = before[0], 0.0
        return await super().begin(key, owner, ttl, **more)


class RefusesItsOwner(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        held = await self.holder(key)
        return Begun(Held(held[1]), await self.read(key)) if held else await super().begin(key, owner, ttl, **more)


class GivesTheSameAgain(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        held = self._leases.get(key)
        if await self.holder(key) and held and held[0].owner == owner:
            return Begun(held[0], await self.read(key))
        return await super().begin(key, owner, ttl, **more)


class BeginsWithoutRecord(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        return Begun((await super().begin(key, owner, ttl, **more)).lease, None)


class TellsTheHolderAlone(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        begun = await super().begin(key, owner, ttl, **more)
        return begun if isinstance(begun.lease, Lease) else Begun(begun.lease, None)


class NeverEnds(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        return await super().begin(key, owner, LONGEST_LEASE, **more)


class TrustsItsClock(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        lease, ends_at = self._leases.get(key, (None, 0.0))
        remaining = ends_at - time.monotonic()
        if lease is not None and lease.owner != owner and remaining > 0.0:
            return Begun(Held(remaining), await self.read(key))
        return await super().begin(key, owner, ttl, **more)

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        lease, ends_at = self._leases.get(key, (None, 0.0))
        remaining = ends_at - time.monotonic()
        return None if lease is None or remaining <= 0.0 else (lease.owner, remaining)


class SameFence(MemoryStore):  # type: ignore[misc]
    async def abandon(self, lease: Lease, /, **more: Any) -> None:
        if self._is_newest(lease):
            del self._leases[lease.key]


class MarkEndsTheLease(MemoryStore):  # type: ignore[misc]
    async def mark(self, record: Record, lease: Lease, /) -> bool:
        return await self.commit(record, lease)


class CommitKeepsTheLease(MemoryStore):  # type: ignore[misc]
    async def commit(self, record: Record, lease: Lease, /) -> bool:
        return await self.mark(record, lease)


class RefusalEndsTheLease(MemoryStore):  # type: ignore[misc]
    async def commit(self, record: Record, lease: Lease, /) -> bool:
        done = await super().commit(record, lease)
        await self.abandon(lease)
        return done


class RenewsAnything(MemoryStore):  # type: ignore[misc]
    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        self._leases[lease.key] = lease, time.monotonic() + ttl
        return True


class RenewsNothing(MemoryStore):  # type: ignore[misc]
    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        return True


class AbandonsAnything(MemoryStore):  # type: ignore[misc]
    async def abandon(self, lease: Lease, /, **more: Any) -> None:
        newest = self._leases.get(lease.key)
        if newest is not None:
            self._leases[lease.key] = newest[0], 0.0


class TellsNobody(MemoryStore):  # type: ignore[misc]
    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        changed(None)
        await asyncio.Event().wait()


class BeginsSilently(MemoryStore):  # type: ignore[misc]
    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        await super().watch(lambda key: key is None or changed(key))


class SwallowsCancellation(MemoryStore):  # type: ignore[misc]
    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        with suppress(asyncio.CancelledError):
            await super().watch(changed)


class TellsOneOnly(MemoryStore):  # type: ignore[misc]
    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        self._watchers.clear()
        await super().watch(changed)


class ReadsSome(MemoryStore):  # type: ignore[misc]
    async def read_many(self, keys: Sequence[str], /) -> dict[str, Record]:
        return await super().read_many(keys[:3])


class ReadsOthers(MemoryStore):  # type: ignore[misc]
    async def read_many(self, keys: Sequence[str], /) -> dict[str, Record]:
        return dict(self._records)


class ListsLeases(MemoryStore):  # type: ignore[misc]
    async def keys(self) -> AsyncIterator[str]:
        for key in {**self._records, **self._leases}:
            yield key


class HoldsForever(MemoryStore):  # type: ignore[misc]
    async def holder(self, key: str, /) -> tuple[str, float] | None:
        newest = self._leases.get(key)
        return None if newest is None else (newest[0].owner, LONGEST_LEASE)


class DeletesFences(MemoryStore):  # type: ignore[misc]
    async def delete(self, key: str, /) -> bool:
        self._leases.pop(key, None)
        return await super().delete(key)


class ClosesForAll(MemoryStore):  # type: ignore[misc]
    closed = False

    async def __aenter__(self) -> None:
        self.closed = False

    async def __aexit__(self, *_: object) -> None:
        self.closed = True

    async def read(self, key: str, /) -> Record | None:
        assert not self.closed
        return await super().read(key)


class ForgetsQuotas(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        return await super().begin(key, owner, ttl)


class TakesFirst(MemoryStore):  # type: ignore[misc]
    """Takes of the quota before it looks whether the lease is free."""

    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        held = await self.holder(key)
        if held and held[0] != owner and more:
            await super().begin(f"{key} again", owner, ttl, **more)
        return await super().begin(key, owner, ttl, **more)


class QuotaForEachKey(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        quota = more.get("quota")
        if quota is not None:
            more = {"quota": dataclasses.replace(quota, name=f"{quota.name} {key}")}
        return await super().begin(key, owner, ttl, **more)


class LeasesWhileShut(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        begun = await super().begin(key, owner, ttl, **more)
        return begun if not begun.wait else await super().begin(key, owner, ttl)


class KeepsWhatIsUnused(MemoryStore):  # type: ignore[misc]
    async def abandon(self, lease: Lease, /, **more: Any) -> None:
        await super().abandon(lease)


class GivesBackAnyPeriod(MemoryStore):  # type: ignore[misc]
    async def abandon(self, lease: Lease, /, **more: Any) -> None:
        unused = more.get("unused")
        if unused is not None and unused.period is not None:
            more = {"unused": dataclasses.replace(unused, period=self._tallies[unused.quota.name].period)}
        await super().abandon(lease, **more)


class ReadsThenWrites(MemoryStore):  # type: ignore[misc]
    async def begin(self, key: str, owner: str, ttl: float, /, **more: Any) -> Begun:
        free = await self.holder(key) is None
        await asyncio.sleep(0)
        newest = self._leases.get(key)
        if free and newest is not None:
            self._leases[key] = newest[0], 0.0
        return await super().begin(key, owner, ttl, **more)


@pytest.mark.parametrize(
    ("store", "test"),
    [
        (Forgets, "written_is_read"),
        (FoldsCase, "any_text_is_a_key"),
        (DropsExtra, "every_field_is_kept"),
        (DropsOrigins, "every_field_is_kept"),
        (DropsTombstones, "a_tombstone_stays"),
        (IgnoresVersions, "only_a_later_version_is_taken"),
        (NextVersionOnly, "only_a_later_version_is_taken"),
        (IgnoresFences, "a_late_write_is_refused"),
        (IgnoresFences, "only_the_lease_of_that_key_writes"),
        (IgnoresKeys, "only_the_lease_of_that_key_writes"),
        (RefusesLateAnswers, "an_answer_that_is_late_is_kept_if_nobody_took_over"),
        (GivesToAll, "a_lease_has_one_holder"),
        (GivesToAll, "owners_racing"),
        (GivesToAll, "twenty_tasks_on_one_key"),
        (RefusesItsOwner, "an_owner_begins_again"),
        (GivesTheSameAgain, "an_owner_begins_again"),
        (GivesTheSameAgain, "one_owner_many_times_at_once"),
        (GivesTheSameAgain, "beginning_again_counts_from_now"),
        (BeginsWithoutRecord, "beginning_reads_the_record"),
        (TellsTheHolderAlone, "beginning_reads_the_record"),
        (NeverEnds, "a_lease_ends"),
        (SameFence, "a_fence_outlives_everything"),
        (SameFence, "abandoning"),
        (MarkEndsTheLease, "marking_keeps_the_lease"),
        (CommitKeepsTheLease, "committing_ends_the_lease"),
        (RefusalEndsTheLease, "committing_ends_the_lease"),
        (RenewsAnything, "renewing_what_is_not_held"),
        (RenewsNothing, "renewing"),
        (AbandonsAnything, "abandoning"),
        (TellsNobody, "every_write_is_told"),
        (TellsNobody, "writes_at_once_are_all_told"),
        (BeginsSilently, "every_write_is_told"),
        (SwallowsCancellation, "a_watch_can_begin_again"),
        (TellsOneOnly, "several_watch"),
        (ReadsSome, "many_are_read_at_once"),
        (ReadsOthers, "many_are_read_at_once"),
        (ListsLeases, "keys"),
        (HoldsForever, "holder"),
        (DeletesFences, "delete"),
        (ClosesForAll, "entered_twice"),
        (ForgetsQuotas, "a_rate_holds_for_all"),
        (ForgetsQuotas, "tokens_are_counted"),
        (TakesFirst, "a_held_lease_takes_nothing"),
        (QuotaForEachKey, "a_rate_holds_for_all"),
        (QuotaForEachKey, "members_at_once"),
        (LeasesWhileShut, "a_bucket_fills"),
        (KeepsWhatIsUnused, "giving_back"),
        (KeepsWhatIsUnused, "a_pause_holds_all"),
        (GivesBackAnyPeriod, "a_period_ends"),
        (ReadsThenWrites, "owners_racing"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_the_suite_sees_a_broken_promise(store, test):
    """K2: a store that breaks a promise fails the test of that promise, which MemoryStore passes."""
    with pytest.raises(AssertionError):
        await getattr(Broken(store()), f"test_{test}")()


@pytest.mark.parametrize("test", ["a_lease_of_another_time_is_free", "the_holder_of_another_time"])
async def test_the_suite_sees_a_lease_without_bound(test):
    """K2, T2: a store that believes its clock, however far it says that a lease lasts, fails where that can be set."""
    store = TrustsItsClock()

    class Set(Broken):
        async def set_lease(self, key: str, seconds: float) -> None:
            store._leases[key] = store._leases[key][0], time.monotonic() + seconds

    with pytest.raises(AssertionError):
        await getattr(Set(store), f"test_{test}")()


PAGE = """
import pytest
from evertoken.stores import MemoryStore
from evertoken.testing.conformance import StoreConformance

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.{mark}
class TestMine(StoreConformance):
    @pytest.fixture(autouse=True)
    def store(self):
        self.mine = MemoryStore()

    async def make(self):
        return self.mine
"""


@pytest.mark.parametrize(("mark", "without"), [("asyncio", "anyio"), ("anyio", "asyncio")])
def test_the_suite_runs_under_either_plugin(mark, without, tmp_path):
    """K2: the suite is collected and run by pytest-asyncio in its strict mode, and by anyio's plugin."""
    (tmp_path / "test_mine.py").write_text(PAGE.format(mark=mark))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        f"no:{without}",
        "-k",
        "abandoning or several_watch or racing",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_suite_needs_pytest_alone():
    """K2: importing the suite imports no server, no store with a dependency, and no plugin."""
    code = (
        "import sys; before = set(sys.modules); import evertoken.testing.conformance;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "pytest" in imported
    assert imported & {"filelock", "cryptography", "keyring", "uvicorn", "redis", "asyncpg", "psycopg"} == set()
