"""An optional ability of a store: to keep the quotas of providers for the whole fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from evertoken._model.protocols import TokenStore

if TYPE_CHECKING:
    from evertoken._model.leases import Begun, Lease, Quota, Unused

__all__ = ["QuotaStore"]


class QuotaStore(TokenStore, Protocol):
    """
    A store that keeps the rate and the budget of a provider for all members.

    The attribute `keeps_quotas`, which is True, marks such a store. The manager gives no quota to other stores. Then
    each member keeps the limits for itself.
    """

    keeps_quotas: bool

    async def begin(self, key: str, owner: str, ttl: float, /, *, quota: Quota | None = None) -> Begun:
        """
        Do what `TokenStore.begin` does and, in the same step, take one request and one token of *quota*.

        If another owner holds the lease, nothing is taken. If the quota is used up, no lease is given. Then the answer
        is a `Held`, and `Begun.wait` has the seconds until the quota opens. The store gives a lease only with its
        request and token.
        """

    async def abandon(self, lease: Lease, /, *, unused: Unused | None = None) -> None:
        """
        Do what `TokenStore.abandon` does, and give *unused* back, even if *lease* has ended.
        """
