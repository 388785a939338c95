"""
THE refresh path: lease, re-read, mark, fetch, keep, judge, publish, release.

There is no other way to a token. First fetch, supervised refresh, refused token and forced refresh all join the
flight that is registered here, and only the flight that is registered may write to its entry.
"""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast, final

from evertoken import _events as events
from evertoken._answer import token_from
from evertoken._contracts import FetchRequest
from evertoken._errors import GrantRejected, ManagerClosed, TransientRefreshError
from evertoken._failure import failure_of
from evertoken._flight import Flight, Gate, Strays, bounded
from evertoken._observers import SHUTDOWN
from evertoken._redact import describe
from evertoken._supervisor import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from evertoken._contracts import Clock
    from evertoken._entry import Entry
    from evertoken._events import Reason
    from evertoken._lanes import Lanes
    from evertoken._observers import Observers
    from evertoken._sharing import Hold, Sharing
    from evertoken._token import Token
    from evertoken._trouble import Rules

__all__ = ["Refresher", "TokenFlight"]

TokenFlight: TypeAlias = "Flight[Token]"


@final
class Refresher:
    """
    Runs flights, at most one a key.

    Args:
        fetch_timeout: Seconds a fetch may take.

        publish: Called when an entry has changed, with the instant from which it wants to be looked at again.

        compare_clocks: Called before an answer is judged, so that a step of the wall clock meanwhile is known.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        rules: Rules,
        observers: Observers,
        lanes: Lanes,
        strays: Strays,
        sharing: Sharing | None,
        fetch_timeout: float,
        provider_of: Callable[[Entry], Hashable],
        publish: Callable[[Entry, float], object],
        compare_clocks: Callable[[], object],
    ) -> None:
        self.fetches = 0
        self.refreshed = 0
        self.adopted = 0
        self.failures = 0
        self.rejections = 0
        self._clock = clock
        self._rules = rules
        self._observers = observers
        self._lanes = lanes
        self._strays = strays
        self._sharing = sharing
        self._timeout = fetch_timeout
        self._provider_of = provider_of
        self._publish = publish
        self._compare_clocks = compare_clocks
        self._flying: dict[asyncio.Task[None], Entry] = {}

    @property
    def in_flight(self) -> int:
        """
        How many flights have a task.
        """
        return len(self._flying)

    def launch(self, entry: Entry, reason: Reason, *, urgent: bool) -> TokenFlight:
        """
        Return the flight of *entry*: the one under way, or a new one.

        With an eager task factory it may have landed when this returns.
        """
        flight = cast("TokenFlight | None", entry.flight)
        if flight is not None:
            if urgent and flight.task is None:
                self._lanes.enter(self._provider_of(entry), partial(self._start, entry, flight), urgent=True)
            return flight
        # Registered before it starts: an eager task may land before create_task() returns.
        entry.flight = flight = Flight(reason)
        self._lanes.enter(self._provider_of(entry), partial(self._start, entry, flight), urgent=urgent)
        return flight

    async def drain(self, grace: float) -> None:
        """
        Wait for the flights under way, for at most *grace* seconds; then cancel what is left, and wait for its end.
        """
        self._lanes.clear()
        gate = Gate()
        for task in self._flying:
            task.add_done_callback(lambda _: gate.wake() if not self._flying else None)
        if self._flying:
            await gate.wait(self._clock, grace)
        for task in self._flying:
            task.cancel()
        if self._flying:
            await asyncio.wait(set(self._flying))

    async def void(self, entry: Entry) -> None:
        """
        End the flight of *entry*, if there is one, and let nothing come of it.
        """
        flight = cast("TokenFlight | None", entry.flight)
        if flight is None:
            return
        flight.void = True
        if flight.task is None:
            entry.flight = None
            flight.land(None)
        else:
            flight.task.cancel()
            await asyncio.wait({flight.task})

    def abandon(self) -> None:
        """
        Forget the flights under way.
        """
        self._flying.clear()

    def _start(self, entry: Entry, flight: TokenFlight) -> bool:
        if flight.landed or flight.task is not None or entry.flight is not flight:
            return False
        task = asyncio.get_running_loop().create_task(
            self._run(entry, flight), name=f"evertoken:refresh:{entry.key!r}", context=contextvars.Context()
        )
        flight.task = task
        self._flying[task] = entry
        task.add_done_callback(partial(self._ended, entry, flight, self._provider_of(entry)))
        return True

    def _ended(self, entry: Entry, flight: TokenFlight, provider: Hashable, task: asyncio.Task[None]) -> None:
        self._flying.pop(task, None)
        try:
            if not task.cancelled():
                task.exception()
            if not flight.landed and flight.void:
                entry.flight = None
                flight.land(None)
            elif not flight.landed:
                # Cancelled from outside, perhaps before its first step: nobody may be left waiting.
                self._fail(entry, flight, TransientRefreshError("the fetch was cancelled", ambiguous=True))
        finally:
            self._lanes.leave(provider)

    async def _run(self, entry: Entry, flight: TokenFlight) -> None:
        hold: Hold | None = None
        try:
            if self._sharing is not None:
                hold = await self._sharing.hold(entry, patience=self._timeout, ttl=2.0 * self._timeout)
                if hold.adopt:
                    self._adopt(entry, flight, hold)
                    return
                self._prepare(entry, hold)
            token, started = await self._fetch(entry, flight, hold)
            kept = self._sharing is None or hold is None or await self._sharing.keep(entry, hold, token)
        except (TransientRefreshError, GrantRejected) as error:
            # The frames it came through hold answers and secrets in their locals.
            self._fail(entry, flight, error.with_traceback(None))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this key's alone
            self._fail(entry, flight, TransientRefreshError(describe(error)))
        else:
            self._succeed(entry, flight, token, started, hold if kept else None)
        finally:
            if self._sharing is not None and hold is not None:
                await self._sharing.release(entry, hold.lease)

    def _prepare(self, entry: Entry, hold: Hold) -> None:
        single_use = getattr(entry.source, "rotates", None) or getattr(entry.source, "exclusive", False)
        if hold.lease is None and (single_use or (entry.trouble is not None and entry.trouble.rotated)):
            msg = "the store is down, and without its lease a refresh token that rotates is not presented"
            raise TransientRefreshError(msg)
        if hold.record is not None and hold.record.version > entry.version:
            entry.version = hold.record.version
            left, own = hold.record.token, entry.token
            if left is not None and (own is None or left.refresh_token not in {None, own.refresh_token}):
                # Not worth serving, but its refresh token is the one to present.
                entry.superseded(left)

    async def _fetch(self, entry: Entry, flight: TokenFlight, hold: Hold | None) -> tuple[Token, float]:
        request = FetchRequest(entry.key, entry.token, self._timeout)
        current, marks = entry.token, self._sharing if hold is not None else None
        started = self._clock.time()
        if marks is not None and hold is not None and current is not None and current.refresh_token is not None:
            await marks.mark(entry, hold, current, started)
        self.fetches += 1
        self._observers.emit(events.FetchStarted(at=started, key=entry.key, reason=cast("Reason", flight.reason)))
        started, began = self._clock.time(), self._clock.monotonic()
        try:
            answer = await bounded(
                partial(entry.source.fetch, request),
                self._timeout,
                clock=self._clock,
                strays=self._strays,
                name=f"evertoken:fetch:{entry.key!r}",
            )
            self._compare_clocks()
            received = self._clock.time()
            # The wall clock may have been set back meanwhile: the life of the token began that much earlier by it.
            started = _set_back(started, received - (self._clock.monotonic() - began))
            token = token_from(
                answer,
                requested_at=started,
                received_at=received,
                current=current,
                default_lifetime=self._rules.refresh.default_lifetime,
            )
        except (*SHUTDOWN, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _cancelled():
                raise
            failure = failure_of(error, request)
        else:
            return token, started
        # Outside the handler, so that the failure has no context: tracebacks of others hold secrets in their locals.
        if marks is not None and hold is not None and current is not None and not getattr(failure, "ambiguous", False):
            await marks.unmark(entry, hold, current)
        raise failure

    def _succeed(self, entry: Entry, flight: TokenFlight, token: Token, started: float, hold: Hold | None) -> None:
        if entry.flight is not flight or flight.void:
            return
        repeated = entry.token is not None and entry.token.access_token == token.access_token
        if hold is not None and hold.record is not None:
            entry.version = hold.record.version
        due_at = entry.fetched(token, started, self._rules, kept=self._sharing is None or hold is not None)
        self.refreshed += 1
        now = self._clock.time()
        self._land(entry, flight, due_at, token=token)
        self._observers.emit(
            events.TokenRefreshed(
                at=now,
                key=entry.key,
                fingerprint=token.fingerprint,
                expires_at=token.expires_at,
                due_at=due_at,
                took=now - started,
                reason=cast("Reason", flight.reason),
                repeated=repeated,
            )
        )

    def _adopt(self, entry: Entry, flight: TokenFlight, hold: Hold) -> None:
        record = hold.record
        if entry.flight is not flight or flight.void or record is None or record.token is None:
            return
        token = record.token
        due_at = entry.adopted(token, record.version, self._rules)
        self.adopted += 1
        self._land(entry, flight, due_at, token=token)
        self._observers.emit(
            events.TokenAdopted(
                at=self._clock.time(),
                key=entry.key,
                fingerprint=token.fingerprint,
                expires_at=token.expires_at,
                due_at=due_at,
            )
        )

    def _fail(self, entry: Entry, flight: TokenFlight, error: TransientRefreshError | GrantRejected) -> None:
        if flight.void:
            return
        if entry.flight is not flight:
            flight.land(None, ManagerClosed("the key was dropped while its token was being fetched"))
            return
        self._compare_clocks()
        now = self._clock.time()
        if isinstance(error, GrantRejected):
            self.rejections += 1
            again_at = entry.rejected(error, now, self._rules)
        else:
            self.failures += 1
            again_at = entry.failed(error, now, self._rules)
        trouble = entry.trouble
        judged = error if trouble is None or trouble.error is None else trouble.error
        self._land(entry, flight, again_at, error=judged)
        serving = entry.in_service(now) is not None
        if isinstance(judged, TransientRefreshError):
            failures = 1 if trouble is None else trouble.failures
            self._observers.emit(
                events.RefreshFailed(
                    at=now, key=entry.key, error=judged, failures=failures, retry_at=again_at, serving=serving
                )
            )
        elif trouble is not None and not trouble.told:
            # Once, until a fetch succeeds: the probes that follow say nothing new.
            trouble.told = True
            self._observers.emit(
                events.RefreshRejected(at=now, key=entry.key, error=judged, retry_at=again_at, serving=serving)
            )

    def _land(
        self,
        entry: Entry,
        flight: TokenFlight,
        again_at: float,
        *,
        token: Token | None = None,
        error: TransientRefreshError | GrantRejected | None = None,
    ) -> None:
        entry.flight = None
        try:
            self._publish(entry, again_at)
        finally:
            flight.land(token, error)


def _set_back(started: float, by_monotonic: float) -> float:
    return by_monotonic if started - by_monotonic >= STEP else started


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
