"""Leases, and what is taken together with them of the quota of a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from evertoken._model.frozen import Frozen, frozen

if TYPE_CHECKING:
    from evertoken._model.protocols import Record

__all__ = ["LONGEST_HOLD", "Begun", "Held", "Lease", "Quota", "Spent", "Unused"]

#: The longest that a provider is left alone by all members because it asked to wait, in seconds.
LONGEST_HOLD: Final = 3600.0


@final
@frozen()
class Quota(Frozen):
    """
    What a provider allows to all members together. A store keeps one token bucket and one count for each name.

    Args:
        name: Of the bucket and the count. It is never the name of a record.

        rate: Requests a second; None where the rate is not limited.

        burst: Requests that may start at once after a pause, at least 1.

        per: The length of a period of the budget, in seconds; None where tokens are not counted. Periods begin at whole
            multiples of it since the epoch.

        tokens: Tokens that may be issued in a period; None where they are counted and not limited.

        more: Tokens that were issued while the store could not count them. They are counted in any case.
    """

    name: str
    rate: float | None = None
    burst: float = 1.0
    per: float | None = None
    tokens: int | None = None
    more: int = 0


@final
@frozen()
class Unused(Frozen):
    """
    What was taken of a quota, and is given back because it was not used.

    Args:
        quota: Of which it was taken.

        request: Whether the request was not sent.

        period: The period in which a token was counted that was not issued; None where nothing is to be taken off.

        hold: Seconds for which the provider asked to be left alone, at most `LONGEST_HOLD`.
    """

    quota: Quota
    request: bool = False
    period: int | None = None
    hold: float = 0.0


@final
@frozen(kw_only=False)
class Spent(Frozen):
    """
    How much of a budget is spent.

    Args:
        used: Tokens counted in this period, the one included that was taken just now.

        period: The number of the period since the epoch.

        ends_in: Seconds until it ends.
    """

    used: int
    period: int
    ends_in: float


@final
@frozen(kw_only=False)
class Lease(Frozen):
    """
    The right to fetch for one key.

    Args:
        key: The store's key.

        owner: Who holds it: one member of the fleet, which keeps its name for as long as it lives.

        fence: Grows with each lease given; a write with an older fence is refused.
    """

    key: str
    owner: str
    fence: int

    def __init__(self, key: str, owner: str, fence: int) -> None:
        put = object.__setattr__
        put(self, "key", key)
        put(self, "owner", owner)
        put(self, "fence", fence)


@final
@frozen(kw_only=False)
class Held(Frozen):
    """
    The lease is somebody else's.

    Args:
        remaining: Seconds until it ends, unless it is renewed or released before.
    """

    remaining: float


@final
@frozen(kw_only=False)
class Begun(Frozen):
    """
    What a store said to `begin`.

    Args:
        lease: The lease, or that it is somebody else's.

        record: The record of the key at that moment, if there is one.

        wait: Seconds until the quota opens, where that is why no lease was given. Then `lease` is a `Held` for as long.

        spent: How much of the quota's budget is spent, where it has one and no other owner holds the lease.
    """

    lease: Lease | Held
    record: Record | None
    wait: float = 0.0
    spent: Spent | None = None

    def __init__(
        self, lease: Lease | Held, record: Record | None, wait: float = 0.0, spent: Spent | None = None
    ) -> None:
        put = object.__setattr__
        put(self, "lease", lease)
        put(self, "record", record)
        put(self, "wait", wait)
        put(self, "spent", spent)
