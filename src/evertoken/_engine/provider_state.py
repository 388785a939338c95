"""
The state of one provider: its limits, and the facts that its answers showed. It is plain data and outlives sessions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.rate_limit import LONGEST_PAUSE, TokenBucket
from evertoken._engine.spending import Spending

if TYPE_CHECKING:
    from evertoken._engine.outage import Outage
    from evertoken._model.errors import TransientRefreshError
    from evertoken._model.provider_limits import Budget, RateLimit

__all__ = ["ProviderState"]

# The number of fetches that may be under way when a provider has just come back.
_FIRST: Final = 2

_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503


@final
class ProviderState:
    """
    One provider, as all its keys see it. Instants are monotonic seconds, but those of the budget are epoch seconds.

    Args:
        name: Its name in events and snapshots.

        named: Whether its sources state the name. Otherwise the name is derived from the source.
    """

    __slots__ = (
        "attempts",
        "bucket",
        "error",
        "held_until",
        "last_outage",
        "limit",
        "name",
        "named",
        "outage",
        "room",
        "shut_until",
        "spending",
    )

    def __init__(self, name: str, *, named: bool) -> None:
        self.name: str = name
        self.named: bool = named
        self.limit: RateLimit | None = None
        #: The number of fetches that were started, and the last failure.
        self.attempts: int = 0
        self.error: TransientRefreshError | None = None
        self.bucket: TokenBucket = TokenBucket(None)
        # A healthy provider without limits has none of these three.
        self.outage: Outage | None = None
        self.spending: Spending | None = None
        self.held_until: float | None = None
        #: The instant until which the fleet has used up its common quota.
        self.shut_until: float = -math.inf
        #: When the last outage began and ended (epoch seconds).
        self.last_outage: tuple[float, float] = (math.inf, -math.inf)
        #: The number of fetches that may be under way at the start and just after an outage. Each answer adds one.
        self.room: float = math.inf

    def allow(self, limit: RateLimit | None, budget: Budget | None, /) -> None:
        """Note the limits of the provider. If there are two, the lower one counts."""
        if limit is not None and (self.limit is None or limit.rate < self.limit.rate):
            self.limit, self.bucket = limit, TokenBucket(limit)
            if limit.burst is None and not self.attempts:
                # The first request also connects, so it takes longer. Later requests must not arrive together with it.
                self.room = 1.0
        if budget is not None:
            before = None if self.spending is None else self.spending.budget
            if before is None or budget.tokens * before.per < before.tokens * budget.per:
                self.spending = Spending(budget)

    @staticmethod
    def is_refusal(failure: TransientRefreshError, /) -> bool:
        """
        Tell whether *failure* says that there were too many requests (RFC 6585 section 4, RFC 9110 section 15.6.4).
        """
        return failure.retry_after is not None or failure.status in {_TOO_MANY, _UNAVAILABLE}

    @property
    def calm(self) -> bool:
        """Whether only the number of running fetches can delay a fetch."""
        return self.held_until is None and self.outage is None and self.spending is None and self.bucket.free

    @property
    def is_down(self) -> bool:
        """Whether only one attempt at a time is made for all keys."""
        return self.outage is not None and self.outage.down_at is not None

    def opens_in(self, now: float, wall: float, /, *, under_way: int, urgent: bool) -> float:
        """
        Return the seconds until one fetch may start, or 0. All rules for that are here.

        Args:
            now: The monotonic clock.

            wall: The wall clock.

            under_way: The number of fetches under way. If one of them must end first, the answer is infinite.

            urgent: Whether a caller waits for it.
        """
        wait = max(self.held_for(now), self.shut_until - now, self.bucket.wait(now))
        if self.outage is not None and self.outage.down_at is not None:
            wait = math.inf if under_way else max(wait, self.outage.probe_at - now)
        if self.spending is not None and self.spending.exhausted(wall, under_way=under_way, urgent=urgent):
            free = not self.spending.exhausted(wall, under_way=0, urgent=urgent)
            wait = math.inf if free else max(wait, self.spending.until(wall) - wall)
        return wait

    def held_for(self, now: float, /) -> float:
        """Return the seconds until the pause ends that the provider asked for."""
        if self.held_until is None:
            return 0.0
        left = self.held_until - now
        if left <= 0.0:
            self.held_until = None
        return max(left, 0.0)

    def shut(self, now: float, wait: float, /, *, paused: bool) -> None:
        """The quota of the fleet opens in *wait* seconds. It is used up, or the provider asked for a pause."""
        if paused:
            self.held_until = now + max(self.held_for(now), wait)
        else:
            self.shut_until = now + wait

    def refused(
        self, failure: TransientRefreshError, now: float, began: float, /, *, under_way: int, longest: float
    ) -> None:
        """
        A fetch that began at *began* was refused: slow down, and start nothing while the provider wants a pause.

        Args:
            failure: The refusal.

            now: The present instant.

            began: The start of that fetch.

            under_way: The number of fetches under way, including this one.

            longest: The longest wait that a provider can ask for.
        """
        asked = None if failure.retry_after is None else min(max(failure.retry_after, 0.0), longest)
        too_many = failure.status == _TOO_MANY
        if too_many or not self.bucket.free or (failure.status is None and self.bucket.taken(now)):
            # An overloaded provider that states no time is probed like one that is down.
            asked = self.bucket.refused(now, began, asked, LONGEST_PAUSE if too_many else 0.0)
        elif self.room > _FIRST:
            # The allowed rate is unknown, and this does not guess it. Running fewer fetches at once is enough.
            self.room = max(float(_FIRST), min(self.room, under_way) / 2.0)
        if asked is not None and asked > 0.0:
            self.held_until = now + max(self.held_for(now), asked)

    def answered(self, now: float, /) -> Outage | None:
        """A fetch was answered. If the provider was down, return the outage that has ended."""
        self.bucket.answered(now)
        self.room += 1.0
        outage, self.outage = self.outage, None
        if outage is None or outage.down_at is None:
            return None
        self.room = _FIRST
        return outage

    def closed(self) -> None:
        """The session has ended, and all its fetches too."""
        if self.outage is not None:
            self.outage.closed()
