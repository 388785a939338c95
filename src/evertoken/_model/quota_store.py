"""What a store may be able to do besides: keep the quotas of providers for the whole fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from evertoken._model.protocols import TokenStore

if TYPE_CHECKING:
    from evertoken._model.leases import Begun, Lease, Quota, Unused

__all__ = ["QuotaStore"]


class QuotaStore(TokenStore, Protocol):
    """
    A store that keeps the rate and the budget of a provider for all members.

    It says so by the attribute `keeps_quotas`, which is True. A store without it is never given a quota, and each
    member keeps the limits by itself.
    """

    keeps_quotas: bool

    async def begin(self, key: str, owner: str, ttl: float, /, *, quota: Quota | None = None) -> Begun:
        """
        Do what `TokenStore.begin` does and, in the same step, take one request and one token of *quota*.

        Where another owner holds the lease nothing is taken. Where the quota is used up no lease is given: the answer
        is a `Held`, with the seconds until it opens in `Begun.wait`. A lease is never given without what it takes.
        """

    async def abandon(self, lease: Lease, /, *, unused: Unused | None = None) -> None:
        """
        Do what `TokenStore.abandon` does, and give *unused* back, also where *lease* has ended.
        """
