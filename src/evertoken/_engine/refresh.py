"""
The refresh path: begin, mark, fetch, keep. There is no other way to a token.

First fetch, supervised refresh, refused token and forced refresh all take it. `settlement` says how a flight ends.
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

#: How a flight ends: with what a peer wrote, with a failure, with the session, or with nothing of these. A response
#: stands on the flight.
Outcome = Record | Failure | ManagerClosed | None

# Stands for an answer that has not arrived.
_NOTHING: Final = object()

# The longest that a flight waits for the one which it replaces, in seconds.
_PREDECESSOR: Final = 6.0


@final
class RefreshPath:
    """What each flight of one session does."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.clock
        self._rules = session.rules
        self._observers = session.observers
        self._counters = session.counters
        self._coordinator = session.coordinator
        self._providers = session.providers
        self._limits = session.limits
        self._timeout = session.settings.fetch_timeout

    async def run(self, state: KeyState, flight: Flight) -> Outcome:
        """Fly. Whatever a source or a store raises becomes the outcome."""
        try:
            if flight.after is not None and not flight.after.done():
                await asyncio.wait({flight.after}, timeout=_PREDECESSOR)
            return await self._fly(state, flight)
        except (TransientRefreshError, GrantRejected) as error:
            # The frames it came through hold answers and secrets in their locals.
            return error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this key's alone
            return TransientRefreshError(describe(error))

    async def _fly(self, state: KeyState, flight: Flight) -> Outcome:
        coordinator = self._coordinator
        if flight.reason == "peer" and not state.unkept:
            record = await coordinator.look(state, flight)
            # Somebody may have joined meanwhile who needs more than a look.
            if record is not None or (flight.reason in LOOKS and not state.unkept):
                return record
        permit = await coordinator.begin(state, flight)
        if isinstance(permit, Record):
            return permit
        failure: Failure | None = None
        held = permit.lease is not None
        try:
            if only_keeps(state, flight, self._clock.time()):
                self._leave_place(flight)
                kept = await coordinator.finish(state, flight, permit, None)
                failure = held_back() if kept is False and state.withheld else None
            else:
                failure = await self._fetch(state, flight, permit)
                if held and isinstance(failure, GrantRejected) and flight.request and not flight.request.began_anew:
                    known = None if permit.record is None else permit.record.token
                    state.noted(failure, flight.request.current, known, self._clock.time())
                token = None if flight.response is None else flight.response.token
                self._leave_place(flight)
                kept = await coordinator.finish(state, flight, permit, token)
        finally:
            coordinator.ended(state, flight, permit)
        if isinstance(kept, Record):
            return kept
        flight.kept = kept
        if failure is not None and held and flight.request is not None and flight.response is None:
            # A peer may have done better, as while this process was stopped; or have signed the key out.
            return await coordinator.look(state, flight) or failure
        return failure

    def _leave_place(self, flight: Flight) -> None:
        # The store may take its time to keep a token, and other keys need the provider meanwhile.
        place, flight.place = flight.place, None
        if place is not None:
            self._limits.leave(place)

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
                # It arrived before the fetch was ended.
                arrived = request.answer.value
            if cancelled_here(error):
                if arrived is not _NOTHING:
                    self._receive(flight, arrived, began)
                if flight.response is None and request.sent and state.flight is flight:
                    state.unanswered(started)
                raise
            if arrived is _NOTHING:
                failure = failure_of(error, request)
                # What the source does not say itself may have happened after the token was issued.
                flight.denied = failure if isinstance(error, Failure) and not _is_ambiguous(failure) else None
        # Not in the handler: as the context of a failure, what others raised would keep their locals alive.
        if arrived is not _NOTHING:
            # Nothing was awaited since, and nothing is until the answer stands on the flight.
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
            # A request on a connection that the server closes at this moment has no answer, and is ambiguous.
            connections=None if flight.spends else self._session.connections,
            reason=cast("Reason", flight.reason),
        )
        # Of what is presented now: a person may decide otherwise before the answer is here.
        flight.since, flight.generation = state.since, state.generation + 1
        return request

    def _receive(self, flight: Flight, answer: object, began: float) -> Failure | None:
        """Put the answer on the flight. Return why it, or the access token in it, is of no use."""
        request, started = cast("FetchRequest", flight.request), flight.started_at
        self._session.compare_clocks()
        received = self._clock.time()
        # The wall clock may have been set back meanwhile: the life of the token began that much earlier by it.
        by_monotonic = received - (self._clock.monotonic() - began)
        started = by_monotonic if started - by_monotonic >= STEP else started
        current: Token | None = request.current
        if request.began_anew:
            # Another grant: nothing of the one before belongs to it.
            current = None
        try:
            flight.response = read_response(
                answer,
                requested_at=started,
                received_at=received,
                current=current,
                default_lifetime=self._rules.refresh.default_lifetime,
            )
        except Exception as error:  # noqa: BLE001 - whatever a source returned, and its frames hold the answer
            return failure_of(error, request)
        self._providers.issued(flight)
        flight.started_at = started
        flight.offset = received - self._clock.monotonic()
        if self._rules.shared and request.began_anew:
            flight.since = max(started, flight.since + TICK)
        return flight.response.failure


def _is_ambiguous(failure: Failure) -> bool:
    return isinstance(failure, TransientRefreshError) and failure.ambiguous
