"""Events about a provider, which many keys share."""

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
    Several fetches of a provider failed in a row. From now on, one attempt at a time is made for all keys together.

    Args:
        provider: The name of the provider.

        error: The last failure.

        failures: The number of failures in a row, including this one.

        retry_at: When the next attempt starts (epoch seconds), unless a caller asks earlier.
    """

    provider: str
    error: TransientRefreshError
    failures: int
    retry_at: float


@final
@frozen()
class ProviderStillDown(Event):
    """
    A provider is still down. This is sent once a minute at most.

    Args:
        provider: The name of the provider.

        error: The last failure.

        since: When it went down (epoch seconds).

        attempts: The number of failed attempts since then.

        waiting: The number of keys that wait for it.
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
        provider: The name of the provider.

        since: When it went down (epoch seconds).

        took: The seconds that it was down.

        attempts: The number of failed attempts in that time.

        waiting: The number of keys that waited for it.
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
    A part of the budget of a provider is used, that is, of the tokens that it may issue in a period.

    Args:
        provider: The name of the provider.

        share: 0.5, 0.8 or 1.0. Each is reported once per period.

        used: Tokens that were issued in this period.

        tokens: The number of tokens in the budget.

        until: When the period ends (epoch seconds).
    """

    provider: str
    share: float
    used: int
    tokens: int
    until: float
