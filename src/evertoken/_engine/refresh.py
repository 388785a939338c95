"""
THE refresh path: lease, re-read, mark, fetch, keep, judge, publish, release.

There is no other way to a token: first fetch, supervised refresh, refused token and forced refresh all take it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast, final

from evertoken._coordination.fleet import Hold
from evertoken._coordination.keep import keep
from evertoken._coordination.repair import look, repair
from evertoken._engine.flight import bounded, cancelled_here
from evertoken._engine.flights import LOOKS
from evertoken._engine.observers import SHUTDOWN
from evertoken._engine.supervisor import STEP
from evertoken._model import events
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.failures import failure_of, is_sign_out
from evertoken._model.protocols import FetchRequest
from evertoken._model.redaction import describe
from evertoken._model.token_response import token_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._coordination.fleet import Sharing
    from evertoken._engine.flight import Strays
    from evertoken._engine.observers import Observers
    from evertoken._engine.rate_limit import Lanes
    from evertoken._engine.settlement import Landing, TokenFlight
    from evertoken._model.events import Reason
    from evertoken._model.failure_state import Rules
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Clock
    from evertoken._model.token import Token

__all__ = ["Refresher"]


@final
class Refresher:
    """
    What each flight does.

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

    async def run(self, entry: Entry, flight: TokenFlight) -> None:
        """
        Fly, and land.
        """
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
        own = entry.token
        if record is not None and own is not None and record.token is own:
            other = flight.reason in {"forced", "min_ttl", "refused"} or not own.valid_at(self._clock.time())
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
        if self._sharing is None or (hold.lease is None and not is_sign_out(failure)):
            return None
        if hold.record is not None and hold.record.revoked:
            # Its own: a key that was signed out stays so where what was to begin anew fails.
            entry.version = max(entry.version, hold.record.version)
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
            if cancelled_here(error):
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
