"""Leases: how long they last, when they end for this member, and how they are renewed during a long fetch."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.tasks import Gate, spawn
from evertoken._model.errors import TransientRefreshError
from evertoken._model.protocols import LONGEST_LEASE

if TYPE_CHECKING:
    from evertoken._coordination.store_client import StoreClient
    from evertoken._model.coordinator import Permit
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Clock

__all__ = ["Leases"]

#: The shortest lease, in seconds. Normally a lease is half a lifetime, but at most `LONGEST_LEASE`.
LEAST_LEASE: Final = 2.0

#: A lease is renewed when this part of it has passed.
_RENEWED_AFTER: Final = 1.0 / 3.0


@final
class Leases:
    """The leases of one session."""

    def __init__(self, client: StoreClient, *, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def ttl_of(self, state: KeyState) -> float:
        """Return for how many seconds to request the lease of *state*."""
        lifetime = None if state.token is None else state.token.lifetime
        return LONGEST_LEASE if not lifetime else min(LONGEST_LEASE, max(LEAST_LEASE, lifetime / 2.0))

    def until(self, ttl: float) -> tuple[float, float]:
        """Return when a lease that is requested now ends. For this member it never ends later than for the store."""
        return self._clock.monotonic() + ttl, self._clock.time() + ttl

    def renew(self, state: KeyState, permit: Permit) -> None:
        """Renew the lease of *permit* whenever a third of it has passed."""
        permit.renewal = self._clock.call_later(
            self.ttl_of(state) * _RENEWED_AFTER, self._begin_renewing, state, permit
        )

    def outlived(self, until: tuple[float, float]) -> bool:
        """Tell whether a lease has ended for this member, by either clock."""
        return self._clock.monotonic() > until[0] or self._clock.time() > until[1]

    def check(self, permit: Permit) -> None:
        """
        Raise an error unless this member can still hold the lease. The process may have been suspended.

        Raises:
            TransientRefreshError: The lease has ended.
        """
        if permit.lease is not None and self.outlived(permit.until):
            msg = "the lease ended before the request could be sent"
            raise TransientRefreshError(msg)

    def forget(self, permit: Permit) -> None:
        """Stop renewing the lease of *permit*."""
        renewal, permit.renewal = permit.renewal, None
        if renewal is not None:
            renewal.cancel()

    def _begin_renewing(self, state: KeyState, permit: Permit) -> None:
        loop = asyncio.get_running_loop()
        permit.renewal = spawn(loop, self._renew(state, permit), f"evertoken:renew:{state.key!r}")

    async def _renew(self, state: KeyState, permit: Permit) -> None:
        ttl = self.ttl_of(state)
        while True:
            lease, until = permit.lease, self.until(ttl)
            if lease is None:
                return
            renewed = await self._client.outside("renew", state, partial(self._client.store.renew, lease, ttl))
            if renewed is False and permit.lease is lease:
                # There is nothing to do here, because the write is fenced.
                return
            if renewed:
                permit.until = until
            await Gate().wait(self._clock, ttl * _RENEWED_AFTER)
