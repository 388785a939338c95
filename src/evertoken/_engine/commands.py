"""
What a person, or a login, does to a key: sign it out everywhere, or put a token into it that was obtained elsewhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, final

from evertoken._coordination.fleet import LEASE, POLL
from evertoken._engine.flight import Gate, bounded, cancelled_here
from evertoken._engine.observers import SHUTDOWN
from evertoken._model import events
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.failures import failure_of, signed_out
from evertoken._model.protocols import FetchRequest, Held, Record

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._coordination.fleet import Sharing
    from evertoken._engine.flight import Strays
    from evertoken._engine.flights import Flights
    from evertoken._engine.maintenance import Upkeep
    from evertoken._engine.observers import Observers
    from evertoken._engine.read_path import Callers
    from evertoken._model.failure_state import Rules
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Clock, Lease
    from evertoken._model.token import Token

__all__ = ["ByHand"]


@final
class ByHand:
    """
    Changes of a key that no schedule asks for.

    Args:
        timeout: Seconds that a call of a source, or the wait for a peer, may take.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        rules: Rules,
        observers: Observers,
        strays: Strays,
        upkeep: Upkeep,
        flights: Flights,
        callers: Callers,
        sharing: Sharing | None,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._observers = observers
        self._strays = strays
        self._upkeep = upkeep
        self._flights = flights
        self._callers = callers
        self._sharing = sharing
        self._timeout = timeout

    async def revoke(self, key: Hashable) -> None:
        """
        Sign *key* out: here, in the store, and at the server if the source can tell it.
        """
        entry = await self._callers.entry(key)
        tokens = [entry.token]
        now = self._clock.time()
        # First of all, so that callers who are woken below find it signed out.
        self._sign_out(entry)
        await self._flights.void(entry)
        self._observers.emit(events.TokenRevoked(at=now, key=key, by_peer=False))
        failure: TransientRefreshError | GrantRejected | None = None
        if self._sharing is not None:
            before, kept = await self._write(entry, None)
            tokens.append(before)
            if not kept:
                self._sign_out(entry)
                failure = TransientRefreshError("signed out here, but the store could not be told; call revoke() again")
        told: set[str] = set()
        for token in tokens:
            if token is not None and token.access_token not in told:
                told.add(token.access_token)
                failure = await self._tell(entry, token) or failure
        if failure is not None:
            raise failure

    async def put(self, key: Hashable, token: Token) -> None:
        """
        Take *token* into service, and keep it in the store.
        """
        entry = await self._callers.entry(key)
        # Its instants are of the clock as it is now: a step of before must not be noticed later, and move them.
        self._upkeep.supervisor.compare_clocks()
        if self._sharing is not None:
            await self._flights.void(entry)
            _, kept = await self._write(entry, token)
            if kept:
                return
        # First, so that callers who are woken below find it, and fetch nothing with the one before.
        self._serve(entry, token, kept=self._sharing is None)
        await self._flights.void(entry)

    def _sign_out(self, entry: Entry) -> None:
        again_at = entry.signed_out(entry.version, signed_out(), self._clock.time(), self._rules)
        self._upkeep.schedule(entry, again_at)
        self._upkeep.wake(entry)

    def _serve(self, entry: Entry, token: Token, *, kept: bool) -> None:
        entry.trouble = None
        again_at = entry.fetched(token, self._clock.time(), self._rules, kept=kept)
        self._upkeep.published(entry, again_at)

    async def _write(self, entry: Entry, token: Token | None) -> tuple[Token | None, bool]:
        sharing = self._sharing
        if sharing is None:
            return None, True
        lease = await self._lease(entry, sharing)
        if lease is None:
            return None, False
        try:
            found = await sharing.steps.read(entry)
            before = None if found is None else found[0]
            version = max(entry.version, 0 if before is None else before.version) + 1
            kept = found is not None and bool(
                await sharing.steps.write(
                    entry, Record(sharing.steps.key_of(entry), version, token, revoked=token is None), lease
                )
            )
            if kept:
                # Before the lease is given back, which may hang. And a peer may have fetched while it was waited for.
                entry.version = version
                if token is None:
                    self._sign_out(entry)
                else:
                    self._serve(entry, token, kept=True)
            return None if before is None else before.token, kept
        finally:
            await sharing.steps.release(entry, lease)

    async def _lease(self, entry: Entry, sharing: Sharing) -> Lease | None:
        owner, end = os.urandom(8).hex(), self._clock.monotonic() + self._timeout + LEASE
        while True:
            lease = await sharing.steps.acquire(entry, owner, LEASE)
            if not isinstance(lease, Held):
                return lease
            if self._clock.monotonic() >= end:
                return None
            await Gate().wait(self._clock, min(POLL, max(lease.remaining, 0.0) + 0.001))

    async def _tell(self, entry: Entry, token: Token) -> TransientRefreshError | GrantRejected | None:
        revoke = getattr(entry.source, "revoke", None)
        if revoke is None:
            return None
        try:
            await bounded(
                lambda: revoke(token),
                self._timeout,
                clock=self._clock,
                strays=self._strays,
                name=f"evertoken:revoke:{entry.key!r}",
            )
        except (*SHUTDOWN, GeneratorExit):
            raise
        except BaseException as error:
            if cancelled_here(error):
                raise
            # Raised by the caller, without the frames it came through.
            return failure_of(error, FetchRequest(entry.key, token, self._timeout))
        return None
