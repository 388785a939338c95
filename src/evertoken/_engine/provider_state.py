"""What is known of one provider: its limits, and what its answers taught. Plain data, which outlives sessions."""

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

# Fetches that may be under way when a provider has just come back.
_FIRST: Final = 2

_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503


@final
class ProviderState:
    """
    One provider, as all its keys have found it. Instants are monotonic seconds, those of the budget epoch seconds.

    Args:
        name: How it is called in events and snapshots.

        named: Whether its sources say so themselves. The name of any other is made up.
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
        #: Fetches that were started, and the last failure.
        self.attempts: int = 0
        self.error: TransientRefreshError | None = None
        self.bucket: TokenBucket = TokenBucket(None)
        # What a healthy provider without limits does not have.
        self.outage: Outage | None = None
        self.spending: Spending | None = None
        self.held_until: float | None = None
        #: Until when the members of the fleet have used up what is allowed to them together.
        self.shut_until: float = -math.inf
        #: When the last outage began and ended (epoch seconds).
        self.last_outage: tuple[float, float] = (math.inf, -math.inf)
        #: How many fetches may be under way at first, and just after an outage. Each answer makes room for one more.
        self.room: float = math.inf

    def allow(self, limit: RateLimit | None, budget: Budget | None, /) -> None:
        """Take note of what it allows. Of two limits for one provider the lower one counts."""
        if limit is not None and (self.limit is None or limit.rate < self.limit.rate):
            self.limit, self.bucket = limit, TokenBucket(limit)
            if limit.burst is None and not self.attempts:
                # The first request takes longer, to connect. What follows it must not arrive together with it.
                self.room = 1.0
        if budget is not None:
            before = None if self.spending is None else self.spending.budget
            if before is None or budget.tokens * before.per < before.tokens * budget.per:
                self.spending = Spending(budget)

    @staticmethod
    def is_refusal(failure: TransientRefreshError, /) -> bool:
        """Tell whether *failure* says that too much was asked (RFC 6585 section 4, RFC 9110 section 15.6.4)."""
        return failure.retry_after is not None or failure.status in {_TOO_MANY, _UNAVAILABLE}

    @property
    def calm(self) -> bool:
        """Whether nothing holds any fetch up but the number of those under way."""
        return self.held_until is None and self.outage is None and self.spending is None and self.bucket.free

    @property
    def is_down(self) -> bool:
        """Whether one attempt at a time stands for all keys."""
        return self.outage is not None and self.outage.down_at is not None

    def opens_in(self, now: float, wall: float, /, *, under_way: int, urgent: bool) -> float:
        """
        Return the seconds until one fetch may start, 0 for now. This is the one place where that is decided.

        Args:
            now: The monotonic clock.

            wall: The wall clock.

            under_way: Fetches that are under way. Where their end decides, the answer is infinite.

            urgent: Whether somebody waits for it.
        """
        wait = max(self.held_for(now), self.shut_until - now, self.bucket.wait(now))
        if self.outage is not None and self.outage.down_at is not None:
            wait = math.inf if under_way else max(wait, self.outage.probe_at - now)
        if self.spending is not None and self.spending.exhausted(wall, under_way=under_way, urgent=urgent):
            free = not self.spending.exhausted(wall, under_way=0, urgent=urgent)
            wait = math.inf if free else max(wait, self.spending.until(wall) - wall)
        return wait

    def held_for(self, now: float, /) -> float:
        """Return the seconds until a pause ends that the provider asked for."""
        if self.held_until is None:
            return 0.0
        left = self.held_until - now
        if left <= 0.0:
            self.held_until = None
        return max(left, 0.0)

    def shut(self, now: float, wait: float, /, *, paused: bool) -> None:
        """The quota of the fleet opens in *wait* seconds: it is used up, or the provider asked for a pause."""
        if paused:
            self.held_until = now + max(self.held_for(now), wait)
        else:
            self.shut_until = now + wait

    def refused(
        self, failure: TransientRefreshError, now: float, began: float, /, *, under_way: int, longest: float
    ) -> None:
        """
        A fetch that began at *began* failed with a refusal: slow down, and start nothing for as long as was asked.

        Args:
            failure: How.

            now: When.

            began: When that fetch began.

            under_way: Fetches under way, this one included.

            longest: The longest that a provider may ask to wait.
        """
        asked = None if failure.retry_after is None else min(max(failure.retry_after, 0.0), longest)
        too_many = failure.status == _TOO_MANY
        if too_many or not self.bucket.free or (failure.status is None and self.bucket.taken(now)):
            # One that is overloaded and does not say how long is probed as one that is down.
            asked = self.bucket.refused(now, began, asked, LONGEST_PAUSE if too_many else 0.0)
        elif self.room > _FIRST:
            # How often it may be asked is not known, and no reason to guess: fewer fetches at once do.
            self.room = max(float(_FIRST), min(self.room, under_way) / 2.0)
        if asked is not None and asked > 0.0:
            self.held_until = now + max(self.held_for(now), asked)

    def answered(self, now: float, /) -> Outage | None:
        """A fetch was answered. Return the outage that ends with it, if the provider was down."""
        self.bucket.answered(now)
        self.room += 1.0
        outage, self.outage = self.outage, None
        if outage is None or outage.down_at is None:
            return None
        self.room = _FIRST
        return outage

    def closed(self) -> None:
        """The session has ended, and with it all fetches."""
        if self.outage is not None:
            self.outage.closed()
