"""Converts quotas for the scripts of `RedisStore`, which use microseconds of the server's clock."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final

from evertoken._model.leases import LONGEST_HOLD, Held, Lease, Spent

if TYPE_CHECKING:
    from evertoken._model.leases import Quota, Unused

__all__ = ["MICROSECONDS", "begun_of", "given_back", "name_of", "taken"]

MICROSECONDS: Final = 1_000_000

# The scripts count in floats, which are exact up to 2**53.
_SLOWEST: Final = 10**15

_LONGEST: Final = int(LONGEST_HOLD * MICROSECONDS)


def name_of(prefix: str, quota: Quota, /) -> str:
    """Return the name of *quota* in the server. No record has this name."""
    return f"{prefix}quota:{hashlib.sha256(quota.name.encode(errors='surrogatepass')).hexdigest()}"


def taken(quota: Quota, /) -> tuple[int, ...]:
    """Return the arguments with which `BEGIN` takes from *quota*."""
    share = _share(quota)
    per = 0 if quota.per is None else max(_whole(quota.per), 1)
    tokens = -1 if quota.tokens is None else quota.tokens
    return share, min(math.ceil(share * quota.burst), _SLOWEST), _LONGEST, per, tokens, quota.more


def given_back(unused: Unused, /) -> tuple[int, ...]:
    """Return the arguments with which `GIVE_BACK` gives *unused* back."""
    share = _share(unused.quota) if unused.request else 0
    period = -1 if unused.period is None else unused.period
    return share, period, min(_whole(unused.hold), _LONGEST), _LONGEST


def begun_of(key: str, owner: str, quota: Quota | None, said: list[int], /) -> tuple[Lease | Held, float, Spent | None]:
    """Return the lease, the wait and the used budget from the answer of `BEGIN`, which has the record too."""
    kind, number, *more = said
    if kind == 0:
        return Held(number / 1000.0), 0.0, None
    used, period, left = more
    spent = None if quota is None or quota.per is None else Spent(used, period, left / MICROSECONDS)
    if kind == 1:
        return Lease(key, owner, number), 0.0, spent
    return Held(number / MICROSECONDS), number / MICROSECONDS, spent


def _share(quota: Quota) -> int:
    return 0 if quota.rate is None else min(max(_whole(1.0 / quota.rate), 1), _SLOWEST)


def _whole(seconds: float) -> int:
    return math.ceil(seconds * MICROSECONDS)
