"""The timetable of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self, final

__all__ = ["DEFAULT_RATE", "DEFAULT_SECONDS", "Plan"]

DEFAULT_SECONDS: Final = 20.0
DEFAULT_RATE: Final = 100.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    The demo's timetable, in seconds from its start.

    Args:
        seconds: The length of the demo.

        rate: Requests per second, for each side.

        lifetime: The lifetime of tokens.

        latency: The latency of the token endpoint.

        margin: How long before its end a token counts as expired for the snippet.

        retry: The first and the longest wait of evertoken's retries.

        outage: The begin and the end of the token endpoint's outage.

        revocation: When all access tokens are revoked.

        healing: How long requests may wait for the new token after that.
    """

    seconds: float
    rate: float
    lifetime: float
    latency: float
    margin: float
    retry: tuple[float, float]
    outage: tuple[float, float]
    revocation: float
    healing: float

    @classmethod
    def of(cls, seconds: float, rate: float) -> Self:
        """
        Return the timetable for a demo of *seconds* seconds. It is that of twenty seconds, slowed down or speeded up.

        With twenty seconds, tokens live for six seconds. evertoken refreshes them at half their life, at 3, 6, 9 and
        12 s. The snippet refreshes them at their end, just before 6 and 12 s. So the outage from 10.9 to 12.5 s affects
        both. The revocation comes between two refreshes.
        """
        scale = seconds / DEFAULT_SECONDS
        return cls(
            seconds=seconds,
            rate=rate,
            lifetime=6.0 * scale,
            latency=0.3 * scale,
            margin=0.3 * scale,
            retry=(0.2 * scale, 0.3 * scale),
            outage=(10.9 * scale, 12.5 * scale),
            revocation=14.7 * scale,
            healing=1.0 * scale,
        )

    def phase(self, at: float) -> str:
        """Describe the situation *at* seconds from the start."""
        if self.outage[0] <= at < self.outage[1]:
            return "the token endpoint is down (503)"
        if at >= self.revocation:
            return "all tokens were revoked" if at < self.revocation + self.healing else "after the revocation"
        return "all is well" if at < self.outage[0] else "after the outage"
