"""
The end of a flight. It changes the key, schedules it, and wakes the waiting callers.

Every flight ends here, once: by an answer, a failure, a peer's record, a cancellation or a crash. Afterwards each open
key has a deadline, and nobody is left waiting. A response that arrived is kept, even from a void flight.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast, final

from evertoken._engine.observers import SHUTDOWN, say
from evertoken._engine.supervisor import BEAT, STEP
from evertoken._model import events
from evertoken._model.coordination_rules import adoptable, may_spend
from evertoken._model.errors import GrantRejected, ManagerClosed, TransientRefreshError
from evertoken._model.failures import held_back, signed_out
from evertoken._model.key_status import dying_at
from evertoken._model.protocols import Record
from evertoken._model.token_response import Response

if TYPE_CHECKING:
    from evertoken._engine.flight import Flight
    from evertoken._engine.refresh import Failure, Outcome
    from evertoken._engine.session import Session
    from evertoken._model.events import Reason
    from evertoken._model.key_state import KeyState

__all__ = ["Settlement"]


@final
class Settlement:
    """Ends the flights of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.clock
        self._rules = session.rules
        self._observers = session.observers
        self._counters = session.counters

    def settle(self, state: KeyState, flight: Flight, outcome: Outcome) -> None:
        """End *flight*. If it has landed already, or was replaced, only its response is used."""
        if flight.response is not None:
            self._reanchor(flight, flight.response)
        if flight.landed or state.flight is not flight:
            self._absorb(state, flight)
            flight.land(None)
            return
        emitted: list[events.Event] = []
        now = self._now(flight)
        try:
            self._apply(state, flight, outcome, now, emitted)
        except SHUTDOWN:
            raise
        except BaseException as problem:  # noqa: BLE001 - it is logged, and tried again after a beat
            say(logging.ERROR, "the end of a fetch raised %s", type(problem).__qualname__)
            self._unjudged(state, flight, outcome, now)
        state.flight = None
        if len(flight):
            # The callers that waited have yet to run, and must still find the key.
            state.peeked(now)
        try:
            self._session.maintenance.published(state)
        finally:
            flight.land(flight.token, flight.error)
            for event in emitted:
                self._observers.emit(event)

    # How

    def _now(self, flight: Flight) -> float:
        try:
            self._session.compare_clocks()
            return self._clock.time()
        except SHUTDOWN:
            raise
        except BaseException as problem:  # noqa: BLE001 - a clock that raises must not keep a flight from its end
            say(logging.ERROR, "the clock raised %s at the end of a fetch", type(problem).__qualname__)
            return flight.started_at

    def _unjudged(self, state: KeyState, flight: Flight, outcome: Outcome, now: float) -> None:
        # This is used if a policy raises. The response must not be lost then.
        if flight.response is not None and state.token is not flight.response.token:
            state.obtained(flight.response.token)
            _belongs(state, flight)
        if flight.token is None:
            error = outcome if isinstance(outcome, TransientRefreshError | GrantRejected) else None
            flight.error = error or TransientRefreshError("the end of the fetch could not be judged")
            state.unjudged(flight.error, now, now + BEAT)

    def _apply(
        self, state: KeyState, flight: Flight, outcome: Outcome, now: float, emitted: list[events.Event]
    ) -> None:
        if isinstance(outcome, Record):
            self._found(state, flight, outcome, now, emitted)
        elif flight.response is not None:
            self._received(state, flight, now, emitted)
        elif isinstance(outcome, ManagerClosed):
            if flight.sent and flight.spends:
                state.unanswered(flight.started_at or now)
            flight.error = outcome
        elif outcome is not None:
            self._failed(state, flight, outcome, now, emitted)
        else:
            if state.signed_out:
                state.still_signed_out(now, self._rules)
            flight.token = state.in_service(now)
        if state.unkept and not flight.kept and flight.response is None and not isinstance(outcome, Record):
            # The next offer to the store is not made at once, even if this flight failed.
            state.unsaved(now, self._rules, withhold=False)

    def _received(self, state: KeyState, flight: Flight, now: float, emitted: list[events.Event]) -> None:
        token, failure = flight.response  # type: ignore[misc]  # there is one
        repeated = False
        if failure is None:
            repeated = state.fetched(token, flight.started_at, self._rules)
            self._counters.refreshed += 1
        else:
            state.obtained(token)
        _belongs(state, flight)
        if flight.kept:
            state.saved()
        elif self._rules.shared:
            state.unsaved(now, self._rules, withhold=True)
            emitted.append(
                events.TokenUnpersisted(
                    at=now,
                    key=state.key,
                    fingerprint=token.fingerprint,
                    serving=state.in_service(now) is not None,
                    outage=self._session.store_outage.lasts,
                )
            )
        if state.withheld:
            failure = held_back()
        if failure is not None:
            self._failed(state, flight, failure, now, emitted)
            return
        flight.token = token
        if self._observers.listens_to(events.TokenRefreshed):
            emitted.append(
                events.TokenRefreshed(
                    at=now,
                    key=state.key,
                    fingerprint=token.fingerprint,
                    expires_at=token.expires_at,
                    due_at=state.due_at(self._rules),
                    took=now - flight.started_at,
                    reason=cast("Reason", flight.reason),
                    repeated=repeated,
                )
            )
        dies = dying_at(token, now)
        if dies is not None:
            emitted.append(events.GrantExpiring(at=now, key=state.key, expires_at=dies))

    def _found(self, state: KeyState, flight: Flight, record: Record, now: float, emitted: list[events.Event]) -> None:
        if record.revoked:
            flight.error, known = signed_out(), state.signed_out
            state.signed_out_at(record.since, record.version, flight.error, now, self._rules)
            state.generation = record.generation
            if not known:
                emitted.append(events.TokenRevoked(at=now, key=state.key, by_peer=True))
            return
        token = adoptable(state, record, now, self._rules)
        if token is None:
            state.superseded(record, self._rules)
            failure = TransientRefreshError("a peer fetched meanwhile, and what it wrote has expired")
            self._failed(state, flight, failure, now, emitted)
            return
        state.adopted(record, token, self._rules)
        self._counters.adopted += 1
        flight.token = token
        due_at = state.due_at(self._rules)
        emitted.append(
            events.TokenAdopted(
                at=now, key=state.key, fingerprint=token.fingerprint, expires_at=token.expires_at, due_at=due_at
            )
        )

    def _failed(self, state: KeyState, flight: Flight, error: Failure, now: float, emitted: list[events.Event]) -> None:
        if isinstance(error, GrantRejected):
            self._counters.rejections += 1
            state.rejected(error, now, self._rules)
            if state.failure is not None and flight.request is not None:
                if flight.files is not None:
                    flight.files.rejected(self._clock.monotonic(), state.failure.files)
                state.failure.files = flight.files
        else:
            self._counters.failures += 1
            state.failed(error, now, self._rules)
        if state.unkept:
            # The store did not answer either. The next offer is made later, not at once.
            state.unsaved(now, self._rules, withhold=False)
        failure = state.failure
        judged = error if failure is None or failure.error is None or state.signed_out else failure.error
        flight.error = judged
        again_at = now if failure is None else failure.retry_at
        serving = state.in_service(now) is not None
        took = None if flight.request is None else now - flight.started_at
        reason = cast("Reason", flight.reason)
        if isinstance(judged, TransientRefreshError):
            event = events.RefreshFailed(
                at=now,
                key=state.key,
                error=judged,
                failures=1 if failure is None else failure.failures,
                retry_at=again_at,
                serving=serving,
                took=took,
                reason=reason,
                outage=self._session.store_outage.lasts
                if flight.request is None
                else self._session.providers.is_down(flight.provider),
            )
            emitted.append(event)
        elif failure is not None and not failure.told:
            # The rejection is reported once until a fetch succeeds, because later probes bring no news.
            failure.told = True
            rejection = events.RefreshRejected(
                at=now, key=state.key, error=judged, retry_at=again_at, serving=serving, took=took, reason=reason
            )
            emitted.append(rejection)

    def _reanchor(self, flight: Flight, response: Response) -> None:
        # If the wall clock was set back while the response was kept, the remaining life of the token must not change.
        by = self._clock.time() - self._clock.monotonic() - flight.offset
        if by <= -STEP:
            flight.response = Response(response.token.shifted(by), response.failure)
            flight.started_at += by
            flight.offset += by

    def _absorb(self, state: KeyState, flight: Flight) -> None:
        response, request = flight.response, flight.request
        if response is None and flight.void and flight.spends_what(state.token):
            # The flight was allowed to finish, and its answer is missing.
            state.unanswered(flight.started_at)
        if response is None or request is None or response.token.refresh_token is None:
            return
        held, presented = state.token, request.current
        spent = None if presented is None else presented.refresh_token
        if held is not None and held.refresh_token == spent and spent != response.token.refresh_token:
            # This flight has spent the refresh token that memory would present next. Its answer has the new one.
            if state.in_service(self._clock.time()) is None and response.failure is None and not flight.void:
                state.fetched(response.token, flight.started_at, self._rules)
            else:
                was_refused = state.failure is not None and state.failure.refused is held
                state.rotated(response.token.refresh_token, refused=was_refused)
        elif held is None and not state.signed_out and may_spend(state, self._rules):
            state.obtained(response.token)
        else:
            return
        _belongs(state, flight)
        if self._rules.shared:
            state.unsaved(self._clock.time(), self._rules, withhold=False)
        self._session.maintenance.published(state)


def _belongs(state: KeyState, flight: Flight) -> None:
    """The token of *state* is the one that *flight* received."""
    if flight.request is not None and flight.since >= state.since:
        state.since, state.generation, state.origins = flight.since, flight.generation, flight.request.origins
