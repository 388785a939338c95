"""
The refresh path's dealings with a fleet: who may fetch, what a peer left, what is on record before a request leaves.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.flight import Gate
from evertoken._model import events
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.failures import signed_out
from evertoken._model.protocols import Held, Lease, Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from evertoken._coordination.store_client import Steps
    from evertoken._engine.observers import Observers
    from evertoken._model.failure_state import Rules
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Clock
    from evertoken._model.token import Token

__all__ = ["Hold", "Sharing"]

#: Seconds between two looks at a lease that is somebody else's, unless the store says that something was written.
POLL: Final = 0.25

#: Seconds in which the peers of a flushed store say that they know a newer token than the one that was offered.
OFFER: Final = 2.0

#: The longest and the shortest lease, in seconds. It is renewed while held, and half a lifetime at the most.
LEASE: Final = 10.0
LEAST_LEASE: Final = 2.0

#: How often a lease is renewed before it would end.
RENEWALS: Final = 3


@final
@dataclass(slots=True)
class Hold:
    """
    What the store said before a fetch.

    Args:
        lease: The right to fetch; None where the store is down.

        record: What is kept, if anything.

        adopt: Whether the record's token is to be taken into service instead of a fetch.

        until: When the lease ends if it is not renewed, by the monotonic and by the wall clock.

        unanswered_at: When a request was sent whose outcome is not known, before this one, if there was one.
    """

    lease: Lease | None
    record: Record | None
    adopt: bool = False
    until: tuple[float, float] = (0.0, 0.0)
    unanswered_at: float | None = None


@final
class Sharing:
    """
    One manager's part in a fleet.
    """

    def __init__(self, steps: Steps, *, clock: Clock, rules: Rules, observers: Observers) -> None:
        self.steps = steps
        #: Told of each entry whose record was to be looked at, and could not be read.
        self.unread: Callable[[Entry], object] = lambda _: None
        self.clock = clock
        self._rules = rules
        self._observers = observers
        self._gates: dict[str, Gate] = {}
        # Marks of this process that stand in the store though nothing came of them, by their version too: a peer that
        # presents the same refresh token later repeats the instant.
        self._void_marks: dict[str, tuple[int, float]] = {}

    def written(self, key: str | None) -> None:
        """
        Look again, whoever waits for the lease of the store's *key*, or of any where it is None.
        """
        gates = self._gates.values() if key is None else filter(None, [self._gates.get(key)])
        for gate in list(gates):
            gate.wake()

    def ttl_of(self, entry: Entry) -> float:
        """
        Return for how many seconds to ask the lease of *entry*.
        """
        lifetime = None if entry.token is None else entry.token.lifetime
        return LEASE if lifetime is None else min(LEASE, max(LEAST_LEASE, lifetime / 2.0))

    async def hold(self, entry: Entry, *, patience: float, forced: bool = False) -> Hold:
        """
        Take the lease of *entry* and re-read its record; or find that a peer already fetched a better token.

        Args:
            entry: The key.

            patience: Seconds to wait for a peer that holds the lease.

            forced: Whether a person wants a new token although the key was signed out.

        Raises:
            TransientRefreshError: A peer held the lease all the time, and no better token appeared. Or a refresh was
                sent whose answer is not on record, and the token in service is not to be put at risk.
            GrantRejected: The key was signed out; or a refresh was sent whose answer is not on record, and the
                source may not present its refresh token again.
        """
        owner, end, offered = os.urandom(8).hex(), self.clock.monotonic() + patience, False
        sent_at: float | None = None
        while True:
            until = self._until(entry)
            lease = await self.steps.acquire(entry, owner, self.ttl_of(entry))
            if lease is None:
                return Hold(None, None)
            pause = POLL
            try:
                found = await self.steps.read(entry)
                if found is None:
                    # Down, which is not the same as empty: a fetch could present what a peer has spent.
                    await self.steps.release(entry, lease)
                    return Hold(None, None)
                hold = Hold(None, found[0], adopt=self.better(entry, found[0]))
                if hold.record is not None:
                    sent_at = self._unanswered(hold.record)
                if hold.adopt:
                    await self.steps.release(entry, lease)
                    return hold
                # Whoever has not heard of a sign-out yet hears of it first.
                if not forced or (entry.token is not None and not entry.unkept):
                    _judge_tombstone(hold.record)
                flushed = hold.record is None and entry.version > 0 and entry.single_use(self._rules)
                if isinstance(lease, Held):
                    pause = min(POLL, max(lease.remaining, 0.0) + 0.001)
                elif flushed and entry.token is not None and not offered:
                    # A peer may know a newer one, which has spent this one: it is given the time to say so.
                    offered, pause = True, OFFER
                    # What was under way when it was flushed still is.
                    own = Record(self.steps.key_of(entry), entry.version, entry.token, sent_at)
                    await self.steps.write(entry, own, lease)
                    await self.steps.release(entry, lease)
                else:
                    self._judge_mark(entry, sent_at)
                    hold.lease, hold.until = lease, until
                    return hold
            except BaseException:
                await self.steps.release(entry, lease)
                raise
            left = end - self.clock.monotonic()
            if left <= 0.0:
                msg = "another member of the fleet holds the lease, and has not come back with a token"
                raise TransientRefreshError(msg)
            await self.look_again(entry, min(left, pause))

    @asynccontextmanager
    async def renewing(self, entry: Entry, hold: Hold) -> AsyncIterator[None]:
        """
        Renew the lease for as long as it is needed.
        """
        if hold.lease is None:
            yield
            return
        task = asyncio.get_running_loop().create_task(
            self._renew(entry, hold, hold.lease), name=f"evertoken:renew:{entry.key!r}"
        )
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()

    def check(self, hold: Hold) -> None:
        """
        Raise unless the lease can still be this process's, however long it was stopped or asleep.

        Raises:
            TransientRefreshError: It has ended.
        """
        if hold.lease is not None and (self.clock.monotonic() > hold.until[0] or self.clock.time() > hold.until[1]):
            msg = "the lease was outlived before the request could be sent"
            raise TransientRefreshError(msg)

    async def mark(self, entry: Entry, hold: Hold, now: float) -> None:
        """
        Record that a refresh token is about to be presented, before it is, so that no death goes unnoticed.

        Raises:
            TransientRefreshError: It could not be recorded, or a peer may be presenting it already.
        """
        # One before this may have been the one that was taken.
        hold.unanswered_at = self._unanswered(hold.record)
        sent_at = now if hold.unanswered_at is None else min(hold.unanswered_at, now)
        # A key that was signed out stays so until there is a token.
        revoked = hold.record is not None and hold.record.revoked
        marked = await self.fenced(entry, hold, None if revoked else entry.token, sent_at=sent_at, revoked=revoked)
        if not marked:
            if marked is None and hold.unanswered_at is None:
                # It may have been written all the same.
                self._void_marks[self.steps.key_of(entry)] = _following(entry, hold), sent_at
            msg = "a refresh that may spend its refresh token could not be recorded beforehand"
            raise TransientRefreshError(msg)

    async def unmark(self, entry: Entry, hold: Hold) -> None:
        """
        Record that the presented refresh token is still good: the server said so, or was never reached.
        """
        # Whether one before this was taken, that does not say.
        if hold.record is not None and hold.record.sent_at is not None and hold.unanswered_at is None:
            void = hold.record.version, hold.record.sent_at
            if not await self.fenced(entry, hold, hold.record.token, revoked=hold.record.revoked):
                self._void_marks[self.steps.key_of(entry)] = void

    def better(self, entry: Entry, record: Record | None) -> bool:
        """
        Tell whether the token of *record* is to be taken into service here.
        """
        token, now, own = None if record is None else record.token, self.clock.time(), entry.token
        if record is None or token is None or not token.valid_at(now) or not _later(entry, record.version, token):
            return False
        if own is not None and (own.access_token == token.access_token or _unkept_and_newer(entry, token)):
            return False
        # One that is due is better than none: it serves while the next is fetched.
        due_at = self._rules.refresh.due_at(token, token.issued_at, 0.0)
        return now < due_at or entry.in_service(now) is None

    async def fenced(
        self, entry: Entry, hold: Hold, token: Token | None, *, sent_at: float | None = None, revoked: bool = False
    ) -> bool | None:
        """
        Write *token* under the lease of *hold*; None where the store failed, False where it refused.
        """
        if hold.lease is None:
            return None
        record = Record(self.steps.key_of(entry), _following(entry, hold), token, sent_at, revoked)
        written = await self.steps.write(entry, record, hold.lease)
        if written:
            hold.record = record
            self._void_marks.pop(record.key, None)
        return written

    async def look_again(self, entry: Entry, seconds: float) -> None:
        """
        Wait until something is written for *entry*, for at most that long.
        """
        key = self.steps.key_of(entry)
        gate = self._gates.setdefault(key, Gate())
        try:
            await gate.wait(self.clock, seconds)
        finally:
            if not gate and self._gates.get(key) is gate:
                del self._gates[key]

    async def pause(self, seconds: float) -> None:
        """
        Wait that long.
        """
        await Gate().wait(self.clock, seconds)

    # How

    async def _renew(self, entry: Entry, hold: Hold, lease: Lease) -> None:
        ttl = self.ttl_of(entry)
        while True:
            await self.pause(ttl / RENEWALS)
            until = self._until(entry)
            renewed = await self.steps.renew(entry, lease, ttl)
            if renewed is False:
                # Nothing to be done about it: the write is fenced.
                return
            if renewed:
                hold.until = until

    def _until(self, entry: Entry) -> tuple[float, float]:
        # Counted from before the store is asked, so that it ends here no later than there.
        ttl = self.ttl_of(entry)
        return self.clock.monotonic() + ttl, self.clock.time() + ttl

    def _unanswered(self, record: Record | None) -> float | None:
        if record is None or (record.version, record.sent_at) == self._void_marks.get(record.key):
            return None
        return record.sent_at

    def _judge_mark(self, entry: Entry, sent_at: float | None) -> None:
        if sent_at is None:
            return
        now = self.clock.time()
        habit = entry.on_ambiguous(self._rules, max(now - sent_at, 0.0))
        self._observers.emit(events.FetchAmbiguous(at=now, key=entry.key, sent_at=sent_at, treated=habit))
        if habit == "reject":
            error = "ambiguous"
            raise GrantRejected(error, "a refresh was sent and its answer never recorded; log in again")
        if habit == "hold" and entry.in_service(now) is not None:
            msg = "a refresh was sent and its answer never recorded; its refresh token may be spent"
            raise TransientRefreshError(msg, ambiguous=True)


def _following(entry: Entry, hold: Hold) -> int:
    # Above its own memory too: a store that was flushed must not seem to hold something older.
    return max(0 if hold.record is None else hold.record.version, entry.version) + 1


def _later(entry: Entry, version: int, token: Token) -> bool:
    own = entry.token
    if version >= entry.version:
        return version > entry.version
    # The store was flushed, and the key begun anew in it, as by a person who logged in.
    return own is None or token.issued_at > own.issued_at


def _unkept_and_newer(entry: Entry, token: Token) -> bool:
    own = entry.token
    return own is not None and entry.unkept and token.issued_at <= own.issued_at


def _judge_tombstone(record: Record | None) -> None:
    if record is not None and record.revoked:
        raise signed_out()
