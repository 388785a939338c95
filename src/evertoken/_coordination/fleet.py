"""
The coordinator of a fleet that shares one store: begin, mark, finish, by leases and fenced writes.

What a member does is decided by the rules in `coordination_rules`; this file only carries records to and fro.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final, final

from evertoken._coordination.lease import Leases
from evertoken._coordination.store_client import STORE_TIMEOUT, StoreClient
from evertoken._coordination.watch import Watch
from evertoken._engine.flight import LOOKS, Flight
from evertoken._engine.tasks import Gate
from evertoken._model import events
from evertoken._model.coordination_rules import (
    OFFERED,
    adoptable,
    is_before,
    is_behind,
    is_newer,
    judge_lost_answer,
    judge_sign_out,
    lost_answer,
    may_spend,
    offered_at,
    peers_mark,
    record_of,
    unheard,
)
from evertoken._model.coordinator import Permit
from evertoken._model.errors import TransientRefreshError
from evertoken._model.key_state import TICK
from evertoken._model.protocols import Held, Lease, Record

if TYPE_CHECKING:
    from evertoken._engine.session import Session
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Begun, TokenStore
    from evertoken._model.token import Token

__all__ = ["FleetCoordinator"]

#: Seconds between two looks at a lease that is somebody else's, unless the store says that something was written.
POLL: Final = 0.25

#: Seconds in which peers bring what they alone know to a store that was flushed, or that was down when an answer came.
#: Longer than a watch pauses, and than a connection to a server that was gone takes.
OFFER: Final = 4.0

# The first pause before a write is tried again; doubled each time.
_PAUSE: Final = 0.1

# Where no lease is needed, a store may take this part of the token's lifetime for a step, and this long at least.
_SLOW_SHARE: Final = 0.25
_SLOW_LEAST: Final = 0.25


@final
class _Hearing:
    """Peers that may know better, and until when they are given time to say so."""

    __slots__ = ("last", "mark", "offered", "until")

    def __init__(self) -> None:
        #: Whether a flushed store was offered what memory has.
        self.offered: bool = False
        #: The mark of a peer that was given time.
        self.mark: float | None = None
        self.until: float = -math.inf
        #: What was on record when the lease was waited for.
        self.last: Record | None = None


@final
class FleetCoordinator:
    """
    A `Coordinator` through a store.

    Args:
        patience: Seconds to wait for a peer that holds the lease.
    """

    def __init__(self, store: TokenStore, namespace: str, session: Session, *, patience: float) -> None:
        self._session = session
        self._clock = session.clock
        self._rules = session.rules
        self._client = StoreClient(
            store, namespace, clock=session.clock, observers=session.observers, strays=session.strays
        )
        self._leases = Leases(self._client, clock=session.clock)
        self._watch = Watch(self._client, namespace, session, written=self._written)
        self._patience = patience
        self._gates: dict[str, Gate] = {}
        # Keys of which the store has lost what it once had, and when that was seen. A peer may know better still.
        self._behind: dict[KeyState, float] = {}

    async def open(self) -> None:
        """Enter the store, and watch it if it can be watched."""
        await self._watch.open()

    async def close(self) -> None:
        """End the watch, and leave the store."""
        await self._watch.close()

    async def look(self, state: KeyState, flight: Flight, /) -> Record | None:
        """
        Return what is on record, if it is newer than what memory has and of use.

        Where the store knows less than this process it was flushed, or restored: the key is unkept from now on.
        """
        found = await self._client.read(state, flight)
        if found is None:
            self._watch.unread(state)
            return None
        record = found[0]
        if record is not None and is_newer(state, record):
            if record.revoked or self._adoptable(state, record) is not None:
                return record
            # Its access token is of no use here, but its refresh token is the one to present.
            state.overtaken(record, self._clock.time(), self._rules)
            return None
        if is_behind(state, record) and (state.token is not None or state.signed_out):
            if not state.unkept:
                self._behind[state] = self._clock.time()
            state.unsaved(self._clock.time(), self._rules, withhold=False)
        return None

    async def begin(self, state: KeyState, flight: Flight, /) -> Permit | Record:
        """
        Take the lease and read the record; or return the newer record that makes a fetch needless.

        Raises:
            TransientRefreshError: A peer held the lease all the time; or the store is down and a refresh token might
                be spent; or an answer is missing, and the token in service is not put at risk.
            GrantRejected: The key was signed out, or its refresh token may not be presented again.
        """
        end, slow = self._clock.monotonic() + self._patience, False
        hearing = _Hearing()
        while True:
            ttl = self._leases.ttl_of(state)
            until = self._leases.until(ttl)
            begun = await self._client.begin(state, flight, self._rules.owner, ttl, self._timeout(state))
            if begun is None:
                return self._without_store(state, flight)
            held = isinstance(begun.lease, Held)
            outlived = not held and self._leases.outlived(until)
            try:
                newer = self._judge(state, flight, begun)
                if newer is None and outlived:
                    # This process stood still; or the store is too slow for this token, as the second time will tell.
                    if slow:
                        return self._without_store(state, flight)
                    slow = True
                    continue
                if (
                    newer is None
                    and isinstance(begun.lease, Lease)
                    and await self._heard(state, flight, begun, hearing)
                ):
                    self._judge_mark(state, flight, begun.record)
                    return Permit(begun.lease, begun.record, until)
            except BaseException:
                await self._give_back(state, flight, begun)
                raise
            if newer is not None:
                self._behind.pop(state, None)
                await self._give_back(state, flight, begun)
                return newer
            hearing.last = begun.record or hearing.last
            # Peers are heard to the end, also by a source with less time: its next flight would begin with it anew.
            left = max(end, hearing.until) - self._clock.monotonic()
            if left <= 0.0:
                msg = "another member of the fleet holds the lease, and has not come back with a token"
                raise TransientRefreshError(msg)
            pause = max(hearing.until - self._clock.monotonic(), 0.0) + 0.001
            if isinstance(begun.lease, Held):
                pause = min(POLL, max(begun.lease.remaining, 0.0) + 0.001)
            await self._wait(state, flight, min(left, pause))

    async def mark(self, state: KeyState, flight: Flight, permit: Permit, sent_at: float, /) -> None:
        """
        Put on record that a refresh token is about to be presented.

        Raises:
            TransientRefreshError: It could not be recorded, or a peer may be presenting it already.
        """
        if permit.lease is None:
            return
        # A request before this one may have been the one that was taken.
        missing = lost_answer(state, permit.record, self._rules.owner)
        record = dataclasses.replace(
            record_of(state, self._client.name_of(state, flight), self._following(state, permit), self._rules),
            sent_at=sent_at if missing is None else min(missing, sent_at),
            sent_by=self._rules.owner,
        )
        marked = await self._client.mark(state, flight, record, permit.lease)
        if not marked:
            if marked is None:
                # It may have been written all the same: memory is brought to the store again.
                state.unsaved(self._clock.time(), self._rules, withhold=False)
            msg = "a refresh that may spend its refresh token could not be recorded beforehand"
            raise TransientRefreshError(msg)
        permit.record = record
        self._known(state, record)

    def check(self, permit: Permit, /) -> None:
        """Raise `TransientRefreshError` unless the lease still holds."""
        self._leases.check(permit)

    def renew(self, state: KeyState, permit: Permit, /) -> None:
        """Renew the lease of *permit* for as long as its flight takes."""
        self._leases.renew(state, permit)

    async def finish(self, state: KeyState, flight: Flight, permit: Permit, token: Token | None, /) -> bool | Record:
        """Put on record what memory has, or *token* that was just fetched, and end the lease."""
        if permit.lease is None:
            return token is None and not state.unkept
        end, pause = self._clock.monotonic() + STORE_TIMEOUT, _PAUSE
        while True:
            wanted = self._wanted(state, flight, permit, token)
            if self._is_on_record(wanted, permit.record):
                await self._client.abandon(state, flight, permit.lease)
                permit.lease = None
                self._saved(state, permit.record, token)
                return True
            timeout = self._timeout(state) if token is not None else STORE_TIMEOUT
            written = await self._client.commit(state, flight, wanted, permit.lease, timeout)
            if written:
                permit.lease = None
                self._saved(state, wanted, token)
                return True
            if written is False:
                newer = await self._regain(state, flight, permit, token)
                if newer is not None:
                    return newer
            if self._clock.monotonic() + pause >= end:
                # The lease ends by itself, or is recognised as this member's own.
                permit.lease = None
                return False
            await Gate().wait(self._clock, pause)
            pause *= 2.0

    def ended(self, state: KeyState, flight: Flight, permit: Permit, /) -> None:
        """Stop renewing the lease of *permit*, and give it back if the flight was cancelled before it could."""
        self._leases.forget(permit)
        if permit.lease is not None:
            self._session.spawn(self._finish_later(state, flight, permit), f"evertoken:finish:{state.key!r}")

    async def _finish_later(self, state: KeyState, flight: Flight, permit: Permit) -> None:
        if not flight.landed:
            await flight.wait(self._clock)
        await self.finish(state, Flight("repair"), permit, None)

    # Judging

    def _judge(self, state: KeyState, flight: Flight, begun: Begun) -> Record | None:
        record = begun.record
        recorded = record is not None and record.since == state.since and not record.revoked
        if flight.decided and not recorded:
            # A person decided just now, so whatever is on record is older, also where a peer's clock is ahead.
            if record is not None:
                flight.found = record.token
                state.since = max(state.since, record.since + TICK)
                state.version = max(state.version, record.version)
            return None
        if flight.reason not in LOOKS:
            judge_sign_out(state, None, forced=flight.reason == "forced")
        if record is None or not is_newer(state, record):
            state.caught_up(self._rules)
            return None
        if record.revoked or self._adoptable(state, record) is not None:
            return record
        state.superseded(record, self._rules)
        return None

    def _judge_mark(self, state: KeyState, flight: Flight, record: Record | None) -> None:
        if flight.reason in LOOKS:
            return
        now = self._clock.time()
        sent_at = lost_answer(state, record, self._rules.owner)
        if sent_at is not None:
            # A person knows of the answer that this member has lost, and not of a peer's.
            forced = flight.reason == "forced" and peers_mark(state, record, self._rules.owner) is None
            habit, error = judge_lost_answer(state, sent_at, now, self._rules, forced=forced)
            self._session.observers.emit(events.FetchAmbiguous(at=now, key=state.key, sent_at=sent_at, treated=habit))
            if error is not None:
                raise error
        token = None if record is None else record.token
        if token is not None and getattr(state.source, "exclusive", False):
            young, floor = now - token.issued_at, self._rules.refresh.floor(token.lifetime)
            if 0.0 <= young < floor:
                msg = "another token was fetched only just now, and each one kills the one before"
                raise TransientRefreshError(msg, retry_after=floor - young)

    def _unheard(self, state: KeyState, flight: Flight, record: Record | None) -> float | None:
        return None if flight.reason in LOOKS else unheard(state, record, self._clock.time(), self._rules)

    def _adoptable(self, state: KeyState, record: Record) -> Token | None:
        return adoptable(state, record, self._clock.time(), self._rules)

    def _was_flushed(self, state: KeyState, flight: Flight, record: Record | None) -> bool:
        # Then a peer may know a newer token, which has spent this one. What is unkept is the newest there is.
        if flight.reason in LOOKS or state.token is None or not may_spend(state, self._rules):
            return False
        return is_behind(state, record) and (state in self._behind or not state.unkept)

    def _without_store(self, state: KeyState, flight: Flight) -> Permit:
        if flight.reason not in LOOKS and (getattr(state.source, "exclusive", False) or may_spend(state, self._rules)):
            msg = "the store is down, and without its lease a refresh token that rotates is not presented"
            raise TransientRefreshError(msg)
        return Permit()

    def _timeout(self, state: KeyState) -> float:
        lifetime = None if state.token is None else state.token.lifetime
        if not lifetime or may_spend(state, self._rules) or getattr(state.source, "exclusive", False):
            return STORE_TIMEOUT
        # A store that is slow must not starve a token that may be fetched without its lease.
        return min(STORE_TIMEOUT, max(lifetime * _SLOW_SHARE, _SLOW_LEAST))

    # Records

    def _wanted(self, state: KeyState, flight: Flight, permit: Permit, token: Token | None) -> Record:
        version, before = self._following(state, permit), permit.lost or permit.record
        wanted = record_of(state, self._client.name_of(state, flight), version, self._rules, token=token)
        if token is not None or wanted.revoked:
            return wanted
        if state in self._behind and wanted.sent_at is None and may_spend(state, self._rules):
            wanted = dataclasses.replace(wanted, sent_at=self._behind[state], sent_by=OFFERED)
        if before is None:
            return wanted
        mark = peers_mark(state, before, self._rules.owner)
        if mark is None and wanted.sent_at is None:
            # Peers are still to be heard.
            mark = offered_at(state, before)
        if mark is None:
            return wanted
        # A peer's answer is missing still.
        sent_at = mark if wanted.sent_at is None else min(mark, wanted.sent_at)
        return dataclasses.replace(wanted, sent_at=sent_at, sent_by=before.sent_by)

    def _is_on_record(self, wanted: Record, record: Record | None) -> bool:
        if record is None:
            # A key of which nothing is known needs no record.
            return wanted.token is None and not wanted.revoked and wanted.sent_at is None
        if wanted.sent_at != record.sent_at or wanted.token != record.token:
            return False
        return dataclasses.replace(wanted, version=record.version) == record

    def _following(self, state: KeyState, permit: Permit) -> int:
        # Above its own memory too: a store that was flushed must not seem to hold something older.
        return max(0 if permit.record is None else permit.record.version, state.version) + 1

    def _known(self, state: KeyState, record: Record) -> None:
        state.version, state.since = record.version, record.since

    def _saved(self, state: KeyState, record: Record | None, token: Token | None) -> None:
        self._behind.pop(state, None)
        if record is not None and token is None:
            state.saved(record.version, record.since)
        elif record is not None:
            # The token itself comes into service when the flight lands.
            self._known(state, record)

    # Steps

    async def _heard(self, state: KeyState, flight: Flight, begun: Begun, hearing: _Hearing) -> bool:
        """Tell whether all who may know better were heard. If not, the lease is given back, because they need it."""
        now, mark = self._clock.monotonic(), self._unheard(state, flight, begun.record)
        if not hearing.offered and self._was_flushed(state, flight, begun.record):
            hearing.offered, hearing.mark, hearing.until = True, self._clock.time(), now + OFFER
            await self._offer(state, flight, begun, hearing)
            return False
        if mark is not None and mark != hearing.mark:
            hearing.mark, hearing.until = mark, now + OFFER
        elif now >= hearing.until:
            return True
        await self._give_back(state, flight, begun)
        return False

    async def _offer(self, state: KeyState, flight: Flight, begun: Begun, hearing: _Hearing) -> None:
        permit = Permit(begun.lease if isinstance(begun.lease, Lease) else None, begun.record)
        # The mark of a peer whose request is under way is not lost with the store.
        permit.lost = hearing.last
        record = self._wanted(state, flight, permit, None)
        if record.sent_at is None:
            # Nobody who adopts this presents its refresh token before peers were heard.
            record = dataclasses.replace(record, sent_at=hearing.mark, sent_by=OFFERED)
        if permit.lease is not None and await self._client.commit(state, flight, record, permit.lease, STORE_TIMEOUT):
            self._saved(state, record, None)
        else:
            await self._give_back(state, flight, begun)

    async def _regain(self, state: KeyState, flight: Flight, permit: Permit, token: Token | None) -> Record | None:
        ttl = self._leases.ttl_of(state)
        until = self._leases.until(ttl)
        begun = await self._client.begin(state, flight, self._rules.owner, ttl, STORE_TIMEOUT)
        if begun is None:
            return None
        record = begun.record
        if record is not None and self._came_since(state, record, token):
            permit.lease = None
            await self._give_back(state, flight, begun)
            return record
        if isinstance(begun.lease, Lease):
            permit.lease, permit.record, permit.until = begun.lease, record, until
        return None

    def _came_since(self, state: KeyState, record: Record, token: Token | None) -> bool:
        if record.revoked:
            return is_newer(state, record)
        if token is None or record.since != state.since:
            return is_newer(state, record)
        # An older token is what a peer offered to a store that was flushed, whatever the peer's clock says of it.
        other = record.token
        if other is None or other.access_token == token.access_token or is_before(other, state.token, token):
            return False
        return other.issued_at > token.issued_at

    async def _give_back(self, state: KeyState, flight: Flight, begun: Begun) -> None:
        if isinstance(begun.lease, Lease):
            await self._client.abandon(state, flight, begun.lease)

    async def _wait(self, state: KeyState, flight: Flight, seconds: float) -> None:
        # A flight that waits for a peer holds no place of the provider's limit.
        name, limits = self._client.name_of(state, flight), self._session.limits
        gate = self._gates.setdefault(name, Gate())
        provider, flight.place = flight.place, None
        limits.leave(provider)
        try:
            await gate.wait(self._clock, seconds)
        finally:
            if not gate and self._gates.get(name) is gate:
                del self._gates[name]
        await limits.place(provider, flight, inside=flight.is_inside)
        flight.place = provider

    def _written(self, name: str | None) -> None:
        gates = self._gates.values() if name is None else filter(None, [self._gates.get(name)])
        for gate in list(gates):
            gate.wake()
