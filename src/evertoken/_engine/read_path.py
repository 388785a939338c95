"""
The slow path of `get()`. It serves callers if there is no valid token at hand.

It decides whether to fetch, how long a caller waits, and which error it receives. All of it runs on the session's
own loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, final

from evertoken._engine.observers import say
from evertoken._engine.tasks import Gate, spawn
from evertoken._model import events, timing_events
from evertoken._model.errors import GrantRejected, TokenUnavailable, TransientRefreshError
from evertoken._model.failures import Overdue

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._engine.flight import Flight
    from evertoken._engine.provider_watch import Barrier
    from evertoken._engine.read_files import ReadFiles
    from evertoken._engine.session import Session
    from evertoken._model.events import Reason
    from evertoken._model.failure_state import FailureState
    from evertoken._model.key_state import KeyState
    from evertoken._model.token import Token

__all__ = ["ReadPath", "seconds"]


def seconds(parameter: str, value: float | None, /) -> float | None:
    """
    Return *value* if it is None or a number of seconds, not negative. A number too large for a float is infinite.

    Raises:
        ValueError: *value* is something else. The message names *parameter*.
    """
    if value is None:
        return None
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if not number or value != value or value < 0:  # noqa: PLR0124 - NaN
        msg = f"{parameter} must be a number of seconds, not negative, or None; got {value!r}"
        raise ValueError(msg)
    try:
        return float(value)
    except OverflowError:
        return math.inf


@final
class ReadPath:
    """The slow path of `get()`."""

    def __init__(self, session: Session) -> None:
        self._registry = session.registry
        self._lock = session.lock
        self._clock = session.clock
        self._rules = session.rules
        self._observers = session.observers
        self._maintenance = session.maintenance
        self._flights = session.flights
        self._limits = session.limits
        self._strays = session.strays
        self._barrier = session.providers.barrier
        self._check_open = session.check_open

    async def obtain(self, key: Hashable, min_ttl: float | None, timeout: float | None) -> Token:
        """Return a valid token: the slow path of `TokenManager.get`."""
        if not self._observers.listens_to(timing_events.CallerWaited):
            return await self._obtain(key, min_ttl, timeout)
        began, served = self._clock.monotonic(), False
        try:
            token = await self._obtain(key, min_ttl, timeout)
            served = True
            return token
        finally:
            took = self._clock.monotonic() - began
            if took > 0.0 or not served:
                self._observers.emit(
                    timing_events.CallerWaited(at=self._clock.time(), key=key, took=took, served=served)
                )

    async def _obtain(self, key: Hashable, min_ttl: float | None, timeout: float | None) -> Token:
        least = seconds("min_ttl", min_ttl) or 0.0
        limit = seconds("timeout", timeout)
        end = None if limit is None else self._clock.monotonic() + limit
        tried: Flight | None = None
        while True:
            state = await self.state(key)
            now = self._clock.time()
            left = math.inf if end is None else end - self._clock.monotonic()
            token = state.in_service(now)
            if token is not None:
                if token.valid_at(now, min_ttl=least):
                    return token
                if tried is not None or left <= 0.0 or self._is_longest(state, now):
                    return self._shorter(state, token, least, now)
            elif state.signed_out or (tried is not None and (left <= 0.0 or self._has_failed(state, tried, end))):
                raise state.unavailable()
            elif state.flight is None and now < state.demand_at(self._rules):
                await self._demand(state, now, None if end is None else left)
                continue
            reason: Reason = "absent" if state.token is None else "expired" if token is None else "min_ttl"
            # After a failure, callers do not wait long for an attempt that hangs.
            failing = token is None and self._hangs(state)
            flight = self._flights.launch(state, reason, urgent=True)
            barrier = self._barrier(state, flight) if end is None else None
            # With an eager task factory it may have landed already.
            if not flight.landed:
                patience = self._rules.retry.patience if failing and end is None else left
                patience = patience if barrier is None else barrier.patience
                await flight.wait(self._clock, None if patience == math.inf else patience)
            if flight.landed:
                # A flight that only looked at the store, or was replaced, does not count as a try.
                newer = flight.token is not None and flight.token is not token
                fetched = flight.request is not None or newer or flight.error is not None
                tried = flight if fetched and not flight.void else tried
            elif end is None or self._clock.monotonic() >= end:
                self._check_open()
                served, now = state.in_service(self._clock.time()), self._clock.time()
                if served is not None and barrier is not None:
                    return self._shorter(state, served, least, now)
                held = self._barrier(state, flight)
                if served is None and (failing or held is not None or end is not None):
                    raise self._hanging(state, held) if end is None else self._waited(state, flight, limit)

    async def state(self, key: Hashable) -> KeyState:
        """Return the state of *key*, open it if necessary, and mark it as used."""
        self._check_open()
        state = self._registry.find(key)
        if state is None:
            state = await self._open(key)
        if state.idle_since is not None:
            state.seen()
        if self._maintenance.supervisor.ended:
            # Somebody cancelled all tasks. A caller that asks for tokens needs the supervisor again.
            say(logging.WARNING, "the supervisor was stopped from outside, and runs again")
            self._maintenance.supervisor.start()
        return state

    async def subscribe(self, key: Hashable) -> None:
        """Start a fetch for *key*, if it has no token."""
        state = await self.state(key)
        now = self._clock.time()
        if state.in_service(now) is None and state.flight is None and now >= state.demand_at(self._rules):
            self._flights.launch(state, "absent", urgent=True)

    async def prefetch(self, patience: float, *, required: bool) -> None:
        """Fetch missing tokens of the keys known in advance, all at once. With *required*, raise the first failure."""
        now = self._clock.time()
        missing: list[KeyState] = []
        for state in self._registry.keys.values():
            if state.in_service(now) is not None:
                continue
            if state.next_at(now, self._rules) < math.inf:
                missing.append(state)
            elif required:
                # The key was signed out, so it must not be fetched until somebody logs in.
                raise state.unavailable()
        loop = asyncio.get_running_loop()
        waits: dict[asyncio.Task[None], tuple[KeyState, Flight]] = {}
        for state in missing:
            flight = self._flights.launch(state, "absent", urgent=True)
            waits[spawn(loop, self._first(flight, patience), "evertoken:prefetch")] = state, flight
        try:
            await self._prefetched(waits, patience, required=required)
        finally:
            for task in waits:
                task.cancel()

    # How

    def _is_longest(self, state: KeyState, now: float) -> bool:
        return now < state.demand_at(self._rules) or state.longest_obtainable(now, self._rules)

    def _hangs(self, state: KeyState) -> bool:
        failure = state.failure
        flight: Flight | None = state.flight
        if failure is not None and failure.error is not None:
            return True
        # A refresh ahead of expiry may hang as well. Only a first fetch is awaited to its end.
        if flight is None or flight.reason != "due" or flight.request is None or flight.response is not None:
            return False
        return self._clock.time() - flight.started_at > self._rules.retry.patience

    def _has_failed(self, state: KeyState, tried: Flight, end: float | None) -> bool:
        # This flight itself failed, or its token expired before it could be returned.
        return end is None if tried.error is not None else state.flight is None

    async def _prefetched(
        self, waits: dict[asyncio.Task[None], tuple[KeyState, Flight]], patience: float, *, required: bool
    ) -> None:
        pending: set[asyncio.Task[Any]] = set(waits)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            self._check_open()
            ended = [waits[task] for task in waits if task in done]
            failed = [(state, flight) for state, flight in ended if flight.token is None]
            # A rejection needs a person, so it is reported before other failures of the same moment.
            failed.sort(key=lambda pair: not isinstance(pair[1].error, GrantRejected))
            if required and failed:
                state, flight = failed[0]
                raise state.unavailable() if flight.landed else self._waited(state, flight, patience)

    async def _first(self, flight: Flight, patience: float) -> None:
        if not flight.landed:
            await flight.wait(self._clock, patience)

    async def _open(self, key: Hashable) -> KeyState:
        async with self._lock:
            state, opened = self._registry.open(key)
            if opened:
                # It is scheduled at once, so that no open key lacks a deadline. It may have a configured token.
                state.seen()
                self._maintenance.schedule(state)
        self._check_open()
        if opened:
            self._observers.emit(events.KeyOpened(at=self._clock.time(), key=key))
        return state

    async def _demand(self, state: KeyState, now: float, left: float | None) -> None:
        failure = state.failure
        if failure is None or isinstance(failure.error, GrantRejected):
            if failure is not None and await self._has_new_files(state, failure, left):
                return
            raise state.unavailable()
        at = state.demand_at(self._rules)
        if at < failure.retry_at:
            # A caller asks, so the next attempt starts earlier than planned.
            state.hurried(at)
            self._limits.hurry(self._registry.provider_of(state))
            self._maintenance.schedule(state)
        if left is None or left <= 0.0:
            raise state.unavailable()
        await self._maintenance.change(state, min(left, max(at - now, 0.0)))

    async def _has_new_files(self, state: KeyState, failure: FailureState, left: float | None) -> bool:
        """
        Tell whether a file that the rejected fetch had read has other content. Then the key is due.

        One caller a second starts a look. It ends by itself, also if the caller cannot wait so long.
        """
        files: ReadFiles | None = failure.files
        if files is None or failure.retry_at == math.inf:
            return False
        if files.may_look(self._clock.monotonic()):
            files.looks = Gate()
            loop, name = asyncio.get_running_loop(), f"evertoken:files:{state.key!r}"
            look = spawn(loop, self._look(failure, files), name)
            # However it ends: a task that is cancelled before its first step runs nothing.
            look.add_done_callback(lambda _: files.ended())
            self._strays.add(look, cancel=False)
        if files.looks is not None:
            await files.looks.wait(self._clock, left)
        return self._clock.time() >= state.demand_at(self._rules)

    async def _look(self, failure: FailureState, files: ReadFiles) -> None:
        try:
            if await files.look(self._clock, self._strays) and failure.files is files:
                failure.retry_at = failure.not_before = self._clock.time()
        except (Overdue, TransientRefreshError):
            # The files cannot be read now, so nothing is known to have changed.
            pass

    def _hanging(self, state: KeyState, held: Barrier | None) -> TokenUnavailable | GrantRejected:
        if held is not None:
            return held.error
        error, now = state.unavailable(), self._clock.time()
        if isinstance(error, TokenUnavailable) and (error.retry_at is None or error.retry_at <= now):
            # The planned attempt is already under way.
            error.retry_at = now + self._rules.retry.demand_delay()
        return error

    def _waited(self, state: KeyState, flight: Flight, patience: float | None) -> TokenUnavailable | GrantRejected:
        held = self._barrier(state, flight)
        if held is not None:
            return held.error
        if state.failure is not None and state.failure.error is not None:
            return state.unavailable()
        of = "" if state.key is None else f" for key {state.key!r}"
        still = (
            "is still under way" if flight.started else f"waits for its turn behind {self._limits.queued - 1} others"
        )
        return TokenUnavailable(f"no valid token{of} within {patience:g} s; the first fetch {still}")

    def _shorter(self, state: KeyState, token: Token, least: float, now: float) -> Token:
        remaining = token.remaining(now)
        self._observers.emit(events.ShorterThanAsked(at=now, key=state.key, min_ttl=least, remaining=remaining))
        return token
