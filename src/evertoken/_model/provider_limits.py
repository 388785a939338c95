"""What a provider allows, as its user knows it: how often it may be asked, and how many tokens it may issue."""

from __future__ import annotations

import sys
from typing import Final, final

from evertoken._model.frozen import Frozen, frozen

__all__ = ["Budget", "RateLimit"]

# The part of the allowed rate that is used: the way of a request takes now longer and now shorter.
_USED: Final = 0.95
# The part of the requests that may start together where no burst is given.
_TOGETHER: Final = 0.03


@final
@frozen()
class RateLimit(Frozen):
    """
    How often a provider may be asked, over all keys. Nineteen of twenty allowed requests are used.

    Args:
        requests: How many token requests it allows.

        per: In how many seconds.

        burst:
            How many it allows at once, where it counts with a token bucket. By default requests are spread evenly, as
            for providers that count the requests of the last *per* seconds.

        concurrency: How many may be under way at once. By default the manager's `concurrency=`.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    requests: float
    per: float
    burst: int | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        _positive("requests", self.requests)
        _positive("per", self.per)
        for name in ("burst", "concurrency"):
            if getattr(self, name) is not None:
                _count(name, getattr(self, name))

    @property
    def rate(self) -> float:
        """Fetches a second that are started in the long run."""
        return _USED * self.requests / self.per

    @property
    def together(self) -> float:
        """Fetches that may start at once after a pause."""
        return max(1.0, self.requests * _TOGETHER) if self.burst is None else float(self.burst)


@final
@frozen()
class Budget(Frozen):
    """
    How many tokens a provider may issue in each period, over all keys.

    Periods begin at whole multiples of *per* since 1970-01-01T00:00:00Z, so a day is a day of UTC.

    Args:
        tokens: How many.

        per: The length of a period in seconds.

        hard:
            Whether nothing is fetched any more when they are used up. By default only refreshes ahead of expiry stop:
            a token that somebody waits for is fetched.

    Raises:
        TypeError: *hard* is no bool.
        ValueError: A value is out of range; the message names it.
    """

    tokens: int
    per: float
    hard: bool = False

    def __post_init__(self) -> None:
        _count("tokens", self.tokens)
        _positive("per", self.per)
        if not isinstance(self.hard, bool):
            msg = f"hard must be a bool, not {type(self.hard).__name__}"
            raise TypeError(msg)


def _positive(name: str, value: object) -> None:
    # Not isfinite(): that overflows where an int does.
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not number or value <= 0:  # type: ignore[operator]  # a number
        msg = f"{name} must be a finite number above 0, not {value!r}"
        raise ValueError(msg)


def _count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= sys.maxsize:
        msg = f"{name} must be a whole number of at least 1, not {value!r}"
        raise ValueError(msg)
