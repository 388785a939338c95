"""What has taken how long. These events are made for those who measure, and only if somebody listens."""

from __future__ import annotations

from typing import final

from evertoken._model.events import Event
from evertoken._model.frozen import frozen

__all__ = ["CallerWaited", "StoreUsed"]


@final
@frozen()
class CallerWaited(Event):
    """
    A call of `get` found no token that it could return at once, and has ended.

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
    A store did what was asked of it.

    Args:
        operation: "begin", "read", "mark", "commit" or "abandon".

        took: Seconds from the call to its answer.
    """

    operation: str
    took: float
