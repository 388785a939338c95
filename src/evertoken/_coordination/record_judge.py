"""
How a member of a fleet judges a record: whether it is newer, what may be presented, and what to write.

The rules are in `coordination_rules`. This file applies them for one session, and changes the state of the key.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, final

from evertoken._coordination.store_client import STORE_TIMEOUT
from evertoken._engine.flight import LOOKS
from evertoken._model import events
from evertoken._model.coordination_rules import (
    OFFERED,
    adoptable,
    is_behind,
    is_new_login,
    is_newer,
    judge_lost_answer,
    judge_sign_out,
    lost_answer,
    may_spend,
    offered_at,
    peers_mark,
    record_of,
    same_grant,
    unheard,
)
from evertoken._model.coordinator import Permit
from evertoken._model.errors import TransientRefreshError
from evertoken._model.fetch_request import MAX_ORIGINS
from evertoken._model.key_state import TICK
from evertoken._model.protocols import Record

if TYPE_CHECKING:
    from evertoken._coordination.store_client import StoreClient
    from evertoken._engine.flight import Flight
    from evertoken._engine.session import Session
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Begun
    from evertoken._model.token import Token

__all__ = ["RecordJudge"]

# If no lease is needed, a step of the store may take this part of the token's lifetime, but at least this time.
_SLOW_SHARE: Final = 0.25
_SLOW_LEAST: Final = 0.25


@final
class RecordJudge:
    """The judge of records in one session."""

    def __init__(self, client: StoreClient, session: Session) -> None:
        self._client = client
        self._clock = session.clock
        self._rules = session.rules
        self._observers = session.observers
        self._providers = session.providers
        # Keys whose records the store has lost, and when that was noticed. A peer may still know a newer token.
        self.behind: dict[KeyState, float] = {}

    def seen(self, state: KeyState, record: Record | None) -> Record | None:
        """
        Return *record*, which was read without a lease, if it is newer than memory and useful.

        If the store knows less than this process, it was flushed or restored. Then the key counts as unkept.
        """
        if record is not None and is_newer(state, record):
            if record.revoked or self.adoptable(state, record) is not None:
                return record
            rotated = record.token is not None and not same_grant(state.token, record.token)
            if rotated or state.in_service(self._clock.time()) is None:
                # Its access token cannot be used here, but its refresh token is the next one to present.
                state.superseded(record, self._rules)
            return None
        if is_behind(state, record) and (state.token is not None or state.signed_out):
            if not state.unkept:
                self.behind[state] = self._clock.time()
            state.unsaved(self._clock.time(), self._rules, withhold=False)
        return None

    def newer(self, state: KeyState, flight: Flight, begun: Begun) -> Record | None:
        """Return the record that makes a fetch unnecessary, if *begun* found one. Take over other newer facts."""
        record = begun.record
        # If a clock is coarse, a sign-out may have the same instant as a login, so it does not count as equal.
        recorded = record is not None and record.since == state.since and not record.revoked and not state.signed_out
        if flight.decided and not recorded:
            # A person decided just now, so the present record is older, even if a peer's clock is ahead. Records that
            # are written while this member waits for the lease are judged as usual.
            flight.decided = False
            if record is not None:
                flight.found = record.token
                state.since = max(state.since, record.since + TICK)
                state.version = max(state.version, record.version)
                state.generation = max(state.generation, record.generation)
            return None
        if flight.reason not in LOOKS:
            judge_sign_out(state, None, forced=flight.reason == "forced")
        if record is not None and is_new_login(state, record):
            state.since = max(self._clock.time(), record.since + TICK)
            state.version, state.generation = record.version, record.generation + 1
            state.origins = (*record.origins, *state.origins)[-MAX_ORIGINS:]
            return None
        if record is None or not is_newer(state, record):
            return None
        if record.revoked or self.adoptable(state, record) is not None:
            return record
        state.superseded(record, self._rules)
        return None

    def mark(self, state: KeyState, flight: Flight, record: Record | None) -> None:
        """Raise an error if a missing answer, or a habit of the source, forbids presenting the refresh token."""
        if flight.reason in LOOKS:
            return
        now = self._clock.time()
        sent_at = lost_answer(state, record, self._rules.owner)
        if sent_at is not None:
            # A person who forces a refresh knows of this member's lost answer, but not of a peer's.
            forced = flight.reason == "forced" and peers_mark(state, record, self._rules.owner) is None
            habit, error = judge_lost_answer(state, sent_at, now, self._rules, forced=forced)
            outage = self._providers.was_down(flight.provider, sent_at)
            self._observers.emit(
                events.FetchAmbiguous(at=now, key=state.key, sent_at=sent_at, treated=habit, outage=outage)
            )
            if error is not None:
                raise error
        token = None if record is None else record.token
        if token is not None and getattr(state.source, "exclusive", False):
            young, floor = now - token.issued_at, self._rules.refresh.floor(token.lifetime)
            if 0.0 <= young < floor:
                msg = "another token was fetched only a moment ago, and each new one invalidates the previous one"
                raise TransientRefreshError(msg, retry_after=floor - young)

    def unheard(self, state: KeyState, flight: Flight, record: Record | None) -> float | None:
        """Return the mark of a peer that may still have an answer."""
        return None if flight.reason in LOOKS else unheard(state, record, self._clock.time(), self._rules)

    def adoptable(self, state: KeyState, record: Record) -> Token | None:
        """Return the token of *record* if this member should serve it."""
        return adoptable(state, record, self._clock.time(), self._rules)

    def was_flushed(self, state: KeyState, flight: Flight, record: Record | None) -> bool:
        """Tell whether the store has lost a record that it once had."""
        # In that case a peer may know a newer token, for which this one was spent. An unkept token is the newest one.
        if flight.reason in LOOKS or state.token is None or not may_spend(state, self._rules):
            return False
        return is_behind(state, record) and (state in self.behind or not state.unkept)

    def without_store(self, state: KeyState, flight: Flight) -> Permit:
        """Return the right to fetch without a lease, if the token may be fetched freely."""
        if flight.reason not in LOOKS and (getattr(state.source, "exclusive", False) or may_spend(state, self._rules)):
            why = f" ({self._client.failure})" if self._client.failure else ""
            msg = f"the store is down{why}, and a rotating refresh token is not presented without a lease"
            raise TransientRefreshError(msg)
        return Permit()

    def timeout(self, state: KeyState) -> float:
        """Return the seconds that a step of the store may take."""
        lifetime = None if state.token is None else state.token.lifetime
        if not lifetime or may_spend(state, self._rules) or getattr(state.source, "exclusive", False):
            return STORE_TIMEOUT
        # If a token may be fetched without a lease, a slow store must not delay it for too long.
        return min(STORE_TIMEOUT, max(lifetime * _SLOW_SHARE, _SLOW_LEAST))

    def wanted(self, state: KeyState, flight: Flight, permit: Permit, token: Token | None) -> Record:
        """Return the record that should be in the store: the state of memory, or the *token* that was just fetched."""
        name, version = self._client.name_of(state, flight), self.following(state, permit)
        request = flight.request
        if token is not None and request is not None:
            # A person may have decided otherwise since the request, so the record names the grant of this token.
            return Record(
                name, version, token, since=flight.since, origins=request.origins, generation=flight.generation
            )
        wanted, before = record_of(state, name, version, self._rules), permit.lost or permit.record
        if wanted.revoked:
            return wanted
        if wanted.token is None and before is not None and before.since == wanted.since:
            # The key was forgotten in memory. The token in the store stays there.
            wanted = dataclasses.replace(
                wanted, token=before.token, origins=before.origins, generation=before.generation
            )
        if state in self.behind and wanted.sent_at is None and may_spend(state, self._rules):
            wanted = dataclasses.replace(wanted, sent_at=self.behind[state], sent_by=OFFERED)
        if before is None:
            return wanted
        mark = peers_mark(state, before, self._rules.owner)
        if mark is None and wanted.sent_at is None:
            # Peers must still get their time.
            mark = offered_at(state, before)
        if mark is None:
            return wanted
        # The answer of a peer is still missing.
        sent_at = mark if wanted.sent_at is None else min(mark, wanted.sent_at)
        return dataclasses.replace(wanted, sent_at=sent_at, sent_by=before.sent_by)

    def is_on_record(self, wanted: Record, record: Record | None) -> bool:
        """Tell whether *record* has the content of *wanted*."""
        if record is None:
            # An unknown key needs no record.
            return wanted.token is None and not wanted.revoked and wanted.sent_at is None
        if wanted.sent_at != record.sent_at or wanted.token != record.token:
            return False
        return dataclasses.replace(wanted, version=record.version) == record

    def following(self, state: KeyState, permit: Permit) -> int:
        """Return the version of the next write."""
        # It is also above the version in memory, because a flushed store must not seem to hold an older record.
        return max(0 if permit.record is None else permit.record.version, state.version) + 1

    def saved(self, state: KeyState, record: Record | None, token: Token | None) -> None:
        """Note that the store has the state of memory, or *token*."""
        self.behind.pop(state, None)
        if record is None:
            return
        state.version = record.version
        if token is None and record.since == state.since:
            # The token itself comes into service when the flight lands.
            state.saved()

    def came_since(self, state: KeyState, flight: Flight, record: Record, token: Token | None) -> bool:
        """Tell whether a peer wrote *record* after the request for *token*."""
        if token is None:
            return is_newer(state, record)
        if record.since != flight.since:
            return record.since > flight.since
        same = record.token is not None and record.token.access_token == token.access_token
        return record.generation >= flight.generation and not same
