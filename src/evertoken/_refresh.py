"""
THE refresh path: lease, re-read, mark, fetch, keep, judge, publish, release.

There is no other way to a token. First fetch, supervised refresh, refused token and forced refresh all join the
flight that is registered here, and only the flight that is registered may write to its entry.
"""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, cast, final

from evertoken import _events as events
from evertoken._answer import token_from
from evertoken._contracts import FetchRequest
from evertoken._errors import GrantRejected, TransientRefreshError
from evertoken._failure import failure_of
from evertoken._flight import Flight, Gate, Strays, bounded
from evertoken._keeping import keep
from evertoken._observers import SHUTDOWN
from evertoken._redact import describe
from evertoken._repair import look, repair
from evertoken._sharing import Hold
from evertoken._supervisor import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from evertoken._contracts import Clock
    from evertoken._entry import Entry
    from evertoken._events import Reason
    from evertoken._landing import Landing
    from evertoken._lanes import Lanes
    from evertoken._observers import Observers
    from evertoken._sharing import Sharing
    from evertoken._token import Token
    from evertoken._trouble import Rules

__all__ = ["Refresher", "TokenFlight"]

TokenFlight: TypeAlias = "Flight[Token]"

#: Reasons for a flight that only looks at the store.
LOOKS: Final = frozenset({"peer", "repair"})


@final
class Refresher:
    """
    Runs flights, at most one a key.

    Args:
        fetch_timeout: Seconds a fetch may take.

        landing: Where flights end.
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
        landing: Landing,
    ) -> None:
        self.fetches: int = 0
        self.landing = landing
        self._clock = clock
        self._rules = rules
        self._observers = observers
        self._lanes = lanes
        self._strays = strays
        self._sharing = sharing
        self._timeout = fetch_timeout
        self._provider_of = provider_of
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
            if reason not in LOOKS and flight.reason in LOOKS:
                flight.reason = reason
            if urgent and not flight.started:
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
        try:
            if self._flying:
                await gate.wait(self._clock, grace)
        finally:
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
        if flight.landed or flight.started or entry.flight is not flight:
            return False
        flight.started = True
        run = self._run(entry, flight)
        try:
            task = asyncio.get_running_loop().create_task(
                run, name=f"evertoken:refresh:{entry.key!r}", context=contextvars.Context()
            )
        except Exception as error:  # noqa: BLE001 - a key that has no repr, or a task factory that takes no context
            run.close()
            self.landing.end(entry, flight, TransientRefreshError(describe(error)))
            return False
        flight.task = task
        self._flying[task] = entry
        task.add_done_callback(partial(self._ended, entry, flight, self._provider_of(entry)))
        return True

    def _ended(self, entry: Entry, flight: TokenFlight, provider: Hashable, task: asyncio.Task[None]) -> None:
        self._flying.pop(task, None)
        # Cancelled from outside, perhaps before its first step; or its end raised, as a policy may.
        error = None if task.cancelled() else task.exception()
        try:
            if not flight.landed and flight.void:
                entry.flight = None
                flight.land(None)
            elif not flight.landed:
                said = "the fetch was cancelled" if error is None else describe(error)
                self.landing.end(entry, flight, TransientRefreshError(said, ambiguous=True))
        finally:
            self._lanes.leave(provider)

    async def _run(self, entry: Entry, flight: TokenFlight) -> None:
        hold, sharing, before = Hold(None, None), self._sharing, entry.token
        failure: TransientRefreshError | GrantRejected | None = None
        land: Callable[[], None] | None = None
        try:
            try:
                if sharing is not None:
                    land = await self._look(entry, flight, sharing)
                if land is None and sharing is not None:
                    hold = await sharing.hold(entry, patience=self._timeout, forced=flight.reason == "forced")
                    land = self._found(entry, flight, hold, before)
                if land is None:
                    land = await self._renew(entry, flight, hold)
            except (TransientRefreshError, GrantRejected) as error:
                # The frames it came through hold answers and secrets in their locals.
                failure = error.with_traceback(None)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this key's alone
                failure = TransientRefreshError(describe(error))
            if failure is not None:
                land = await self._done_by_a_peer(entry, flight, hold, failure)
            if land is not None:
                land()
            elif failure is not None:
                self.landing.fail(entry, flight, failure)
        finally:
            if sharing is not None:
                await sharing.steps.release(entry, hold.lease)

    async def _look(self, entry: Entry, flight: TokenFlight, sharing: Sharing) -> Callable[[], None] | None:
        trouble = entry.trouble
        withheld = trouble is not None and trouble.withheld
        if flight.reason not in LOOKS and not withheld:
            return None
        record = await (repair if entry.unkept else look)(entry, sharing)
        if record is not None and record.token is entry.token is not None:
            other = flight.reason in {"forced", "min_ttl", "refused"} or not entry.token.valid_at(self._clock.time())
            if flight.reason in LOOKS or (withheld and not other):
                return partial(self.landing.saved, entry, flight, record.version)
            # Somebody joined meanwhile who needs another token than this.
            entry.saved(record.version)
            return None
        if record is None and entry.unkept:
            entry.unsaved(self._clock.time(), self._rules)
        if record is not None and record.revoked:
            return partial(self.landing.sign_out, entry, flight, record.version)
        if record is not None:
            return partial(self.landing.adopt, entry, flight, record)
        if withheld:
            msg = "the store did not keep the token, which is held back"
            raise TransientRefreshError(msg)
        # Somebody may have joined meanwhile who needs more than a look.
        return partial(self.landing.unchanged, entry, flight) if flight.reason in LOOKS else None

    def _found(self, entry: Entry, flight: TokenFlight, hold: Hold, before: Token | None) -> Callable[[], None] | None:
        if hold.adopt and hold.record is not None:
            return partial(self.landing.adopt, entry, flight, hold.record)
        if entry.token is not before and entry.in_service(self._clock.time()) is not None:
            # It was put there by hand, while the lease was waited for.
            return partial(self.landing.unchanged, entry, flight)
        return None

    async def _done_by_a_peer(
        self, entry: Entry, flight: TokenFlight, hold: Hold, failure: TransientRefreshError | GrantRejected
    ) -> Callable[[], None] | None:
        # A peer may have done better, as while this process was stopped; or have signed the key out.
        signed_out = isinstance(failure, GrantRejected) and failure.error == "revoked"
        if self._sharing is None or (hold.lease is None and not signed_out):
            return None
        record = await look(entry, self._sharing)
        if record is not None and record.revoked:
            return partial(self.landing.sign_out, entry, flight, record.version)
        if record is not None and record.token is not None and record.token is not entry.token:
            return partial(self.landing.adopt, entry, flight, record)
        return None

    async def _renew(self, entry: Entry, flight: TokenFlight, hold: Hold) -> Callable[[], None]:
        sharing = self._sharing
        if sharing is None:
            token, started = await self._fetch(entry, flight, hold)
            return partial(self.landing.succeed, entry, flight, token, started, version=0, kept=True)
        self._prepare(entry, hold)
        async with sharing.renewing(entry, hold):
            token, started = await self._fetch(entry, flight, hold)
            kept = await keep(entry, hold, token, sharing)
        if hold.adopt and hold.record is not None:
            return partial(self.landing.adopt, entry, flight, hold.record)
        version = entry.version if hold.record is None else max(entry.version, hold.record.version)
        return partial(self.landing.succeed, entry, flight, token, started, version=version, kept=kept)

    def _prepare(self, entry: Entry, hold: Hold) -> None:
        exclusive = getattr(entry.source, "exclusive", False)
        if hold.lease is None and (exclusive or entry.single_use(self._rules)):
            msg = "the store is down, and without its lease a refresh token that rotates is not presented"
            raise TransientRefreshError(msg)
        left, own = None if hold.record is None else hold.record.token, entry.token
        if hold.record is None or left is None:
            return
        if hold.record.version > entry.version and (own is None or _supersedes(left, own, unkept=entry.unkept)):
            # Not worth serving, but its refresh token is the one to present.
            entry.superseded(left)
        entry.version = max(entry.version, hold.record.version)
        young = self._clock.time() - left.issued_at
        floor = self._rules.refresh.floor(left.lifetime)
        if exclusive and 0.0 <= young < floor:
            msg = "another token was fetched only just now, and each one kills the one before"
            raise TransientRefreshError(msg, retry_after=floor - young)

    async def _fetch(self, entry: Entry, flight: TokenFlight, hold: Hold) -> tuple[Token, float]:
        current, marks = entry.token, self._sharing
        guard = None if marks is None else partial(marks.check, hold)
        request = FetchRequest(entry.key, current, self._timeout, guard=guard)
        started = self._clock.time()
        spends = entry.single_use(self._rules) or entry.on_ambiguous(self._rules) != "retry"
        if marks is not None and hold.lease is not None and spends:
            await marks.mark(entry, hold, started)
        self.fetches += 1
        self._observers.emit(events.FetchStarted(at=started, key=entry.key, reason=cast("Reason", flight.reason)))
        started, began = self._clock.time(), self._clock.monotonic()
        try:
            answer = await bounded(
                partial(self._lanes.inside, partial(entry.source.fetch, request)),
                self._timeout,
                clock=self._clock,
                strays=self._strays,
                name=f"evertoken:fetch:{entry.key!r}",
            )
            self.landing.compare_clocks()
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
        if getattr(failure, "ambiguous", False):
            entry.unanswered(started)
        elif marks is not None:
            await marks.unmark(entry, hold)
        raise failure


def _supersedes(left: Token, own: Token, *, unkept: bool) -> bool:
    another = left.refresh_token not in {None, own.refresh_token}
    return another and (not unkept or left.issued_at > own.issued_at)


def _set_back(started: float, by_monotonic: float) -> float:
    return by_monotonic if started - by_monotonic >= STEP else started


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
