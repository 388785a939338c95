"""Leases, and the quota of a provider that a store counts together with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from evertoken._model.frozen import Frozen, frozen

if TYPE_CHECKING:
    from evertoken._model.protocols import Record

__all__ = ["LONGEST_HOLD", "Begun", "Held", "Lease", "Quota", "Spent", "Unused"]

#: The longest time, in seconds, for which all members pause because a provider asked to wait.
LONGEST_HOLD: Final = 3600.0


@final
@frozen()
class Quota(Frozen):
    """
    The limits of a provider for all members together. A store keeps one token bucket and one count for each name.

    Args:
        name: The name of the bucket and the count. It is never the name of a record.

        rate: Requests per second. The default is no limit.

        burst: Requests that may start at once after a pause, at least 1.

        per: The length of a budget's period in seconds. By default tokens are not counted. Periods begin at whole
            multiples of this length since the epoch.

        tokens: Tokens that may be issued in a period. By default they are counted but not limited.

        more: Tokens that were issued while the store could not count them. They are always added to the count.
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
    A part of a quota that was taken but not used, and is given back.

    Args:
        quota: The quota from which it was taken.

        request: Whether the request was not sent.

        period: The period that counted a token which was not issued. By default no token is given back.

        hold: Seconds for which the provider asked clients to wait, at most `LONGEST_HOLD`.
    """

    quota: Quota
    request: bool = False
    period: int | None = None
    hold: float = 0.0


@final
@frozen(kw_only=False)
class Spent(Frozen):
    """
    The used part of a budget.

    Args:
        used: Tokens counted in this period, including the one that was just taken.

        period: The number of the period since the epoch.

        ends_in: Seconds until the period ends.
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

        owner: The holder: one member of the fleet, which keeps its name as long as it lives.

        fence: A number that grows with each lease. A write with an older fence is refused.
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
    Another member holds the lease.

    Args:
        remaining: Seconds until the lease ends, unless it is renewed or released before.
    """

    remaining: float


@final
@frozen(kw_only=False)
class Begun(Frozen):
    """
    The answer of a store to `begin`.

    Args:
        lease: The lease, or a `Held` if another member has it.

        record: The record of the key at that moment, if the key has one.

        wait: Seconds until the quota opens, if no lease was given for that reason. Then `lease` is a `Held` for as
            long.

        spent: The used part of the quota's budget, if there is a budget and no other owner holds the lease.
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
