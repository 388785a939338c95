"""
The refresh path: begin, mark, fetch, keep. All tokens are fetched in this way.

First fetches, supervised refreshes, refused tokens and forced refreshes use it. `settlement` ends each flight.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

from evertoken._engine.flight import INSIDE, LOOKS, only_keeps
from evertoken._engine.observers import SHUTDOWN
from evertoken._engine.supervisor import STEP
from evertoken._engine.tasks import cancelled_here
from evertoken._model import events
from evertoken._model.coordination_rules import may_spend, on_ambiguous
from evertoken._model.errors import GrantRejected, ManagerClosed, TransientRefreshError
from evertoken._model.failures import failure_of, held_back
from evertoken._model.fetch_request import FetchRequest
from evertoken._model.key_state import TICK
from evertoken._model.protocols import Record
from evertoken._model.redaction import describe
from evertoken._model.token_response import read_response

if TYPE_CHECKING:
    from evertoken._engine.flight import Flight
    from evertoken._engine.session import Session
    from evertoken._model.coordinator import Permit
    from evertoken._model.events import Reason
    from evertoken._model.key_state import KeyState
    from evertoken._model.token import Token

__all__ = ["Failure", "Outcome", "RefreshPath"]

Failure = TransientRefreshError | GrantRejected

#: The result of a flight: a peer's record, a failure, the end of the session, or None. A response is stored on the
#: flight.
Outcome = Record | Failure | ManagerClosed | None

# Used in place of an answer that has not arrived.
_NOTHING: Final = object()

# The longest time, in seconds, that a flight waits for the one that it replaces.
_PREDECESSOR: Final = 6.0


@final
class RefreshPath:
    """The work of each flight in one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.clock
        self._rules = session.rules
        self._observers = session.observers
        self._counters = session.counters
        self._coordinator = session.coordinator
        self._providers = session.providers
        self._timeout = session.settings.fetch_timeout

    async def run(self, state: KeyState, flight: Flight) -> Outcome:
        """Run the flight. Exceptions of sources and stores become the result."""
        try:
            if flight.after is not None and not flight.after.done():
                await asyncio.wait({flight.after}, timeout=_PREDECESSOR)
            return await self._fly(state, flight)
        except (TransientRefreshError, GrantRejected) as error:
            # The frames that it passed through hold answers and secrets in their locals.
            return error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - the failure concerns only this key
            return TransientRefreshError(describe(error))

    async def _fly(self, state: KeyState, flight: Flight) -> Outcome:
        coordinator = self._coordinator
        if flight.reason == "peer" and not state.unkept:
            record = await coordinator.look(state, flight)
            # A caller that needs more than a look may have joined in the meantime.
            if record is not None or (flight.reason in LOOKS and not state.unkept):
                return record
        permit = await coordinator.begin(state, flight)
        if isinstance(permit, Record):
            return permit
        failure: Failure | None = None
        held = permit.lease is not None
        try:
            if only_keeps(state, flight, self._clock.time()):
                if held:
                    # The store may take its time, and other keys need the provider meanwhile.
                    flight.leave_place()
                kept = await coordinator.finish(state, flight, permit, None)
                failure = held_back() if kept is False and state.withheld else None
            else:
                failure = await self._fetch(state, flight, permit)
                if held and isinstance(failure, GrantRejected) and flight.request and not flight.request.began_anew:
                    known = None if permit.record is None else permit.record.token
                    state.noted(failure, flight.request.current, known, self._clock.time())
                token = None if flight.response is None else flight.response.token
                if held:
                    flight.leave_place()
                kept = await coordinator.finish(state, flight, permit, token)
        finally:
            coordinator.ended(state, flight, permit)
        if isinstance(kept, Record):
            return kept
        flight.kept = kept
        if failure is not None and held and flight.request is not None and flight.response is None:
            # While this process was suspended, a peer may have fetched a token, or signed the key out.
            return await coordinator.look(state, flight) or failure
        return failure

    async def _fetch(self, state: KeyState, flight: Flight, permit: Permit) -> Failure | None:
        rules, coordinator = self._rules, self._coordinator
        flight.spends = may_spend(state, rules) or on_ambiguous(state, rules) != "retry"
        started = self._clock.time()
        if flight.spends:
            await coordinator.mark(state, flight, permit, started)
        request = self._request(state, flight, permit)
        self._counters.fetches += 1
        self._providers.asked(flight)
        if self._observers.listens_to(events.FetchStarted):
            self._observers.emit(events.FetchStarted(at=started, key=state.key, reason=cast("Reason", flight.reason)))
        flight.started_at = started = self._clock.time()
        flight.began = began = self._clock.monotonic()
        INSIDE.set(flight)
        failure: Failure | None = None
        arrived: object = _NOTHING
        try:
            arrived = await flight.step(
                state.source.fetch(request),
                self._timeout,
                self._clock,
                suspended=None if permit.lease is None else partial(coordinator.renew, state, permit),
            )
        except (*SHUTDOWN, GeneratorExit):
            raise
        except BaseException as error:
            if request.answer is not None:
                # The answer arrived before the fetch ended.
                arrived = request.answer.value
            if cancelled_here(error):
                if arrived is not _NOTHING:
                    self._receive(flight, arrived, began)
                if flight.response is None and request.sent and state.flight is flight:
                    state.unanswered(started)
                raise
            if arrived is _NOTHING:
                failure = failure_of(error, request)
                # Other exceptions do not show whether the provider issued a token first.
                flight.denied = failure if isinstance(error, Failure) and not _is_ambiguous(failure) else None
        # This is outside the handler. As the context of a failure, foreign exceptions would keep their locals alive.
        if arrived is not _NOTHING:
            # There must be no await between the arrival and this call, so that the answer cannot be lost.
            failure = self._receive(flight, arrived, began)
        if flight.response is None and failure is not None and _is_ambiguous(failure):
            state.unanswered(started)
        self._providers.judge(flight, state, None if flight.response is not None else failure)
        return failure

    def _request(self, state: KeyState, flight: Flight, permit: Permit) -> FetchRequest:
        flight.request = request = FetchRequest(
            state.key,
            state.token,
            self._timeout,
            origins=state.origins,
            guard=None if permit.lease is None else partial(self._coordinator.check, permit),
            # A request on a connection that the server is closing gets no answer, so it would be ambiguous.
            connections=None if flight.spends else self._session.connections,
            reason=cast("Reason", flight.reason),
        )
        # These belong to the token that is presented now. A person may decide otherwise before the answer comes.
        flight.since, flight.generation = state.since, state.generation + 1
        return request

    def _receive(self, flight: Flight, answer: object, began: float) -> Failure | None:
        """Put the answer on the flight. Return the reason if it, or its access token, cannot be used."""
        request, started = cast("FetchRequest", flight.request), flight.started_at
        self._session.compare_clocks()
        received = self._clock.time()
        # If the wall clock was set back meanwhile, the life of the token began earlier by that time.
        by_monotonic = received - (self._clock.monotonic() - began)
        started = by_monotonic if started - by_monotonic >= STEP else started
        current: Token | None = request.current
        if request.began_anew:
            # The answer belongs to another grant, so nothing of the previous one applies.
            current = None
        try:
            flight.response = read_response(
                answer,
                requested_at=started,
                received_at=received,
                current=current,
                default_lifetime=self._rules.refresh.default_lifetime,
            )
        except Exception as error:  # noqa: BLE001 - a source may return anything, and the frames hold the answer
            return failure_of(error, request)
        self._providers.issued(flight)
        flight.started_at = started
        flight.offset = received - self._clock.monotonic()
        if self._rules.shared and request.began_anew:
            flight.since = max(started, flight.since + TICK)
        return flight.response.failure


def _is_ambiguous(failure: Failure) -> bool:
    return isinstance(failure, TransientRefreshError) and failure.ambiguous
