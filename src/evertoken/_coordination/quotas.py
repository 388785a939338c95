"""
The common quota of a fleet at a provider. The store takes a part with each lease, and unused parts are given back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evertoken._engine.flight import Taken, only_keeps
from evertoken._model.errors import TransientRefreshError
from evertoken._model.leases import LONGEST_HOLD, Lease, Quota, Unused

if TYPE_CHECKING:
    from evertoken._coordination.store_client import StoreClient
    from evertoken._engine.flight import Flight
    from evertoken._engine.session import Session
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Begun

__all__ = ["Quotas"]


@final
class Quotas:
    """The quotas of one session, in a store that keeps them."""

    def __init__(self, client: StoreClient, session: Session) -> None:
        self._client = client
        self._clock = session.clock
        self._session = session

    def wanted(self, state: KeyState, flight: Flight) -> Quota | None:
        """
        Return the quota that the next lease of *flight* needs, or None if it asks no provider or there are no limits.
        """
        provider = self._session.providers.state_of(flight)
        limit, spending = provider.limit, provider.spending
        if (limit is None and spending is None) or not provider.named or not self._client.keeps_quotas:
            return None
        wall = self._clock.time()
        if only_keeps(state, flight, wall):
            return None
        per = tokens = None
        more = 0
        if spending is not None:
            spending.used(wall)
            per, more = spending.budget.per, spending.uncounted
            tokens = spending.budget.tokens if spending.budget.hard or not flight.urgent else None
        return Quota(
            name=self._client.quota_name(provider.name),
            rate=None if limit is None else limit.rate,
            burst=1.0 if limit is None else limit.together,
            per=per,
            tokens=tokens,
            more=more,
        )

    def begun(self, flight: Flight, quota: Quota, begun: Begun) -> None:
        """Note the answer of the store about *quota*."""
        provider, spent = self._session.providers.state_of(flight), begun.spent
        if spent is not None and provider.spending is not None:
            provider.spending.counted(spent, quota.more, self._clock.time())
        if isinstance(begun.lease, Lease):
            provider.bucket.opened()
            flight.taken = Taken(quota, None if spent is None else spent.period)
        elif begun.wait > 0.0 and not (spent is not None and quota.tokens is not None and spent.used >= quota.tokens):
            # A bucket cannot be empty for longer than it takes to fill.
            paused = quota.rate is None or begun.wait > max(quota.burst, 1.0) / quota.rate
            self._session.providers.shut(flight, begun.wait, paused=paused)

    async def wait(self, state: KeyState, flight: Flight) -> float:
        """Wait until *flight* may ask the store again, without holding a place. Return the seconds that it took."""
        asked, now = self._clock.monotonic(), self._clock.time()
        token = state.in_service(now)
        left = float("inf") if token is None else token.remaining(now) / 2.0
        provider, flight.place, flight.shut = flight.place, None, True
        if flight.urgent:
            # Waiting callers learn at once that a budget is used up.
            flight.wake()
        try:
            await self._session.limits.again(provider, flight, urgent=flight.urgent, left=left)
        finally:
            flight.shut = False
        flight.place = provider
        return self._clock.monotonic() - asked

    def unused(self, flight: Flight) -> Unused | None:
        """Return the part that *flight* took but certainly did not use, or None. A second call returns None."""
        taken, flight.taken = flight.taken, None
        if taken is None or flight.response is not None:
            return None
        asked, denied = flight.request is not None, flight.denied
        if asked and denied is None:
            return None
        hold = denied.retry_after or 0.0 if isinstance(denied, TransientRefreshError) else 0.0
        spending = self._session.providers.state_of(flight).spending
        if spending is not None and taken.period is not None:
            spending.given_back()
        unused = Unused(
            quota=taken.quota, request=not asked, period=taken.period, hold=min(max(hold, 0.0), LONGEST_HOLD)
        )
        return unused if unused.request or unused.period is not None or unused.hold > 0.0 else None
