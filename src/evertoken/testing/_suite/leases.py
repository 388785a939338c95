"""
Conformance: at any instant one owner may fetch, and whoever was replaced can write no more.
"""

from __future__ import annotations

import asyncio
import time

from evertoken._model.protocols import Held, Lease, Record
from evertoken.testing._suite.base import GRAIN, Suite, a_token, keep, lease_of, win

__all__ = ["Leases"]


class Leases(Suite):
    """
    Acquiring, renewing, releasing, and fences.
    """

    async def test_a_lease_has_one_holder(self) -> None:
        """K2: a lease is one attempt's until it ends; all others, its owner too, are told for how long."""
        async with self.pair() as (one, other):
            lease = await lease_of(one, ttl=30.0)
            assert lease.fence >= 1
            for store in (one, other):
                for owner in ("me", "other"):
                    held = await store.acquire("k", owner, 30.0)
                    assert isinstance(held, Held)
                    assert 30.0 - self.patience < held.remaining <= 30.0 + GRAIN
            await lease_of(other, "another key", "other")

    async def test_a_lease_ends(self) -> None:
        """K2: a lease whose holder is gone ends by itself, not before its time, and the next has a higher fence."""
        async with self.pair() as (one, other):
            asked_at = time.monotonic()
            lease = await lease_of(one, ttl=self.short)
            taken = await win(other, "k", "other", 30.0, self.patience)
            assert time.monotonic() - asked_at >= self.short - GRAIN
            assert taken.fence > lease.fence
            assert not await one.renew(lease, 30.0)

    async def test_a_late_write_is_refused(self) -> None:
        """K2: a holder that outlived its lease cannot overwrite once another has it, whatever its version."""
        async with self.pair() as (one, other):
            old = await lease_of(one, ttl=self.short)
            new = await win(other, "k", "other", 30.0, self.patience)
            assert not await one.write(Record("k", 1, a_token("late")), old)
            assert await other.read("k") is None
            assert await other.write(record := Record("k", 1, a_token("new")), new)
            assert not await one.write(Record("k", 100, a_token("late")), old)
            await one.release(old)
            await other.release(new)
            assert not await one.write(Record("k", 100, a_token("late")), old)
            assert await one.read("k") == record

    async def test_an_answer_that_is_late_is_kept_if_nobody_took_over(self) -> None:
        """K1, K2: the newest lease still writes when it has ended: what it brings may be a rotated refresh token."""
        async with self.opened() as store:
            lease = await lease_of(store, ttl=self.short)
            await asyncio.sleep(self.short + GRAIN)
            assert await store.write(record := Record("k", 1, a_token()), lease)
            assert await store.read("k") == record

    async def test_only_the_lease_of_that_key_writes(self) -> None:
        """K2: a lease of another key, another owner's, one of an older or a later fence, or none writes nothing."""
        async with self.opened() as store:
            stranger = Lease("never leased", "me", 1)
            assert not await store.write(Record("never leased", 1, a_token()), stranger)
            other = await lease_of(store, "other")
            lease = await lease_of(store)
            for wrong in (
                other,
                Lease("k", "you", lease.fence),
                Lease("k", "me", lease.fence - 1),
                Lease("k", "me", lease.fence + 1),
            ):
                assert not await store.write(Record("k", 1, a_token()), wrong)
                assert await store.read("k") is None
            assert await store.write(Record("k", 1, a_token()), lease)

    async def test_renewing(self) -> None:
        """K2: a held lease can be renewed for as long as it is needed, counted from now."""
        async with self.pair() as (one, other):
            lease = await lease_of(one, ttl=self.short)
            assert await one.renew(lease, 30.0)
            await asyncio.sleep(self.short + GRAIN)
            held = await other.acquire("k", "other", 30.0)
            assert isinstance(held, Held)
            assert held.remaining > self.short
            assert await one.write(Record("k", 1, a_token()), lease)
            assert await one.renew(lease, self.short)
            await win(other, "k", "other", 30.0, self.patience)

    async def test_renewing_what_is_not_held(self) -> None:
        """K2: a lease that has ended, was released or taken, or is another's, is not renewed and bars nobody."""
        async with self.pair() as (one, other):
            assert not await one.renew(Lease("k", "me", 1), 30.0)
            lease = await lease_of(one, ttl=self.short)
            assert not await other.renew(Lease("k", "you", lease.fence), 30.0)
            assert not await other.renew(Lease("k", "me", lease.fence + 1), 30.0)
            await asyncio.sleep(self.short + GRAIN)
            assert not await one.renew(lease, 30.0)
            second = await lease_of(other, owner="other")
            assert not await one.renew(lease, 30.0)
            await other.release(second)
            assert not await other.renew(second, 30.0)
            await lease_of(one)

    async def test_releasing(self) -> None:
        """K2: a lease is released by its holder alone; twice, late or by a stranger does nothing."""
        async with self.pair() as (one, other):
            lease = await lease_of(one)
            for stranger in (
                Lease("k", "you", lease.fence),
                Lease("k", "me", lease.fence - 1),
                Lease("k", "me", lease.fence + 1),
                Lease("never leased", "me", 1),
            ):
                await other.release(stranger)
            assert isinstance(await other.acquire("k", "other", 30.0), Held)
            await one.release(lease)
            second = await lease_of(other, owner="other")
            await one.release(lease)
            assert isinstance(await one.acquire("k", "me", 30.0), Held)
            await other.release(second)
            await other.release(second)
            third = await lease_of(one, owner="third")
            assert lease.fence < second.fence < third.fence

    async def test_owners_racing(self) -> None:
        """K2: of many that ask at once one gets the lease, and each lease has a fence of its own, above all before."""
        fences: list[int] = []
        async with self.pair() as stores:
            for turn in range(5):
                answers = await asyncio.gather(
                    *(stores[number % 2].acquire("k", f"{turn}-{number}", 30.0) for number in range(20))
                )
                leases = [answer for answer in answers if isinstance(answer, Lease)]
                assert len(leases) == 1
                fences.append(leases[0].fence)
                await stores[turn % 2].release(leases[0])
        assert fences == sorted(set(fences))

    async def test_a_fence_outlives_everything(self) -> None:
        """K2: fences grow on when leases end, when records are written, and for each key by itself."""
        async with self.pair() as (one, other):
            fences = []
            for turn in range(1, 3):
                lease = await lease_of(one, ttl=self.short)
                assert await one.write(Record("k", turn, a_token()), lease)
                fences.append(lease.fence)
                taken = await win(other, "k", "other", 30.0, self.patience)
                fences.append(taken.fence)
                await other.release(taken)
            assert fences == sorted(set(fences))
            await keep(other, "another key")
