"""
Whether a provider is down: failures in a row, over all its keys, and when it is probed.

Pure: instants are monotonic seconds that come in, and only their differences mean anything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, final

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.errors import TransientRefreshError

__all__ = ["Outage", "says_nothing"]

#: Failures in a row, over several keys or of the only one, that take a provider down.
OVER_SEVERAL: Final = 3
OF_ONE: Final = 5
#: Seconds between two summaries.
SUMMARY: Final = 60.0

# The one status of 400 to 499 by which a server says that it was not asked in time (RFC 9110 section 15.5.9).
_TIMEOUT: Final = 408


def says_nothing(failure: TransientRefreshError, /) -> bool:
    """Tell whether *failure* was an answer to one request, or that too many were made: its provider is not down."""
    status = failure.status
    return status is not None and 400 <= status < 500 and status != _TIMEOUT  # noqa: PLR2004 - RFC 9110


@final
class Outage:
    """The failures of one provider since it last answered."""

    __slots__ = ("attempts", "down_at", "ended_at", "error", "failures", "key", "probe_at", "said_at", "several")

    def __init__(self) -> None:
        #: Failures in a row, the last one, its key, and whether other keys failed too.
        self.failures: int = 0
        self.error: TransientRefreshError | None = None
        self.key: Hashable = None
        self.several: bool = False
        #: When it went down, and how many attempts failed since then.
        self.down_at: float | None = None
        self.attempts: int = 0
        #: When the last attempt ended, when the next one may start, and when that was last told.
        self.ended_at: float = 0.0
        self.probe_at: float = 0.0
        self.said_at: float = 0.0

    def failed(
        self, key: Hashable, error: TransientRefreshError, now: float, /, *, alone: bool
    ) -> Literal["down", "still"] | None:
        """
        A fetch of *key* failed. Return what is to be told: that the provider is down, or still is.

        Args:
            key: The key.

            error: Why.

            now: When.

            alone: Whether no other key is known.
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
        """Somebody asks: the next attempt starts *delay* seconds after the last one ended, if it was planned later."""
        self.probe_at = min(self.probe_at, self.ended_at + delay)

    def closed(self) -> None:
        """The session has ended: the next one may try at once."""
        self.ended_at = self.probe_at = -math.inf
