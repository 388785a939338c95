"""What can happen to the supervisor and to its clock."""

from __future__ import annotations

from typing import final

from evertoken._model.events import Event
from evertoken._model.frozen import frozen

__all__ = ["ClockStepped", "SupervisorRestarted"]


@final
@frozen()
class ClockStepped(Event):
    """
    Wall clock and monotonic clock diverged: a step, or a suspend.

    Args:
        by: Seconds the wall clock moved beyond the monotonic one; negative for a step back.
    """

    by: float


@final
@frozen()
class SupervisorRestarted(Event):
    """
    The supervisor's loop crashed and runs again.

    Args:
        error: The class and words of what it raised, scrubbed.

        restarts: How often so far.
    """

    error: str
    restarts: int
