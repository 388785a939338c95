"""Conformance of an optional ability of a store: keep the rates and budgets of providers for all members."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

import pytest

from evertoken._model.leases import Held, Lease, Quota, Unused
from evertoken._model.protocols import LONGEST_LEASE, Record
from evertoken.testing._suite.base import GRAIN, Suite, a_token, keep

if TYPE_CHECKING:
    from evertoken._model.leases import Begun
    from evertoken._model.protocols import TokenStore
    from evertoken._model.quota_store import QuotaStore

__all__ = ["Quotas"]

#: The length of a period that does not end while a test runs.
_AGE = 1e10


def _keeping(store: TokenStore) -> QuotaStore:
    if not getattr(store, "keeps_quotas", False):
        pytest.skip("the store keeps no quotas")
    return cast("QuotaStore", store)


async def _taken(store: TokenStore, key: str, quota: Quota, owner: str = "me") -> Begun:
    begun = await _keeping(store).begin(key, owner, LONGEST_LEASE, quota=quota)
    assert isinstance(begun.lease, Lease), f"the quota is open, and no lease was given: {begun!r}"
    assert begun.wait == 0.0
    return begun


async def _shut(store: TokenStore, key: str, quota: Quota, owner: str = "me") -> Begun:
    begun = await _keeping(store).begin(key, owner, LONGEST_LEASE, quota=quota)
    assert isinstance(begun.lease, Held), f"the quota is used up, and a lease was given: {begun!r}"
    assert begun.wait > 0.0
    assert begun.lease.remaining == pytest.approx(begun.wait)
    return begun


async def _used(store: TokenStore, name: str = "budget") -> int:
    """Return the counted tokens, without taking one."""
    spent = (await _shut(store, f"asks-{time.monotonic_ns()}", Quota(name=name, per=_AGE, tokens=0))).spent
    assert spent is not None
    return spent.used


class Quotas(Suite):
    """`QuotaStore`. The tests are skipped if the store keeps no quotas."""

    async def test_a_rate_holds_for_all(self) -> None:
        """F8: a request of one member counts for all. Each quota has its own bucket, which has no record of a key."""
        async with self.pair() as (one, other):
            quota = Quota(name="rate", rate=0.1, burst=3.0)
            for number, store in enumerate((one, other, one)):
                await _taken(store, f"k{number}", quota)
            for store in (one, other):
                assert 10.0 - self.patience < (await _shut(store, "k4", quota)).wait <= 10.0  # noqa: PLR2004 - a count
            assert await other.read("rate") is None
            # Nothing was taken, and no lease was left behind.
            begun = await other.begin("k4", "you", LONGEST_LEASE)
            assert isinstance(begun.lease, Lease)
            await _taken(other, "k5", Quota(name="another rate", rate=0.1))

    async def test_a_bucket_fills(self) -> None:
        """F8: a request becomes available again after its share of the time, and not earlier."""
        async with self.pair() as (one, other):
            quota = Quota(name="rate", rate=1.0 / self.short)
            await _taken(one, "k1", quota)
            asked_at = time.monotonic()
            wait = (await _shut(other, "k2", quota)).wait
            assert self.short * 0.2 < wait <= self.short
            await asyncio.sleep(wait)
            await _taken(other, "k2", quota)
            assert time.monotonic() - asked_at < self.patience

    async def test_a_held_lease_takes_nothing(self) -> None:
        """F8, K2: if another owner holds the lease, nothing is taken. The record is returned in each case."""
        async with self.pair() as (one, other):
            record = await keep(one, "k")
            quota = Quota(name="budget", rate=1e-6, burst=2.0, per=_AGE, tokens=2)
            assert (await _taken(one, "k", quota)).record == record
            for _ in range(3):
                held = await _keeping(other).begin("k", "other", LONGEST_LEASE, quota=quota)
                assert isinstance(held.lease, Held)
                assert (held.wait, held.spent, held.record) == (0.0, None, record)
            await _taken(other, "k2", quota)
            assert (await _shut(other, "k3", quota)).record is None

    async def test_an_owner_takes_again(self) -> None:
        """F8: an owner that begins again receives a lease with a higher fence, and takes a second part."""
        async with self.pair() as (one, other):
            quota = Quota(name="budget", per=_AGE, tokens=2)
            first = (await _taken(one, "k", quota)).lease
            second = (await _taken(other, "k", quota)).lease
            assert isinstance(first, Lease)
            assert isinstance(second, Lease)
            assert second.fence > first.fence
            begun = await _shut(one, "k", quota)
            assert isinstance(begun.lease, Held)
            # The existing lease stays with its owner.
            assert await one.commit(Record("k", 1, a_token()), second)

    async def test_tokens_are_counted(self) -> None:
        """F8: each lease counts one token of the period, for all members. Uncounted tokens are added."""
        async with self.pair() as (one, other):
            quota = Quota(name="budget", per=_AGE, tokens=4)
            for number, store in enumerate((one, other)):
                spent = (await _taken(store, f"k{number}", quota)).spent
                assert spent is not None
                assert (spent.used, spent.period) == (number + 1, 0)
                assert 0.0 < spent.ends_in <= _AGE
            more = Quota(name="budget", per=_AGE, tokens=4, more=1)
            spent = (await _taken(other, "k3", more)).spent
            assert spent is not None
            assert spent.used == 4  # noqa: PLR2004 - a count
            # They are always counted, even if no lease is given.
            spent = (await _shut(one, "k4", more)).spent
            assert spent is not None
            assert spent.used == 5  # noqa: PLR2004 - a count
            counted = (await _taken(one, "k4", Quota(name="budget", per=_AGE))).spent
            assert counted is not None
            assert counted.used == 6  # noqa: PLR2004 - a count

    async def test_a_period_ends(self) -> None:
        """F8: the count starts again with each period, and the answer says when that happens."""
        async with self.pair() as (one, other):
            per = 4.0 * self.short
            quota = Quota(name="budget", per=per, tokens=1)
            await asyncio.sleep(per - time.time() % per + GRAIN)
            first = await _taken(one, "k1", quota)
            begun = await _shut(other, "k2", quota)
            assert first.spent is not None
            assert begun.spent is not None
            assert begun.wait == pytest.approx(begun.spent.ends_in, abs=GRAIN)
            assert begun.spent.ends_in <= per
            await asyncio.sleep(begun.wait + GRAIN)
            second = (await _taken(other, "k2", quota)).spent
            assert second is not None
            assert second.used == 1
            assert second.period > first.spent.period
            # A token of the previous period is not subtracted from this one.
            assert isinstance(first.lease, Lease)
            await _keeping(one).abandon(first.lease, unused=Unused(quota=quota, period=first.spent.period))
            await _shut(one, "k3", quota)

    async def test_giving_back(self) -> None:
        """F8: unused parts are available again at once, request and token separately, even if the lease has ended."""
        async with self.pair() as (one, other):
            quota = Quota(name="budget", rate=1e-6, per=_AGE, tokens=9)
            begun = await _taken(one, "k1", quota)
            lease = begun.lease
            assert isinstance(lease, Lease)
            await _shut(other, "k2", quota)
            await _keeping(one).abandon(lease, unused=Unused(quota=quota, request=True, period=0))
            assert await _used(other) == 0
            # The lease is free too.
            begun = await _taken(other, "k1", quota, "other")
            assert isinstance(begun.lease, Lease)
            assert await other.commit(Record("k1", 1, a_token()), begun.lease)
            assert await _used(one) == 1
            await _keeping(other).abandon(begun.lease, unused=Unused(quota=quota, period=0))
            assert await _used(one) == 0
            await _shut(one, "k2", quota)
            # An outdated lease does not end the lease of another owner.
            await _keeping(one).abandon(lease, unused=Unused(quota=quota, request=True))
            await _taken(one, "k2", quota)
            assert await _used(other) == 1

    async def test_a_pause_holds_all(self) -> None:
        """F8: while a provider wants a pause, no member receives a lease. A shorter pause does not end a longer one."""
        async with self.pair() as (one, other):
            quota = Quota(name="rate", rate=100.0, burst=50.0)
            lease = (await _taken(one, "k", quota)).lease
            assert isinstance(lease, Lease)
            await _keeping(one).abandon(lease, unused=Unused(quota=quota, hold=60.0))
            await _keeping(one).abandon(lease, unused=Unused(quota=quota, hold=1.0))
            assert 60.0 - self.patience < (await _shut(other, "k", quota)).wait <= 60.0  # noqa: PLR2004 - a count
            await _taken(other, "k", Quota(name="another", rate=100.0))

    async def test_members_at_once(self) -> None:
        """F8: if many members ask at once, exactly as much is given as the quota has."""
        async with self.pair(3) as stores:
            quota = Quota(name="budget", rate=1e-6, burst=10.0, per=_AGE, tokens=7)
            asked = (
                _keeping(stores[number % 3]).begin(f"k{number}", "me", LONGEST_LEASE, quota=quota)
                for number in range(30)
            )
            begun = await asyncio.gather(*asked)
            assert sum(isinstance(one.lease, Lease) for one in begun) == 7  # noqa: PLR2004 - a count
            assert await _used(stores[0]) == 7  # noqa: PLR2004 - a count
