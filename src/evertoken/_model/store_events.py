"""Events about a store, which many keys share."""

from __future__ import annotations

from typing import final

from evertoken._model.events import Event
from evertoken._model.frozen import frozen

__all__ = ["StoreStillDown", "StoreUp"]


@final
@frozen()
class StoreStillDown(Event):
    """
    A step of the store has failed for every key since the last success. This is sent once a minute at most.

    Args:
        operation: The step, as in `StoreFailed`.

        error: The class and the message of the last failure, without secrets.

        since: When the first of these failures happened (epoch seconds).

        failures: The number of these failures.
    """

    operation: str
    error: str
    since: float
    failures: int


@final
@frozen()
class StoreUp(Event):
    """
    A step of the store that had failed several times in a row has succeeded.

    Args:
        operation: The step, as in `StoreFailed`.

        since: When the first of the failures happened (epoch seconds).

        took: Seconds from the first failure to this success.

        failures: The number of these failures.
    """

    operation: str
    since: float
    took: float
    failures: int
