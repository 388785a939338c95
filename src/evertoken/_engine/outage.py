"""
Decides whether a provider is down, from failures in a row over all its keys, and when to probe it.

This is pure: callers pass instants in monotonic seconds. Only their differences have a meaning.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, final

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.errors import TransientRefreshError

__all__ = ["Outage", "says_nothing"]

#: The number of failures in a row after which a provider is down: over several keys, and for its only key.
OVER_SEVERAL: Final = 3
OF_ONE: Final = 5
#: Seconds between two summaries.
SUMMARY: Final = 60.0

# The only status from 400 to 499 that means that the server did not receive a request in time (RFC 9110 section
# 15.5.9).
_TIMEOUT: Final = 408


def says_nothing(failure: TransientRefreshError, /) -> bool:
    """Tell whether *failure* concerns one request, or says that there were too many. Then the provider is not down."""
    status = failure.status
    return status is not None and 400 <= status < 500 and status != _TIMEOUT  # noqa: PLR2004 - RFC 9110


@final
class Outage:
    """The failures of one provider since it last answered."""

    __slots__ = ("attempts", "down_at", "ended_at", "error", "failures", "key", "probe_at", "said_at", "several")

    def __init__(self) -> None:
        #: The number of failures in a row, the last one, its key, and whether other keys failed too.
        self.failures: int = 0
        self.error: TransientRefreshError | None = None
        self.key: Hashable = None
        self.several: bool = False
        #: When the provider went down, and the number of failed attempts since then.
        self.down_at: float | None = None
        self.attempts: int = 0
        #: When the last attempt ended, when the next one may start, and when that was last reported.
        self.ended_at: float = 0.0
        self.probe_at: float = 0.0
        self.said_at: float = 0.0

    def failed(
        self, key: Hashable, error: TransientRefreshError, now: float, /, *, alone: bool
    ) -> Literal["down", "still"] | None:
        """
        A fetch of *key* failed. Return the news for observers: the provider is down, or is still down.

        Args:
            key: The key.

            error: The failure.

            now: The instant of the failure.

            alone: Whether the provider has no other known key.
        """
        self.several = self.several or (self.failures > 0 and key != self.key)
        self.failures += 1
        self.error, self.key, self.ended_at = error, key, now
        if self.down_at is not None:
            self.attempts += 1
            if now - self.said_at < SUMMARY:
                return None
            self.said_at = now
            return "still"
        if self.failures < (OVER_SEVERAL if self.several else OF_ONE) or not (self.several or alone):
            return None
        self.down_at = self.said_at = now
        return "down"

    def hurried(self, delay: float, /) -> None:
        """
        A caller asks. The next attempt starts *delay* seconds after the last one ended, if it was planned for later.
        """
        self.probe_at = min(self.probe_at, self.ended_at + delay)

    def closed(self) -> None:
        """The session has ended. The next session may try at once."""
        self.ended_at = self.probe_at = -math.inf
