"""Events about durations. They are for monitoring, and are only created if somebody listens."""

from __future__ import annotations

from typing import final

from evertoken._model.events import Event
from evertoken._model.frozen import frozen

__all__ = ["CallerWaited", "StoreUsed"]


@final
@frozen()
class CallerWaited(Event):
    """
    A call of `get` has ended that could not return a token at once.

    Args:
        took: Seconds from the call to its end.

        served: Whether the call returned a token.
    """

    took: float
    served: bool


@final
@frozen()
class StoreUsed(Event):
    """
    An operation of the store succeeded.

    Args:
        operation: "begin", "read", "mark", "commit" or "abandon".

        took: Seconds from the call to its answer.
    """

    operation: str
    took: float
