"""How many tokens a provider has issued in this period. Pure: instants are epoch seconds that come in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from evertoken._model.provider_limits import Budget

__all__ = ["Spending"]

_SHARES: Final = (0.5, 0.8, 1.0)


@final
class Spending:
    """
    The tokens of one budget.

    Periods begin at whole multiples of their length since the epoch.
    """

    __slots__ = ("_period", "_told", "_used", "budget")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._period = -math.inf
        self._used = 0
        self._told = 0

    def used(self, now: float, /) -> int:
        """Return how many tokens were issued in the period of *now*."""
        period = math.floor(now / self.budget.per)
        # A clock that was set back a little is in the period before, whose tokens are spent; one that was far ahead
        # must not count for ever.
        if period > self._period or period < self._period - 1:
            self._period, self._used, self._told = period, 0, 0
        return self._used

    def until(self, now: float, /) -> float:
        """Return when the period ends."""
        self.used(now)
        return (self._period + 1) * self.budget.per

    def issued(self, now: float, /) -> float | None:
        """One more token was issued. Return the share of the budget that is reached by it, if it is to be told."""
        used = self.used(now) + 1
        self._used = used
        reached = [share for share in _SHARES if used >= share * self.budget.tokens]
        if len(reached) <= self._told:
            return None
        self._told = len(reached)
        return reached[-1]

    def exhausted(self, now: float, /, *, under_way: int, urgent: bool) -> bool:
        """Tell whether no fetch may start any more: none that nobody waits for, or none at all if it is hard."""
        if urgent and not self.budget.hard:
            return False
        return self.used(now) + under_way >= self.budget.tokens
