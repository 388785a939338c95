"""
What callers meet when there is no valid token at hand: who fetches, who waits, for how long, and what they are told.

All of it runs on the manager's own loop.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, final

from evertoken._coordination.store_client import store_key
from evertoken._engine.observers import say
from evertoken._model import events
from evertoken._model.errors import GrantRejected, TokenUnavailable
from evertoken._model.policy import FLOOR

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from evertoken._engine.flights import Flights
    from evertoken._engine.maintenance import Upkeep
    from evertoken._engine.observers import Observers
    from evertoken._engine.registry import Registry
    from evertoken._engine.settlement import TokenFlight
    from evertoken._engine.subscription import Subscription
    from evertoken._model.events import Reason
    from evertoken._model.failure_state import Rules
    from evertoken._model.key_state import Entry, Refusal
    from evertoken._model.protocols import Clock
    from evertoken._model.token import Token

__all__ = ["Callers"]


def _seconds(parameter: str, value: float | None, /) -> float | None:
    """
    Return *value* if it is None or a number of seconds, not negative.

    Raises:
        ValueError: It is not; the message names *parameter*.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0.0:
        msg = f"{parameter} must be a number of seconds, not negative, or None; got {value!r}"
        raise ValueError(msg)
    return float(value)


@final
class Callers:
    """
    The slow paths of one manager.

    Args:
        namespace: The manager's name in its store; None without a store.

        check_open: Raises `ManagerClosed` unless the manager runs.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        clock: Clock,
        rules: Rules,
        observers: Observers,
        upkeep: Upkeep,
        flights: Flights,
        namespace: str | None,
        check_open: Callable[[], object],
    ) -> None:
        self.refusals: int = 0
        self._registry = registry
        self._clock = clock
        self._rules = rules
        self._observers = observers
        self._upkeep = upkeep
        self._flights = flights
        self._namespace = namespace
        self._check_open = check_open

    async def obtain(self, key: Hashable, min_ttl: float | None, timeout: float | None) -> Token:
        """
        Return a valid token: the slow path of `TokenManager.get`.
        """
        least = _seconds("min_ttl", min_ttl) or 0.0
        patience = _seconds("timeout", timeout)
        end = None if patience is None else self._clock.monotonic() + patience
        tried: TokenFlight | None = None
        while True:
            entry = await self.entry(key)
            now = self._clock.time()
            left = math.inf if end is None else end - self._clock.monotonic()
            token = entry.in_service(now)
            if token is not None:
                if token.valid_at(now, min_ttl=least):
                    return token
                enough = tried is not None or left <= 0.0 or entry.backing_off(now)
                if enough or entry.longest_obtainable(now, self._rules):
                    return self._shorter(entry, token, least, now)
            elif tried is not None and (end is None if tried.error is not None else entry.flight is None):
                # Its own failure, not one that came since; or a token that did not live to be handed out.
                raise entry.unavailable(now)
            elif entry.backing_off(now):
                await self._back_off(entry, now, None if end is None else left)
                continue
            elif left <= 0.0 and tried is not None:
                raise entry.unavailable(now)
            reason: Reason = "absent" if entry.token is None else "expired" if token is None else "min_ttl"
            flight = self._flights.launch(entry, reason, urgent=True)
            # An eager task factory may have landed it already.
            if not flight.landed:
                await flight.wait(self._clock, None if end is None else left)
            if flight.landed and not flight.void:
                tried = flight
            elif end is not None and self._clock.monotonic() >= end and entry.in_service(self._clock.time()) is None:
                self._check_open()
                raise self._waited(entry, patience)

    async def refresh(self, key: Hashable) -> Token:
        """
        Fetch now, or join the fetch under way; return its token or raise its failure.
        """
        entry = await self.entry(key)
        flight = self._flights.launch(entry, "forced", urgent=True)
        if not flight.landed:
            await flight.wait(self._clock)
        self._check_open()
        if flight.value is None:
            raise entry.unavailable(self._clock.time(), "no new token")
        return flight.value

    async def refused(self, key: Hashable, access_token: str, wait: bool) -> Token | None:  # noqa: FBT001 - crosses threads by position
        """
        Take out of service the token with this value, if it is the one; return another, or None.
        """
        outcome = await self.invalidate(key, access_token)
        if outcome == "cooling" or not wait:
            return None
        token = await self.obtain(key, None, None)
        return None if token.access_token == access_token else token

    async def invalidate(self, key: Hashable, access_token: str) -> Refusal:
        """
        Take out of service the token with this value, if it is the one and the cool-down allows it.
        """
        entry = await self.entry(key)
        now = self._clock.time()
        token = entry.in_service(now)
        outcome = entry.refused(access_token, now, self._rules)
        if outcome != "late" and token is not None:
            self._observers.emit(
                events.TokenRefused(at=now, key=key, fingerprint=token.fingerprint, cooling=outcome == "cooling")
            )
        if outcome == "taken":
            self.refusals += 1
            if not entry.backing_off(now):
                self._flights.launch(entry, "refused", urgent=True)
        return outcome

    async def forget(self, key: Hashable) -> bool:
        """
        Drop what memory holds of *key*.
        """
        self._check_open()
        entry = self._registry.find(key)
        if entry is None:
            return False
        entry.forgotten()
        # Its waiters begin anew as soon as the old flight has ended, and not before: never two for one key.
        await self._flights.void(entry)
        async with self._registry.lock:
            if self._registry.source_for is not None and entry.flight is None and entry.token is None:
                # Unless a waiter, woken first, has begun anew already, and has its token: it stays then.
                self._upkeep.supervisor.deadlines.discard(entry)
                self._registry.entries.pop(key, None)
        now = self._clock.time()
        if entry.flight is None and self._registry.entries.get(key) is entry:
            self._upkeep.schedule(entry, entry.next_at(now, self._rules))
        self._upkeep.wake(entry)
        self._observers.emit(events.KeyEvicted(at=now, key=key))
        return True

    async def subscribe(self, key: Hashable, subscription: Subscription) -> None:
        """
        Begin *subscription* with the valid token of *key*, fetched if need be.
        """
        entry = await self.entry(key)
        now = self._clock.time()
        token = entry.in_service(now)
        if token is not None:
            subscription.publish(token)
        elif entry.flight is None and not entry.backing_off(now):
            self._flights.launch(entry, "absent", urgent=True)

    async def entry(self, key: Hashable) -> Entry:
        """
        Return the entry of *key*, opened if need be, and mark it as used.
        """
        self._check_open()
        entry = self._registry.find(key)
        if entry is None:
            if self._namespace is not None:
                store_key(self._namespace, key)
            entry, opened = await self._registry.open(key)
            self._check_open()
            if opened:
                self._observers.emit(events.KeyOpened(at=self._clock.time(), key=key))
        if entry.idle_since is not None:
            entry.seen()
        if self._upkeep.supervisor.ended:
            # Cancelled by somebody who cancels all tasks; whoever still asks for tokens wants it back.
            say(logging.WARNING, "the supervisor was stopped from outside, and runs again")
            self._upkeep.supervisor.start()
        return entry

    async def prefetch(self, patience: float, *, required: bool) -> None:
        """
        Fetch what is missing of the keys known beforehand, all at once; with *required* raise the first failure.
        """
        end = self._clock.monotonic() + patience
        now = self._clock.time()
        missing: list[Entry] = []
        for entry in self._registry.entries.values():
            if entry.in_service(now) is not None:
                continue
            if entry.next_at(now, self._rules) < math.inf:
                missing.append(entry)
            elif required:
                # Signed out: not to be fetched until somebody says so.
                raise entry.unavailable(now)
        flights = [(entry, self._flights.launch(entry, "absent", urgent=True)) for entry in missing]
        for entry, flight in flights:
            if not flight.landed:
                await flight.wait(self._clock, end - self._clock.monotonic())
            self._check_open()
            if required and flight.value is None:
                raise entry.unavailable(self._clock.time()) if flight.landed else self._waited(entry, patience)

    # How

    async def _back_off(self, entry: Entry, now: float, left: float | None) -> None:
        trouble, flight = entry.trouble, entry.flight
        if trouble is None or left is None or left <= 0.0 or isinstance(trouble.error, GrantRejected):
            raise entry.unavailable(now)
        if flight is not None:
            await flight.wait(self._clock, left)
        else:
            # If the supervisor does not start it, the caller will, once it is overdue.
            await self._upkeep.change(entry, min(left, max(trouble.retry_at - now, 0.0) + FLOOR))

    def _waited(self, entry: Entry, patience: float | None) -> TokenUnavailable | GrantRejected:
        if entry.trouble is not None and entry.trouble.error is not None:
            return entry.unavailable(self._clock.time())
        of = "" if entry.key is None else f" for key {entry.key!r}"
        return TokenUnavailable(f"no valid token{of} within {patience:g} s; the first fetch is still under way")

    def _shorter(self, entry: Entry, token: Token, least: float, now: float) -> Token:
        remaining = token.remaining(now)
        self._observers.emit(events.ShorterThanAsked(at=now, key=entry.key, min_ttl=least, remaining=remaining))
        return token
