"""What can happen to a provider, which many keys share."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evertoken._model.events import Event
from evertoken._model.frozen import frozen

if TYPE_CHECKING:
    from evertoken._model.errors import TransientRefreshError

__all__ = ["BudgetReached", "ProviderDown", "ProviderStillDown", "ProviderUp"]


@final
@frozen()
class ProviderDown(Event):
    """
    Fetches of a provider fail in a row. From now on one attempt at a time stands for all keys.

    Args:
        provider: Its name.

        error: The last failure.

        failures: Failures in a row, this one included.

        retry_at: When it is tried again (epoch seconds), or earlier if somebody asks.
    """

    provider: str
    error: TransientRefreshError
    failures: int
    retry_at: float


@final
@frozen()
class ProviderStillDown(Event):
    """
    A provider is down still. Said once a minute at most.

    Args:
        provider: Its name.

        error: The last failure.

        since: When it went down (epoch seconds).

        attempts: Failed attempts since then.

        waiting: How many keys wait for it.
    """

    provider: str
    error: TransientRefreshError
    since: float
    attempts: int
    waiting: int


@final
@frozen()
class ProviderUp(Event):
    """
    A provider that was down has answered. The keys that wait are fetched now, within its limits.

    Args:
        provider: Its name.

        since: When it went down (epoch seconds).

        took: Seconds that it was down.

        attempts: Failed attempts meanwhile.

        waiting: How many keys waited for it.
    """

    provider: str
    since: float
    took: float
    attempts: int
    waiting: int


@final
@frozen()
class BudgetReached(Event):
    """
    A share of the tokens that a provider may issue in a period is used.

    Args:
        provider: Its name.

        share: 0.5, 0.8 or 1.0. Each is said once a period.

        used: Tokens that were issued in this period.

        tokens: How many the budget has.

        until: When the period ends (epoch seconds).
    """

    provider: str
    share: float
    used: int
    tokens: int
    until: float
