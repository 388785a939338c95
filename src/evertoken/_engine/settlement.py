"""
How a flight ends: its outcome goes to the entry, to the schedule, to those who wait and to the observers.

Only the flight that is registered with its entry, and was not made void, may change it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeAlias, cast, final

from evertoken._engine.observers import SHUTDOWN, say
from evertoken._engine.supervisor import BEAT
from evertoken._model import events
from evertoken._model.errors import GrantRejected, ManagerClosed, TransientRefreshError
from evertoken._model.failures import signed_out
from evertoken._model.token_response import GRANT_EXPIRES_AT, GRANT_ISSUED_AT

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._engine.flight import Flight
    from evertoken._engine.observers import Observers
    from evertoken._model.events import Reason
    from evertoken._model.failure_state import Rules
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Clock, Record
    from evertoken._model.token import Token

__all__ = ["Landing", "TokenFlight"]

TokenFlight: TypeAlias = "Flight[Token]"

# The part of a grant's life for which its end is announced.
_NOTICE: Final = 0.2


@final
class Landing:
    """
    Where flights end.

    Args:
        publish: Called when an entry has changed, with the instant from which it wants to be looked at again.

        compare_clocks: Called before an instant is judged, so that a step of the wall clock meanwhile is known.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        rules: Rules,
        observers: Observers,
        publish: Callable[[Entry, float], object],
        compare_clocks: Callable[[], object],
    ) -> None:
        self.refreshed: int = 0
        self.adopted: int = 0
        self.failures: int = 0
        self.rejections: int = 0
        self.compare_clocks = compare_clocks
        self._clock = clock
        self._rules = rules
        self._observers = observers
        self._publish = publish

    def succeed(
        self, entry: Entry, flight: TokenFlight, token: Token, started: float, *, version: int, kept: bool
    ) -> None:
        """
        A fetch that began at *started* brought *token*; the store holds it under *version*, if it is *kept*.
        """
        if entry.flight is not flight or flight.void:
            return
        repeated = entry.token is not None and entry.token.access_token == token.access_token
        entry.version = version
        again_at = entry.fetched(token, started, self._rules, kept=kept)
        self.refreshed += 1
        now = self._clock.time()
        serving = entry.in_service(now) is not None
        if not kept:
            self._observers.emit(
                events.TokenUnpersisted(at=now, key=entry.key, fingerprint=token.fingerprint, serving=serving)
            )
        if entry.trouble is not None and entry.trouble.withheld:
            self.fail(entry, flight, TransientRefreshError("the store did not keep the token, which is held back"))
            return
        self._land(entry, flight, again_at, token=token)
        self._observers.emit(
            events.TokenRefreshed(
                at=now,
                key=entry.key,
                fingerprint=token.fingerprint,
                expires_at=token.expires_at,
                due_at=entry.due_at(self._rules),
                took=now - started,
                reason=cast("Reason", flight.reason),
                repeated=repeated,
            )
        )
        dies = _dying_grant(token, now)
        if dies is not None:
            self._observers.emit(events.GrantExpiring(at=now, key=entry.key, expires_at=dies))

    def adopt(self, entry: Entry, flight: TokenFlight, record: Record) -> None:
        """
        A peer fetched the token of *record*.
        """
        token = record.token
        if entry.flight is not flight or flight.void or token is None:
            return
        now = self._clock.time()
        if not token.valid_at(now):
            entry.version = record.version
            entry.superseded(token)
            self.fail(entry, flight, TransientRefreshError("the lease was outlived, and what a peer wrote has expired"))
            return
        due_at = entry.adopted(token, record.version, self._rules)
        self.adopted += 1
        self._land(entry, flight, due_at, token=token)
        self._observers.emit(
            events.TokenAdopted(
                at=now, key=entry.key, fingerprint=token.fingerprint, expires_at=token.expires_at, due_at=due_at
            )
        )

    def saved(self, entry: Entry, flight: TokenFlight, version: int) -> None:
        """
        The store keeps the token in service now.
        """
        if entry.flight is not flight or flight.void:
            return
        entry.saved(version)
        self.unchanged(entry, flight)

    def unchanged(self, entry: Entry, flight: TokenFlight) -> None:
        """
        There was nothing to do.
        """
        if entry.flight is not flight or flight.void:
            return
        now = self._clock.time()
        self._land(entry, flight, entry.next_at(now, self._rules), token=entry.in_service(now))

    def sign_out(self, entry: Entry, flight: TokenFlight, version: int) -> None:
        """
        A peer signed the key out.
        """
        if entry.flight is not flight or flight.void:
            return
        now = self._clock.time()
        error = signed_out()
        again_at = entry.signed_out(version, error, now, self._rules)
        self._land(entry, flight, again_at, error=error)
        self._observers.emit(events.TokenRevoked(at=now, key=entry.key, by_peer=True))

    def fail(self, entry: Entry, flight: TokenFlight, error: TransientRefreshError | GrantRejected) -> None:
        """
        It brought nothing.
        """
        if flight.void:
            return
        if entry.flight is not flight:
            flight.land(None, ManagerClosed("the key was dropped while its token was being fetched"))
            return
        self.compare_clocks()
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

    def end(self, entry: Entry, flight: TokenFlight, error: TransientRefreshError) -> None:
        """
        It brought nothing, and whatever that comes to, as where a policy raises, nobody may be left waiting.
        """
        try:
            self.fail(entry, flight, error)
        except SHUTDOWN:
            raise
        except BaseException as problem:  # noqa: BLE001 - told, and looked at again a beat later
            say(logging.ERROR, "the end of a fetch raised %s", type(problem).__qualname__)
            if flight.landed:
                return
            entry.flight = None
            flight.land(None, error)
            again_at = self._clock.time() + BEAT
            if entry.trouble is not None:
                entry.trouble.retry_at = again_at
            self._publish(entry, again_at)

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


def _dying_grant(token: Token, now: float) -> float | None:
    """
    Return when the grant dies, if that is soon and the last refresh did not put it off.
    """
    dies, since = token.extra.get(GRANT_EXPIRES_AT), token.extra.get(GRANT_ISSUED_AT)
    if dies is None or since is None or since >= token.issued_at:
        return None
    notice = max(2.0 * (token.lifetime or 0.0), _NOTICE * (dies - since))
    return float(dies) if dies - now <= notice else None
