"""The limits of a provider, as its user states them: a rate of requests, and a number of tokens per period."""

from __future__ import annotations

import sys
from typing import Final, final

from evertoken._model.frozen import Frozen, frozen

__all__ = ["Budget", "RateLimit"]

# The used part of the allowed rate. It is below 1, because requests take a varying time to arrive.
_USED: Final = 0.95
# The part of the requests that may start together if no burst is given.
_TOGETHER: Final = 0.03


@final
@frozen()
class RateLimit(Frozen):
    """
    How often a provider may be asked, for all keys together. The manager uses nineteen of twenty allowed requests.

    Args:
        requests: The number of token requests that the provider allows.

        per: The length of the period for these requests, in seconds.

        burst:
            The number of requests it allows at once, if it counts with a token bucket. By default requests are spread
            evenly, which suits providers that count the requests of the last *per* seconds.

        concurrency: The number of requests that may be under way at once. The default is the manager's `concurrency=`.

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
        """The number of fetches per second that may start in the long run."""
        return _USED * self.requests / self.per

    @property
    def together(self) -> float:
        """The number of fetches that may start at once after a pause."""
        return max(1.0, self.requests * _TOGETHER) if self.burst is None else float(self.burst)


@final
@frozen()
class Budget(Frozen):
    """
    How many tokens a provider may issue in each period, for all keys together.

    Periods begin at whole multiples of *per* since 1970-01-01T00:00:00Z, so a day is a day of UTC.

    Args:
        tokens: The number of tokens.

        per: The length of a period in seconds.

        hard:
            Whether all fetches stop when the tokens are used up. By default only refreshes ahead of expiry stop, and a
            token is still fetched if a caller waits for it.

    Raises:
        TypeError: *hard* is not a bool.
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
    # isfinite() is not used, because it overflows for a very large int.
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not number or value <= 0:  # type: ignore[operator]  # a number
        msg = f"{name} must be a finite number above 0, not {value!r}"
        raise ValueError(msg)


def _count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= sys.maxsize:
        msg = f"{name} must be a whole number of at least 1, not {value!r}"
        raise ValueError(msg)
