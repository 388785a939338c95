"""
The coordinator of a fleet that shares one store: begin, mark, finish, with leases and fenced writes.

The rules in `coordination_rules` decide what a member does. This file only reads and writes the records.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, final

from evertoken._coordination.hearing import Hearing
from evertoken._coordination.lease import Leases
from evertoken._coordination.notices import Notices
from evertoken._coordination.quotas import Quotas
from evertoken._coordination.record_judge import RecordJudge
from evertoken._coordination.records import StoreRecords
from evertoken._coordination.store_client import STORE_TIMEOUT, StoreClient
from evertoken._coordination.watch import Watch
from evertoken._engine.flight import Flight
from evertoken._engine.tasks import Gate
from evertoken._model.coordination_rules import OFFERED, is_newer, lost_answer, record_of
from evertoken._model.coordinator import Permit
from evertoken._model.errors import TransientRefreshError
from evertoken._model.protocols import Begun, Held, Lease, Record

if TYPE_CHECKING:
    from evertoken._engine.session import Session
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import TokenStore
    from evertoken._model.token import Token

__all__ = ["FleetCoordinator"]

#: Seconds between two looks at a lease that another member holds, unless the store reports a write.
POLL: Final = 0.25

# Used with a record that was read without asking for the lease.
_ANOTHERS: Final = Held(0.0)

# The first pause before a failed write is repeated. It doubles each time.
_PAUSE: Final = 0.1


@final
class FleetCoordinator:
    """
    A `Coordinator` through a store.

    Args:
        patience: Seconds to wait for a peer that holds the lease.
    """

    def __init__(self, store: TokenStore, namespace: str | None, session: Session, *, patience: float) -> None:
        self._session = session
        self._clock = session.clock
        self._rules = session.rules
        self._client = StoreClient(store, namespace, session)
        self._leases = Leases(self._client, clock=session.clock)
        self._judge = RecordJudge(self._client, session)
        self._quotas = Quotas(self._client, session)
        self.records: StoreRecords = StoreRecords(self._client, namespace, session)
        self._notices = Notices(session.clock)
        self._watch = Watch(self._client, namespace, session, written=self._notices.written, judge=self._judge.seen)
        self._patience = patience

    async def open(self) -> None:
        """Enter the store, and watch it if it supports that."""
        await self._watch.open()

    async def close(self) -> None:
        """End the watch, and leave the store."""
        await self._watch.close()

    async def look(self, state: KeyState, flight: Flight, /) -> Record | None:
        """
        Return the record, if it is newer than memory and useful.

        If the store knows less than this process, it was flushed or restored. Then the key counts as unkept.
        """
        found = await self._client.read(state, flight)
        if found is None:
            self._watch.unread(state)
            return None
        return self._judge.seen(state, found[0])

    async def begin(self, state: KeyState, flight: Flight, /) -> Permit | Record:
        """
        Take the lease and read the record, or return a newer record that makes the fetch unnecessary.

        Raises:
            TransientRefreshError: A peer holds the lease. Or the store is down and a refresh token might be spent.
                Or an answer is missing, and the token in service must not be put at risk.
            GrantRejected: The key was signed out, or its refresh token may not be presented again.
        """
        end, slow = self._clock.monotonic() + self._patience, False
        hearing = Hearing()
        told = not flight.decided and self._watch.is_told(state)
        while True:
            if told and (record := await self._told(state, flight)) is not None:
                return record
            ttl, asked = self._leases.ttl_of(state), self._clock.monotonic()
            until = self._leases.until(ttl)
            begun = await self._begin(state, flight, ttl)
            if begun is None:
                return self._judge.without_store(state, flight)
            held = isinstance(begun.lease, Held)
            outlived = not held and self._leases.outlived(until)
            try:
                newer = self._judge.newer(state, flight, begun)
                if newer is None and outlived:
                    # This process was suspended, or the store is too slow for this token. A second time decides which.
                    if slow:
                        return self._judge.without_store(state, flight)
                    slow = True
                    self._return_later(state, flight, begun.lease)
                    continue
                if (
                    newer is None
                    and isinstance(begun.lease, Lease)
                    and await self._heard(state, flight, begun, hearing, (asked, until[0]))
                    # A caller that needs more than a look may have joined. The owner of a lease may take it again.
                    and (flight.taken is not None or self._quotas.wanted(state, flight) is None)
                ):
                    self._judge.mark(state, flight, begun.record)
                    return Permit(begun.lease, begun.record, until)
            except BaseException:
                await self._give_back(state, flight, begun)
                raise
            if newer is not None:
                self._judge.behind.pop(state, None)
                self._give_back_later(state, flight, begun)
                return newer
            hearing.last = begun.record or hearing.last
            if begun.wait > 0.0:
                # A quota that is used up does not mean that a peer is gone.
                end += await self._quotas.wait(state, flight)
                told = not flight.decided and self._watch.is_told(state)
                continue
            # Peers get all their time, even if the source has less, because its next flight would have to start over.
            left = max(end, hearing.until) - self._clock.monotonic()
            if left <= 0.0:
                msg = "another member of the fleet holds the lease, and has not come back with a token"
                raise TransientRefreshError(msg)
            pause = max(hearing.until - self._clock.monotonic(), 0.0) + 0.001
            if isinstance(begun.lease, Held):
                hearing.waits += 1
                pause = min(POLL, max(begun.lease.remaining, 0.0) + 0.001)
            told = await self._wait(state, flight, min(left, pause))

    async def mark(self, state: KeyState, flight: Flight, permit: Permit, sent_at: float, /) -> None:
        """
        Write into the record that a refresh token is about to be presented.

        Raises:
            TransientRefreshError: The mark could not be written, or a peer may already be presenting the token.
        """
        if permit.lease is None:
            return
        # An earlier request may have been the one that reached the server.
        missing = lost_answer(state, permit.record, self._rules.owner)
        record = dataclasses.replace(
            record_of(state, self._client.name_of(state, flight), self._judge.following(state, permit), self._rules),
            sent_at=sent_at if missing is None else min(missing, sent_at),
            sent_by=self._rules.owner,
        )
        marked = await self._client.mark(state, flight, record, permit.lease)
        if not marked:
            if marked is None:
                # The mark may have been written after all, so memory is offered to the store again.
                state.unsaved(self._clock.time(), self._rules, withhold=False)
            msg = "a refresh that may spend its refresh token could not be recorded beforehand"
            raise TransientRefreshError(msg)
        permit.record = record
        state.version = record.version

    def check(self, permit: Permit, /) -> None:
        """Raise `TransientRefreshError` unless the lease still holds."""
        self._leases.check(permit)

    def renew(self, state: KeyState, permit: Permit, /) -> None:
        """Renew the lease of *permit* as long as its flight lasts."""
        self._leases.renew(state, permit)

    async def finish(self, state: KeyState, flight: Flight, permit: Permit, token: Token | None, /) -> bool | Record:
        """Write the state of memory, or the *token* that was just fetched, and end the lease."""
        lease = permit.lease
        kept = await self._finish(state, flight, permit, token)
        self._return_later(state, flight, lease)
        return kept

    def _return_later(self, state: KeyState, flight: Flight, lease: Lease | Held | None) -> None:
        unused = self._quotas.unused(flight)
        if unused is not None and isinstance(lease, Lease):
            work = self._client.abandon(state, Flight("repair"), lease, unused)
            self._session.spawn(work, f"evertoken:unused:{state.key!r}")

    async def _finish(self, state: KeyState, flight: Flight, permit: Permit, token: Token | None) -> bool | Record:
        if permit.lease is None:
            return token is None and not state.unkept
        end, pause = self._clock.monotonic() + STORE_TIMEOUT, _PAUSE
        while True:
            wanted = self._judge.wanted(state, flight, permit, token)
            if self._judge.is_on_record(wanted, permit.record):
                await self._client.abandon(state, flight, permit.lease, self._quotas.unused(flight))
                permit.lease = None
                self._judge.saved(state, permit.record, token)
                return True
            timeout = self._judge.timeout(state) if token is not None else STORE_TIMEOUT
            written = await self._client.commit(state, flight, wanted, permit.lease, timeout)
            if written:
                permit.lease = None
                self._judge.saved(state, wanted, token)
                return True
            if written is False:
                newer = await self._regain(state, flight, permit, token)
                if newer is not None:
                    return newer
            if self._clock.monotonic() + pause >= end:
                # The lease ends by itself, or this member recognises it as its own.
                permit.lease = None
                return False
            await Gate().wait(self._clock, pause)
            pause *= 2.0

    def ended(self, state: KeyState, flight: Flight, permit: Permit, /) -> None:
        """Stop renewing the lease of *permit*. Give it back if the flight was cancelled before it could."""
        self._leases.forget(permit)
        if permit.lease is not None:
            self._session.spawn(self._finish_later(state, flight, permit), f"evertoken:finish:{state.key!r}")

    async def _finish_later(self, state: KeyState, flight: Flight, permit: Permit) -> None:
        if not flight.landed:
            await flight.wait(self._clock)
        lease = permit.lease
        newer = await self.finish(state, Flight("repair"), permit, None)
        self._return_later(state, flight, lease)
        if isinstance(newer, Record) and not newer.revoked and is_newer(state, newer):
            # No flight is left to adopt it, and the store may lose it before the next flight reads it.
            state.superseded(newer, self._rules)
            self._session.maintenance.published(state)

    async def _begin(self, state: KeyState, flight: Flight, ttl: float) -> Begun | None:
        quota, timeout = self._quotas.wanted(state, flight), self._judge.timeout(state)
        begun = await self._client.begin(state, flight, self._rules.owner, ttl, timeout, quota)
        if begun is not None and quota is not None:
            self._quotas.begun(flight, quota, begun)
        return begun

    async def _told(self, state: KeyState, flight: Flight) -> Record | None:
        """A peer has written. Return the record if it makes a fetch unnecessary. This needs no lease."""
        found = await self._client.read(state, flight)
        if found is None:
            return None
        newer = self._judge.newer(state, flight, Begun(_ANOTHERS, found[0]))
        if newer is not None:
            self._judge.behind.pop(state, None)
        return newer

    async def _heard(
        self, state: KeyState, flight: Flight, begun: Begun, hearing: Hearing, held: tuple[float, float]
    ) -> bool:
        """
        Tell whether all peers that may know better had their time. If not, give the lease back, because they need it.

        *held* has the start and the latest end of this member's lease, by the monotonic clock.
        """
        if not hearing.offered and self._judge.was_flushed(state, flight, begun.record):
            hearing.offered, hearing.mark = True, self._clock.time()
            anew, given_back = True, await self._offer(state, flight, begun, hearing)
        else:
            anew = hearing.begins(self._judge.unheard(state, flight, begun.record))
            if not anew and held[0] >= hearing.until:
                return True
            given_back = await self._give_back(state, flight, begun)
        hearing.wait(held[0], self._clock.monotonic() if given_back else held[1], anew=anew)
        return False

    async def _offer(self, state: KeyState, flight: Flight, begun: Begun, hearing: Hearing) -> bool:
        permit = Permit(begun.lease if isinstance(begun.lease, Lease) else None, begun.record)
        # The mark of a peer whose request is under way must not be lost with the store.
        permit.lost = hearing.last
        record = self._judge.wanted(state, flight, permit, None)
        if record.sent_at is None:
            # A peer that adopts this record must not present its refresh token before all peers had their time.
            record = dataclasses.replace(record, sent_at=hearing.mark, sent_by=OFFERED)
        if permit.lease is not None and await self._client.commit(state, flight, record, permit.lease, STORE_TIMEOUT):
            self._judge.saved(state, record, None)
            self._return_later(state, flight, permit.lease)
            return True
        return await self._give_back(state, flight, begun)

    async def _regain(self, state: KeyState, flight: Flight, permit: Permit, token: Token | None) -> Record | None:
        ttl = self._leases.ttl_of(state)
        until = self._leases.until(ttl)
        begun = await self._client.begin(state, flight, self._rules.owner, ttl, STORE_TIMEOUT)
        if begun is None:
            return None
        record = begun.record
        if record is not None and self._judge.came_since(state, flight, record, token):
            permit.lease = None
            self._give_back_later(state, flight, begun)
            return record
        if isinstance(begun.lease, Lease):
            permit.lease, permit.record, permit.until = begun.lease, record, until
        return None

    async def _give_back(self, state: KeyState, flight: Flight, begun: Begun) -> bool:
        """Give the lease back, with its part of the quota. Return whether the store accepted that."""
        return not isinstance(begun.lease, Lease) or await self._client.abandon(
            state, flight, begun.lease, self._quotas.unused(flight)
        )

    def _give_back_later(self, state: KeyState, flight: Flight, begun: Begun) -> None:
        # The session does this, because a flight that is cancelled here would lose the record that it has read.
        if isinstance(begun.lease, Lease):
            work = self._client.abandon(state, Flight("repair"), begun.lease, self._quotas.unused(flight))
            self._session.spawn(work, f"evertoken:abandon:{state.key!r}")

    async def _wait(self, state: KeyState, flight: Flight, seconds: float) -> bool:
        # A flight that waits for a peer does not hold a place of the provider's limit.
        provider = flight.leave_place()
        told = await self._notices.wait(self._client.name_of(state, flight), seconds)
        await self._session.limits.place(provider, flight)
        flight.place = provider
        return told
