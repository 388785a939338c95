"""The number of tokens that a provider has issued in this period. This is pure: callers pass epoch seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from evertoken._model.leases import Spent
    from evertoken._model.provider_limits import Budget

__all__ = ["Spending"]

_SHARES: Final = (0.5, 0.8, 1.0)


@final
class Spending:
    """
    The tokens of one budget.

    Periods begin at whole multiples of their length since the epoch. If a store counts for all members, its count is
    used, and its clock decides when the period ends.
    """

    __slots__ = ("_ends_at", "_period", "_told", "_used", "budget", "uncounted")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._period = -math.inf
        self._used = 0
        self._told = 0
        # The end of the period by the clock of the store, if known.
        self._ends_at: float | None = None
        #: The number of tokens in this period that no store has counted.
        self.uncounted: int = 0

    def used(self, now: float, /) -> int:
        """Return the number of tokens issued in the period of *now*."""
        if self._ends_at is not None:
            if self._ends_at - self.budget.per <= now < self._ends_at:
                return self._used
            self._ends_at, self._period = None, -math.inf
        period = math.floor(now / self.budget.per)
        # A clock that was set back a little is in the previous period, whose tokens are spent. A period from a clock
        # that was far ahead must not count for ever.
        if period > self._period or period < self._period - 1:
            self._period, self._used, self._told, self.uncounted = period, 0, 0, 0
        return self._used

    def until(self, now: float, /) -> float:
        """Return when the period ends."""
        self.used(now)
        return (self._period + 1) * self.budget.per if self._ends_at is None else self._ends_at

    def counted(self, spent: Spent, more: int, now: float, /) -> None:
        """The store counted the tokens of *spent*, and *more* tokens that it had not counted before."""
        self.used(now)
        ends_at = now + spent.ends_in
        if self._ends_at is not None and ends_at - self._ends_at > self.budget.per / 2.0:
            self._told = 0
        self._ends_at, self._used = ends_at, spent.used
        self.uncounted = max(self.uncounted - more, 0)

    def given_back(self) -> None:
        """A token that the store had counted was not issued."""
        self._used = max(self._used - 1, 0)

    def issued(self, now: float, /, *, counted: bool = False) -> float | None:
        """
        Note one more token. Return the share of the budget that it reaches, if that must be reported.

        Args:
            now: The instant at which it was issued.

            counted: Whether the store has already counted it.
        """
        used = self.used(now)
        if not counted:
            self._used = used = used + 1
            self.uncounted += 1
        reached = [share for share in _SHARES if used >= share * self.budget.tokens]
        if len(reached) <= self._told:
            return None
        self._told = len(reached)
        return reached[-1]

    def exhausted(self, now: float, /, *, under_way: int, urgent: bool) -> bool:
        """Tell whether no further fetch may start. A soft budget stops only fetches for which no caller waits."""
        if urgent and not self.budget.hard:
            return False
        return self.used(now) + under_way >= self.budget.tokens
