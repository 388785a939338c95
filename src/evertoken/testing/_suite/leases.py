"""Conformance: at any instant only one owner may fetch, and an owner that was replaced cannot write."""

from __future__ import annotations

import asyncio
import time

from evertoken._model.protocols import LONGEST_LEASE, Held, Lease, Record
from evertoken.testing._suite.base import GRAIN, Suite, a_token, held_from, keep, lease_of, win

__all__ = ["Leases"]


class Leases(Suite):
    """Taking, renewing and ending leases, and their fences."""

    async def test_a_lease_has_one_holder(self) -> None:
        """K2: a lease belongs to one owner until it ends. All others learn how long that takes."""
        async with self.pair() as (one, other):
            lease = await lease_of(one)
            assert lease.fence >= 1
            for store in (one, other):
                held = await held_from(store)
                assert LONGEST_LEASE - self.patience < held.remaining <= LONGEST_LEASE + GRAIN
            await lease_of(other, "another key", "other")

    async def test_beginning_reads_the_record(self) -> None:
        """K2: the record of that moment comes with the lease, or with the answer that it is held."""
        async with self.pair() as (one, other):
            assert (await one.begin("k", "me", LONGEST_LEASE)).record is None
            assert (await other.begin("k", "other", LONGEST_LEASE)).record is None
            lease = await lease_of(one)
            marked = Record("k", 1, a_token("first"), 1_700_000_000.5, "me")
            assert await one.mark(marked, lease)
            assert (await other.begin("k", "other", LONGEST_LEASE)).record == marked
            assert await one.commit(done := Record("k", 2, a_token("second")), lease)
            begun = await other.begin("k", "other", LONGEST_LEASE)
            assert isinstance(begun.lease, Lease)
            assert begun.record == done
            assert (await one.begin("k", "me", LONGEST_LEASE)).record == done
            assert (await one.begin("another key", "me", LONGEST_LEASE)).record is None

    async def test_an_owner_begins_again(self) -> None:
        """
        K2, K4: an owner that holds the lease receives a newer one at once, and its older one cannot write any longer.
        """
        async with self.pair() as (one, other):
            old = await lease_of(one)
            new = await lease_of(other)
            assert new.fence > old.fence
            assert not await one.mark(Record("k", 1, a_token("late")), old)
            assert not await one.commit(Record("k", 1, a_token("late")), old)
            assert not await one.renew(old, LONGEST_LEASE)
            await one.abandon(old)
            assert await other.read("k") is None
            await held_from(one)
            assert await other.commit(record := Record("k", 1, a_token("new")), new)
            assert await one.read("k") == record

    async def test_beginning_again_counts_from_now(self) -> None:
        """K2: an owner that begins again holds the lease for the time that it last requested."""
        async with self.pair() as (one, other):
            await lease_of(one)
            await lease_of(one, ttl=self.short)
            assert (await held_from(other)).remaining <= self.short + GRAIN
            await win(other, "k", "other", LONGEST_LEASE, self.patience)

    async def test_a_lease_ends(self) -> None:
        """K2: a lease whose holder is gone ends by itself, but not early, and the next one has a higher fence."""
        async with self.pair() as (one, other):
            asked_at = time.monotonic()
            lease = await lease_of(one, ttl=self.short)
            taken = await win(other, "k", "other", LONGEST_LEASE, self.patience)
            assert time.monotonic() - asked_at >= self.short - GRAIN
            assert taken.fence > lease.fence
            assert not await one.renew(lease, LONGEST_LEASE)

    async def test_a_lease_of_another_time_is_free(self) -> None:
        """
        K2, T2: a lease that ends later than any lease can comes from before the clock was set, and excludes nobody.
        """
        async with self.pair() as (one, other):
            for ahead in (60.0, 3600.0, 1e9):
                lease = await lease_of(one)
                await self.set_lease("k", LONGEST_LEASE + ahead)
                taken = await lease_of(other, owner="other")
                assert taken.fence > lease.fence
                assert not await one.commit(Record("k", 1, a_token("late")), lease)
                assert (await held_from(one, owner="me")).remaining <= LONGEST_LEASE + GRAIN
                await other.abandon(taken)

    async def test_a_lease_that_is_set_within_bounds_is_held(self) -> None:
        """K2: a lease that could really have been given stays with its holder."""
        async with self.pair() as (one, other):
            await lease_of(one, ttl=self.short)
            await self.set_lease("k", LONGEST_LEASE - 1.0)
            assert (await held_from(other)).remaining > self.short

    async def test_a_late_write_is_refused(self) -> None:
        """K2: a holder whose lease was taken over cannot overwrite the record, with any version."""
        async with self.pair() as (one, other):
            old = await lease_of(one, ttl=self.short)
            new = await win(other, "k", "other", LONGEST_LEASE, self.patience)
            assert not await one.mark(Record("k", 1, a_token("late")), old)
            assert not await one.commit(Record("k", 1, a_token("late")), old)
            assert await other.read("k") is None
            await held_from(one, owner="third")
            assert await other.commit(record := Record("k", 1, a_token("new")), new)
            assert not await one.mark(Record("k", 100, a_token("late")), old)
            assert not await one.commit(Record("k", 100, a_token("late")), old)
            await one.abandon(old)
            assert await one.read("k") == record

    async def test_an_answer_that_is_late_is_kept_if_nobody_took_over(self) -> None:
        """K1, K2: the newest lease can still write after its end, because it may bring a rotated refresh token."""
        async with self.opened() as store:
            lease = await lease_of(store, ttl=self.short)
            await asyncio.sleep(self.short + GRAIN)
            assert await store.mark(Record("k", 1, a_token()), lease)
            assert await store.commit(record := Record("k", 2, a_token("second")), lease)
            assert await store.read("k") == record

    async def test_only_the_lease_of_that_key_writes(self) -> None:
        """K2: a lease of another key or owner, one with an older or later fence, or a missing lease cannot write."""
        async with self.opened() as store:
            record = Record("k", 1, a_token())
            stranger = Lease("never leased", "me", 1)
            for write in (store.mark, store.commit):
                assert not await write(Record("never leased", 1, a_token()), stranger)
            other = await lease_of(store, "other")
            lease = await lease_of(store)
            for wrong in (
                other,
                Lease("k", "you", lease.fence),
                Lease("k", "me", lease.fence - 1),
                Lease("k", "me", lease.fence + 1),
            ):
                assert not await store.mark(record, wrong)
                assert not await store.commit(record, wrong)
                assert await store.read("k") is None
            await held_from(store)
            await held_from(store, "other")
            assert await store.commit(record, lease)

    async def test_marking_keeps_the_lease(self) -> None:
        """K2: a mark is in the record at once, and the owner keeps the lease until it commits."""
        async with self.pair() as (one, other):
            lease = await lease_of(one)
            assert await one.mark(marked := Record("k", 1, a_token(), 5.5, "me"), lease)
            assert await other.read("k") == marked
            await held_from(other)
            assert await one.mark(again := Record("k", 2, a_token(), 6.5, "me"), lease)
            assert await other.read("k") == again
            await held_from(other)
            assert await one.commit(Record("k", 3, a_token("done")), lease)
            await lease_of(other, owner="other")

    async def test_committing_ends_the_lease(self) -> None:
        """K2: a commit frees the lease at once. A refused commit leaves the lease as it is."""
        async with self.pair() as (one, other):
            lease = await lease_of(one)
            assert await one.mark(Record("k", 5, a_token()), lease)
            assert not await one.commit(Record("k", 5, a_token("late")), lease)
            await held_from(other)
            assert await one.commit(Record("k", 6, a_token()), lease)
            assert not await one.renew(lease, LONGEST_LEASE)
            second = await lease_of(other, owner="other")
            assert second.fence > lease.fence
            assert not await one.commit(Record("k", 7, a_token("late")), lease)
            await held_from(one, owner="me")

    async def test_renewing(self) -> None:
        """K2: a held lease can be renewed as often as needed. The time counts from the renewal."""
        async with self.pair() as (one, other):
            lease = await lease_of(one, ttl=self.short)
            assert await one.renew(lease, LONGEST_LEASE)
            await asyncio.sleep(self.short + GRAIN)
            assert (await held_from(other)).remaining > self.short
            assert await one.mark(Record("k", 1, a_token()), lease)
            assert await one.renew(lease, self.short)
            await win(other, "k", "other", LONGEST_LEASE, self.patience)

    async def test_renewing_what_is_not_held(self) -> None:
        """K2: a lease that has ended, was given back or taken, or belongs to another owner, cannot be renewed."""
        async with self.pair() as (one, other):
            assert not await one.renew(Lease("k", "me", 1), LONGEST_LEASE)
            lease = await lease_of(one, ttl=self.short)
            assert not await other.renew(Lease("k", "you", lease.fence), LONGEST_LEASE)
            assert not await other.renew(Lease("k", "me", lease.fence + 1), LONGEST_LEASE)
            await asyncio.sleep(self.short + GRAIN)
            assert not await one.renew(lease, LONGEST_LEASE)
            second = await lease_of(other, owner="other")
            assert not await one.renew(lease, LONGEST_LEASE)
            await other.abandon(second)
            assert not await other.renew(second, LONGEST_LEASE)
            await lease_of(one)

    async def test_abandoning(self) -> None:
        """K2: only its holder can abandon a lease. A second, late or foreign call does nothing. The record stays."""
        async with self.pair() as (one, other):
            record = await keep(one, "k")
            lease = await lease_of(one)
            for stranger in (
                Lease("k", "you", lease.fence),
                Lease("k", "me", lease.fence - 1),
                Lease("k", "me", lease.fence + 1),
                Lease("never leased", "me", 1),
            ):
                await other.abandon(stranger)
            await held_from(other)
            await one.abandon(lease)
            second = await lease_of(other, owner="other")
            await one.abandon(lease)
            await held_from(one, owner="me")
            await other.abandon(second)
            await other.abandon(second)
            third = await lease_of(one, owner="third")
            assert lease.fence < second.fence < third.fence
            assert await one.read("k") == record
            assert await one.read("never leased") is None

    async def test_owners_racing(self) -> None:
        """K2: if many owners ask at once, one gets the lease. Each lease has its own fence, above all earlier ones."""
        fences: list[int] = []
        async with self.pair() as stores:
            for turn in range(5):
                answers = await asyncio.gather(
                    *(stores[number % 2].begin("k", f"{turn}-{number}", LONGEST_LEASE) for number in range(20))
                )
                leases = [answer.lease for answer in answers if isinstance(answer.lease, Lease)]
                assert len(leases) == 1
                assert sum(isinstance(answer.lease, Held) for answer in answers) == len(answers) - 1
                fences.append(leases[0].fence)
                await stores[turn % 2].abandon(leases[0])
        assert fences == sorted(set(fences))

    async def test_one_owner_many_times_at_once(self) -> None:
        """K2: leases that one owner requests at once have different fences, and only the highest can write."""
        async with self.pair() as stores:
            answers = await asyncio.gather(
                *(stores[number % 2].begin("k", "me", LONGEST_LEASE) for number in range(20))
            )
            leases = [answer.lease for answer in answers if isinstance(answer.lease, Lease)]
            leases.sort(key=lambda lease: lease.fence)
            assert len({lease.fence for lease in leases}) == len(answers)
            for lease in leases[:-1]:
                assert not await stores[0].commit(Record("k", 1, a_token("late")), lease)
            assert await stores[1].commit(Record("k", 1, a_token()), leases[-1])

    async def test_a_fence_outlives_everything(self) -> None:
        """K2: fences keep growing when leases end and when records are written, separately for each key."""
        async with self.pair() as (one, other):
            fences = []
            for turn in range(1, 3):
                lease = await lease_of(one, ttl=self.short)
                assert await one.mark(Record("k", turn, a_token()), lease)
                fences.append(lease.fence)
                taken = await win(other, "k", "other", LONGEST_LEASE, self.patience)
                fences.append(taken.fence)
                await other.abandon(taken)
            assert fences == sorted(set(fences))
            await keep(other, "another key")
