"""
What a member of a fleet makes of a record: whether it is newer, what may be presented, what should be written.

The rules themselves are in `coordination_rules`; this file asks them for one session, and changes the key's state.
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

# Where no lease is needed, a store may take this part of the token's lifetime for a step, and this long at least.
_SLOW_SHARE: Final = 0.25
_SLOW_LEAST: Final = 0.25


@final
class RecordJudge:
    """The judgement of one session."""

    def __init__(self, client: StoreClient, session: Session) -> None:
        self._client = client
        self._clock = session.clock
        self._rules = session.rules
        self._observers = session.observers
        self._providers = session.providers
        # Keys of which the store has lost what it once had, and when that was seen. A peer may know better still.
        self.behind: dict[KeyState, float] = {}

    def seen(self, state: KeyState, record: Record | None) -> Record | None:
        """
        Return *record*, which was read without a lease, if it is newer than what memory has and of use.

        Where the store knows less than this process it was flushed, or restored: the key is unkept from now on.
        """
        if record is not None and is_newer(state, record):
            if record.revoked or self.adoptable(state, record) is not None:
                return record
            rotated = record.token is not None and not same_grant(state.token, record.token)
            if rotated or state.in_service(self._clock.time()) is None:
                # Its access token is of no use here, but its refresh token is the one to present.
                state.superseded(record, self._rules)
            return None
        if is_behind(state, record) and (state.token is not None or state.signed_out):
            if not state.unkept:
                self.behind[state] = self._clock.time()
            state.unsaved(self._clock.time(), self._rules, withhold=False)
        return None

    def newer(self, state: KeyState, flight: Flight, begun: Begun) -> Record | None:
        """Return the record that makes a fetch needless, if *begun* found one; take over what else is newer."""
        record = begun.record
        # A sign-out is not what a login of the same instant says, as where a clock is coarse.
        recorded = record is not None and record.since == state.since and not record.revoked and not state.signed_out
        if flight.decided and not recorded:
            # A person decided just now, so whatever is on record is older, also where a peer's clock is ahead. What is
            # written while the lease is waited for is judged like everything else.
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
        """Raise if a missing answer, or the habits of the source, keep the refresh token from being presented."""
        if flight.reason in LOOKS:
            return
        now = self._clock.time()
        sent_at = lost_answer(state, record, self._rules.owner)
        if sent_at is not None:
            # A person knows of the answer that this member has lost, and not of a peer's.
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
                msg = "another token was fetched only just now, and each one kills the one before"
                raise TransientRefreshError(msg, retry_after=floor - young)

    def unheard(self, state: KeyState, flight: Flight, record: Record | None) -> float | None:
        """Return the mark of a peer that may still have an answer."""
        return None if flight.reason in LOOKS else unheard(state, record, self._clock.time(), self._rules)

    def adoptable(self, state: KeyState, record: Record) -> Token | None:
        """Return the token of *record* if it should be taken into service here."""
        return adoptable(state, record, self._clock.time(), self._rules)

    def was_flushed(self, state: KeyState, flight: Flight, record: Record | None) -> bool:
        """Tell whether the store has lost what it once had."""
        # Then a peer may know a newer token, which has spent this one. What is unkept is the newest there is.
        if flight.reason in LOOKS or state.token is None or not may_spend(state, self._rules):
            return False
        return is_behind(state, record) and (state in self.behind or not state.unkept)

    def without_store(self, state: KeyState, flight: Flight) -> Permit:
        """Return the right to fetch without a lease, for a token that may be fetched freely."""
        if flight.reason not in LOOKS and (getattr(state.source, "exclusive", False) or may_spend(state, self._rules)):
            why = f" ({self._client.failure})" if self._client.failure else ""
            msg = f"the store is down{why}, and without its lease a refresh token that rotates is not presented"
            raise TransientRefreshError(msg)
        return Permit()

    def timeout(self, state: KeyState) -> float:
        """Return how many seconds a step of the store may take."""
        lifetime = None if state.token is None else state.token.lifetime
        if not lifetime or may_spend(state, self._rules) or getattr(state.source, "exclusive", False):
            return STORE_TIMEOUT
        # A store that is slow must not starve a token that may be fetched without its lease.
        return min(STORE_TIMEOUT, max(lifetime * _SLOW_SHARE, _SLOW_LEAST))

    def wanted(self, state: KeyState, flight: Flight, permit: Permit, token: Token | None) -> Record:
        """Return what should be on record: what memory has, or *token* that was just fetched."""
        name, version = self._client.name_of(state, flight), self.following(state, permit)
        request = flight.request
        if token is not None and request is not None:
            # A person may have decided otherwise since it was asked for: the record says of which grant it is.
            return Record(
                name, version, token, since=flight.since, origins=request.origins, generation=flight.generation
            )
        wanted, before = record_of(state, name, version, self._rules), permit.lost or permit.record
        if wanted.revoked:
            return wanted
        if wanted.token is None and before is not None and before.since == wanted.since:
            # It was forgotten here: whatever the store has of it stays there.
            wanted = dataclasses.replace(
                wanted, token=before.token, origins=before.origins, generation=before.generation
            )
        if state in self.behind and wanted.sent_at is None and may_spend(state, self._rules):
            wanted = dataclasses.replace(wanted, sent_at=self.behind[state], sent_by=OFFERED)
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

    def is_on_record(self, wanted: Record, record: Record | None) -> bool:
        """Tell whether *record* says what is *wanted*."""
        if record is None:
            # A key of which nothing is known needs no record.
            return wanted.token is None and not wanted.revoked and wanted.sent_at is None
        if wanted.sent_at != record.sent_at or wanted.token != record.token:
            return False
        return dataclasses.replace(wanted, version=record.version) == record

    def following(self, state: KeyState, permit: Permit) -> int:
        """Return the version of the next write."""
        # Above its own memory too: a store that was flushed must not seem to hold something older.
        return max(0 if permit.record is None else permit.record.version, state.version) + 1

    def saved(self, state: KeyState, record: Record | None, token: Token | None) -> None:
        """Remember that the store has what memory has, or *token*."""
        self.behind.pop(state, None)
        if record is None:
            return
        state.version = record.version
        if token is None and record.since == state.since:
            # The token itself comes into service when the flight lands.
            state.saved()

    def came_since(self, state: KeyState, flight: Flight, record: Record, token: Token | None) -> bool:
        """Tell whether a peer wrote *record* after *token* was asked for."""
        if token is None:
            return is_newer(state, record)
        if record.since != flight.since:
            return record.since > flight.since
        same = record.token is not None and record.token.access_token == token.access_token
        return record.generation >= flight.generation and not same
