"""
The conformance suite itself: it sees what is wrong, and runs wherever its users test.
"""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from evertoken import Held, Lease, Record
from evertoken.stores import MemoryStore
from evertoken.testing.conformance import StoreConformance


class Broken(StoreConformance):
    """
    The suite, on a store that breaks a promise.
    """

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

    async def write(self, record: Record, lease: Lease, /) -> bool:
        done = await super().write(record, lease)
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


class IgnoresVersions(MemoryStore):  # type: ignore[misc]
    async def write(self, record: Record, lease: Lease, /) -> bool:
        await super().delete(record.key)
        return await super().write(record, lease)


class NextVersionOnly(MemoryStore):  # type: ignore[misc]
    async def write(self, record: Record, lease: Lease, /) -> bool:
        before = await self.read(record.key)
        gap = before is not None and record.version > before.version + 1
        return not gap and await super().write(record, lease)


class IgnoresFences(MemoryStore):  # type: ignore[misc]
    async def write(self, record: Record, lease: Lease, /) -> bool:
        self._newest[record.key] = lease
        return await super().write(record, lease)


class RefusesLateAnswers(MemoryStore):  # type: ignore[misc]
    async def write(self, record: Record, lease: Lease, /) -> bool:
        return await self.holder(record.key) is not None and await super().write(record, lease)


class GivesToAll(MemoryStore):  # type: ignore[misc]
    async def acquire(self, key: str, owner: str, ttl: float, /) -> Lease | Held:
        self._leases.pop(key, None)
        return await super().acquire(key, owner, ttl)


class GivesToItsOwnerAgain(MemoryStore):  # type: ignore[misc]
    async def acquire(self, key: str, owner: str, ttl: float, /) -> Lease | Held:
        held = self._leases.get(key)
        return held[0] if held and held[0].owner == owner else await super().acquire(key, owner, ttl)


class NeverEnds(MemoryStore):  # type: ignore[misc]
    async def acquire(self, key: str, owner: str, ttl: float, /) -> Lease | Held:
        return await super().acquire(key, owner, 3600.0)


class SameFence(MemoryStore):  # type: ignore[misc]
    async def release(self, lease: Lease, /) -> None:
        await super().release(lease)
        self._newest.pop(lease.key, None)


class RenewsAnything(MemoryStore):  # type: ignore[misc]
    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        self._leases[lease.key] = lease, 1e9
        return True


class RenewsNothing(MemoryStore):  # type: ignore[misc]
    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        return True


class ReleasesAnything(MemoryStore):  # type: ignore[misc]
    async def release(self, lease: Lease, /) -> None:
        self._leases.pop(lease.key, None)


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


class ListsLeases(MemoryStore):  # type: ignore[misc]
    async def keys(self) -> AsyncIterator[str]:
        for key in {**self._records, **self._newest}:
            yield key


class HoldsForever(MemoryStore):  # type: ignore[misc]
    async def holder(self, key: str, /) -> tuple[str, float] | None:
        newest = self._newest.get(key)
        return None if newest is None else (newest.owner, 30.0)


class DeletesFences(MemoryStore):  # type: ignore[misc]
    async def delete(self, key: str, /) -> bool:
        self._newest.pop(key, None)
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


class ReadsThenWrites(MemoryStore):  # type: ignore[misc]
    async def acquire(self, key: str, owner: str, ttl: float, /) -> Lease | Held:
        free = await self.holder(key) is None
        await asyncio.sleep(0)
        if free:
            self._leases.pop(key, None)
        return await super().acquire(key, owner, ttl)


@pytest.mark.parametrize(
    ("store", "test"),
    [
        (Forgets, "written_is_read"),
        (FoldsCase, "any_text_is_a_key"),
        (DropsExtra, "every_field_is_kept"),
        (DropsTombstones, "a_tombstone_stays"),
        (IgnoresVersions, "only_a_later_version_is_taken"),
        (NextVersionOnly, "only_a_later_version_is_taken"),
        (IgnoresFences, "a_late_write_is_refused"),
        (IgnoresFences, "only_the_lease_of_that_key_writes"),
        (RefusesLateAnswers, "an_answer_that_is_late_is_kept_if_nobody_took_over"),
        (GivesToAll, "a_lease_has_one_holder"),
        (GivesToAll, "owners_racing"),
        (GivesToAll, "twenty_tasks_on_one_key"),
        (GivesToItsOwnerAgain, "a_lease_has_one_holder"),
        (NeverEnds, "a_lease_ends"),
        (SameFence, "a_fence_outlives_everything"),
        (SameFence, "releasing"),
        (RenewsAnything, "renewing_what_is_not_held"),
        (RenewsNothing, "renewing"),
        (ReleasesAnything, "releasing"),
        (TellsNobody, "every_write_is_told"),
        (TellsNobody, "writes_at_once_are_all_told"),
        (BeginsSilently, "every_write_is_told"),
        (SwallowsCancellation, "a_watch_can_begin_again"),
        (TellsOneOnly, "several_watch"),
        (ListsLeases, "keys"),
        (HoldsForever, "holder"),
        (DeletesFences, "delete"),
        (ClosesForAll, "entered_twice"),
        (ReadsThenWrites, "owners_racing"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_the_suite_sees_a_broken_promise(store, test):
    """K2: a store that breaks a promise fails the test of that promise, which MemoryStore passes."""
    with pytest.raises(AssertionError):
        await getattr(Broken(store()), f"test_{test}")()


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
        "releasing or several_watch or racing",
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
