"""Events about the supervisor and its clock."""

from __future__ import annotations

from typing import final

from evertoken._model.events import Event
from evertoken._model.frozen import frozen

__all__ = ["ClockStepped", "SupervisorRestarted"]


@final
@frozen()
class ClockStepped(Event):
    """
    The wall clock and the monotonic clock diverged: the clock was set, or the machine was suspended.

    Args:
        by: Seconds by which the wall clock moved more than the monotonic one. Negative for a step back.
    """

    by: float


@final
@frozen()
class SupervisorRestarted(Event):
    """
    The supervisor's loop crashed and runs again.

    Args:
        error: The class and the message of the exception, without secrets.

        restarts: The number of restarts so far.
    """

    error: str
    restarts: int
