"""Conformance of an optional ability of a store: write many new records in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evertoken._model.batch_store import BatchStore
from evertoken._model.protocols import Record
from evertoken.testing._suite.base import Suite, a_token, keep, lease_of

if TYPE_CHECKING:
    from evertoken._model.protocols import TokenStore

__all__ = ["Batches"]


def batched(store: TokenStore) -> BatchStore:
    """Return *store* if it writes many records at once. Otherwise skip the test."""
    if not isinstance(store, BatchStore):
        pytest.skip("the store takes records one by one")
    return store


class Batches(Suite):
    """`BatchStore.add_many`. The tests are skipped if the store does not have it."""

    async def test_new_records_are_kept_together(self) -> None:
        """K2: many new records are kept in one step, and read again as they were."""
        async with self.pair() as (one, other):
            records = [Record(f"new-{number}", 1, a_token(), since=5.0, generation=1) for number in range(50)]
            assert await batched(one).add_many(records) == [True] * 50
            for record in records:
                assert await other.read(record.key) == record

    async def test_what_is_there_stays(self) -> None:
        """K2: a key with a record or a tombstone keeps it, and a key whose lease is held is not written."""
        async with self.pair() as (one, other):
            taken = await keep(other, "taken")
            out = Record("out", 3, None, revoked=True, since=9.0)
            assert await other.commit(out, await lease_of(other, "out"))
            await lease_of(other, "held")
            records = [Record(key, 7, a_token("other")) for key in ("taken", "free", "out", "held")]
            assert await batched(one).add_many(records) == [False, True, False, False]
            assert await one.read("taken") == taken
            assert await one.read("out") == out
            assert await one.read("held") is None

    async def test_an_older_lease_writes_no_more(self) -> None:
        """K2: an earlier holder of the lease cannot overwrite an added record."""
        async with self.pair() as (one, other):
            before = await lease_of(other, "k")
            await other.abandon(before)
            added = Record("k", 1, a_token())
            assert await batched(one).add_many([added]) == [True]
            assert not await other.commit(Record("k", 9, a_token("other")), before)
            assert await other.read("k") == added
            assert await other.commit(Record("k", 2, a_token("other")), await lease_of(other, "k"))
