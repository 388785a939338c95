"""
The token bucket and the token count of one quota, as a store keeps them.

This is pure: callers pass instants, in epoch seconds of the store's clock. `RedisStore` and `PostgresStore` implement
the same rules in the languages of their servers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.leases import LONGEST_HOLD, Quota, Spent, Unused
from evertoken._model.parsing import is_finite

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GRAIN", "Tally"]

#: A request that comes too early by at most this many seconds is allowed.
GRAIN: Final = 0.001


@final
@dataclass(slots=True)
class Tally:
    """
    The remaining part of a quota.

    Args:
        full_at: When the bucket is full again.

        held_until: When the pause that the provider asked for ends.

        period: The period whose tokens are counted.

        used: The number of these tokens.
    """

    full_at: float = 0.0
    held_until: float = 0.0
    period: int = 0
    used: int = 0

    @classmethod
    def of(cls, fields: Any, /) -> Tally:
        """Return the tally that was written as *fields*, or an empty one if they are not a tally."""
        if not isinstance(fields, list) or len(fields) != 4 or not all(map(is_finite, fields)):  # noqa: PLR2004
            return cls()
        return cls(float(fields[0]), float(fields[1]), int(fields[2]), int(fields[3]))

    def fields(self) -> Sequence[float]:
        """Return the fields that `of` reads."""
        return [self.full_at, self.held_until, self.period, self.used]

    def take(self, quota: Quota, now: float, /) -> tuple[float, Spent | None]:
        """Take one request and one token. Return the seconds to wait (0.0 if they were taken) and the used budget."""
        held = self.held_until - now
        # A longer pause than the longest possible one was noted before the clock was set, so it is ignored.
        wait, full_in = held if 0.0 < held <= LONGEST_HOLD else 0.0, 0.0
        if quota.rate is not None:
            # The same holds for a bucket that is emptier than possible.
            full_in = min(max(self.full_at - now, 0.0), quota.burst / quota.rate)
            wait = max(wait, full_in - (quota.burst - 1.0) / quota.rate - GRAIN)
        spent = None
        if quota.per is not None:
            self._roll(math.floor(now / quota.per))
            self.used += quota.more
            ends_in = (self.period + 1) * quota.per - now
            if quota.tokens is not None and self.used >= quota.tokens:
                wait = max(wait, ends_in)
            self.used += wait <= 0.0
            spent = Spent(self.used, self.period, ends_in)
        if wait <= 0.0 and quota.rate is not None:
            self.full_at = now + full_in + 1.0 / quota.rate
        return max(wait, 0.0), spent

    def give_back(self, unused: Unused, now: float, /) -> None:
        """Put back the unused request and token, and note the pause that the provider asked for."""
        if unused.request and unused.quota.rate is not None:
            self.full_at -= 1.0 / unused.quota.rate
        if unused.period is not None and unused.period == self.period:
            self.used = max(self.used - 1, 0)
        if unused.hold > 0.0:
            left = self.held_until - now
            self.held_until = now + max(min(unused.hold, LONGEST_HOLD), left if left <= LONGEST_HOLD else 0.0)

    def _roll(self, period: int) -> None:
        # A clock that was set back a little is in the previous period, whose tokens are spent. A period from a clock
        # that was far ahead must not count for ever.
        if period > self.period or period < self.period - 1:
            self.period, self.used = period, 0
