"""
A limit on the rate of fetches for one provider: a token bucket whose rate adapts to the refusals of the provider.

This is pure: callers pass instants in monotonic seconds. Only their differences have a meaning.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from evertoken._model.provider_limits import RateLimit

__all__ = ["LONGEST_PAUSE", "TokenBucket"]

#: Seconds without a refusal before a lowered rate grows, and seconds in which it then grows by its own amount.
QUIET: Final = 6.0
RAMP: Final = 2.5
#: Seconds without a refusal after which a learnt rate is forgotten, if none was configured.
LEARNT: Final = 60.0
#: The first pause after a refusal that states no time. Each further refusal in a row doubles it.
FIRST_PAUSE: Final = 1.0
#: The longest pause of this kind.
LONGEST_PAUSE: Final = 30.0

# The lowest rate: one fetch per minute.
_LEAST: Final = 1.0 / 60.0
# The rate of answers is measured over at least this many seconds.
_MEASURED: Final = 5.0


@final
class TokenBucket:
    """
    A token bucket for all keys of a provider.

    A refusal (429, 503) halves the rate at once. If there was no rate, or it was growing, the new rate is the measured
    one from before the refusal. It stays for a while, and then grows steadily up to the configured rate.

    Args:
        limit: The limit of the provider, if known.
    """

    __slots__ = (
        "_answered",
        "_at",
        "_base",
        "_before",
        "_before_from",
        "_burst",
        "_ceiling",
        "_contended",
        "_counted_from",
        "_in_a_row",
        "_level",
        "_noticed_at",
        "_since",
        "free",
    )

    def __init__(self, limit: RateLimit | None) -> None:
        self._ceiling = math.inf if limit is None else limit.rate
        #: Whether the rate is unlimited.
        self.free: bool = limit is None
        self._burst = 1.0 if limit is None else limit.together
        self._level = self._burst
        self._contended = False
        self._at = -math.inf
        # The lowered rate, and the instant since which there was no refusal.
        self._base: float | None = None
        self._since = -math.inf
        self._noticed_at = -math.inf
        self._in_a_row = 0
        # The number of answers in the present part of the measured time, and in the previous part.
        self._answered, self._counted_from = 0, -math.inf
        self._before, self._before_from = 0, -math.inf

    def rate(self, now: float, /) -> float:
        """Return the fetches per second that are allowed at *now*. It is infinite if there is no limit."""
        base = self._base
        if base is None:
            return self._ceiling
        quiet = now - self._since
        if quiet <= QUIET:
            return base
        grown = base * (1.0 + (quiet - QUIET) / RAMP)
        if grown < self._ceiling and (quiet < LEARNT or self._ceiling < math.inf):
            return grown
        self._base = None
        self.free = self._ceiling == math.inf
        return self._ceiling

    def wait(self, now: float, /) -> float:
        """Return the seconds until a fetch may start, or 0."""
        rate = self._refill(now)
        return 0.0 if self._level >= 1.0 or rate == math.inf else (1.0 - self._level) / rate

    def take(self, now: float, /) -> None:
        """A fetch starts. If it could not wait, it uses up the allowance of a later one."""
        self._refill(now)
        self._level -= 1.0

    def give_back(self) -> None:
        """A fetch that was started did not ask the provider."""
        self._level = min(self._level + 1.0, self._burst)

    def shut(self) -> None:
        """A fetch found the quota of the fleet used up. Until one succeeds, only one at a time tries."""
        self._contended = True
        self._level = min(self._level + 1.0, 1.0)

    def opened(self) -> None:
        """The quota of the fleet had something left."""
        self._contended = False

    def answered(self, now: float, /) -> None:
        """A fetch was answered without a refusal."""
        self._in_a_row = 0
        self._roll(now)
        self._answered += 1

    def refused(self, now: float, began: float, asked: float | None, longest: float, /) -> float:
        """
        A fetch that began at *began* was refused. Return the seconds in which no fetch starts.

        Args:
            now: The present instant.

            began: The start of the fetch. Among fetches that ran together, only the first refusal lowers the rate.

            asked: The seconds that the provider asked to wait, if it did.

            longest: The longest pause if the provider stated no time.
        """
        known = began <= self._noticed_at
        self._in_a_row += not known
        doubled = FIRST_PAUSE * 2.0 ** min(max(self._in_a_row - 1, 0), 30)
        pause = min(doubled, longest) if asked is None else asked
        end = now + pause
        rate = self._refill(now)
        # A refusal of the very next fetch carries no new information.
        if not known and (self._in_a_row == 1 or rate == math.inf):
            growing = rate == math.inf or (self._base is not None and rate > self._base)
            measured = self._measured(now, end)
            lowered = min(measured, rate) if growing and measured > 0.0 else 1.0 if rate == math.inf else rate / 2.0
            self._base = max(lowered, _LEAST)
            self.free = False
        if not known:
            self._level = min(self._level, 0.0)
            self._noticed_at = now
            self._answered, self._before, self._counted_from, self._before_from = 0, 0, end, end
        self._since = max(self._since, end)
        return pause

    def taken(self, now: float, /) -> bool:
        """Tell whether fetches were answered recently."""
        return self._measured(now, now) > 0.0

    # How

    def _refill(self, now: float) -> float:
        rate = self.rate(now)
        # Another loop may have another clock, so a negative difference does not count.
        passed, self._at = max(now - self._at, 0.0), now
        burst = 1.0 if self._base is not None or self._contended else self._burst
        grown = self._level + passed * rate if rate < math.inf else burst
        self._level = min(grown, burst)
        return rate

    def _roll(self, now: float) -> None:
        if now - self._counted_from < _MEASURED:
            return
        recent = now - self._counted_from < 2.0 * _MEASURED
        self._before, self._before_from = (self._answered, self._counted_from) if recent else (0, now)
        self._answered, self._counted_from = 0, now

    def _measured(self, now: float, end: float) -> float:
        self._roll(now)
        return (self._answered + self._before) / max(end - self._before_from, 0.001)
