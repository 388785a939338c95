"""
A store that fails for many keys: one of them a second tries it, and the log has a line a minute.

A store that hangs would otherwise hold each flight for seconds, and those of short tokens would come too late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from evertoken._model import store_events
from evertoken._model.events import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from evertoken._engine.observers import Observers
    from evertoken._model.protocols import Clock

__all__ = ["StoreOutage"]

#: Seconds between two summaries.
_SUMMARY: Final = 60.0

#: Failures in a row after which only one flight at a time tries the step.
_DOWN: Final = 3

#: Seconds between two tries of a store that is down. A try that hangs does not delay the next one.
_PAUSE: Final = 1.0


@dataclass
class _Failing:
    since: float
    told_at: float
    #: When the step is tried again, by the monotonic clock.
    next_at: float
    failures: int = 1
    #: Failures since the store was last heard of.
    row: int = 1
    #: Whether the last try took long.
    slow: bool = False


@final
class StoreOutage:
    """
    Counts the failures of each step of a store in a row, over all keys.

    The first failure is a warning. The following ones are DEBUG, because a store that is down fails for each key. After
    the third one the store counts as down: one flight a second tries the step, and the others do without it.

    Args:
        clock: Both clocks.

        observers: They are told of failures and of the end.

        came_back: Called when a step that was down has succeeded.
    """

    def __init__(self, clock: Clock, observers: Observers, *, came_back: Callable[[], object]) -> None:
        self._clock = clock
        self._observers = observers
        self._came_back = came_back
        self._failing: dict[str, _Failing] = {}

    @property
    def lasts(self) -> bool:
        """Whether a step has failed more than once since it last succeeded."""
        return any(failing.failures > 1 for failing in self._failing.values())

    def is_slow(self, operation: str) -> bool:
        """Tell whether the last try of *operation* failed after a while. Then nobody else should wait for it."""
        failing = self._failing.get(operation)
        return failing is not None and failing.slow

    def lets_through(self, operation: str) -> bool:
        """Tell whether to try *operation* now. The caller then tries it, and reports how that ended."""
        failing = self._failing.get(operation)
        if failing is None or failing.row < _DOWN:
            return True
        now = self._clock.monotonic()
        if now < failing.next_at:
            return False
        failing.next_at = now + _PAUSE
        return True

    def heard(self) -> None:
        """The store has reported that it can be reached: let all through until several steps fail again."""
        for failing in self._failing.values():
            failing.row = 0

    def failed(self, operation: str, key: Hashable, error: str, took: float) -> None:
        """Count a failure of *operation*, which took so many seconds, and tell the observers."""
        now, next_at = self._clock.time(), self._clock.monotonic() + _PAUSE
        failing = self._failing.get(operation)
        if failing is None:
            failing = self._failing[operation] = _Failing(now, now, next_at)
        else:
            failing.failures += 1
            failing.row += 1
            failing.next_at = next_at
        failing.slow = took >= _PAUSE
        outage = failing.failures > 1
        self._observers.emit(StoreFailed(at=now, key=key, operation=operation, error=error, outage=outage))
        # A clock that was set back must not silence the summaries.
        if abs(now - failing.told_at) >= _SUMMARY:
            failing.told_at = now
            self._observers.emit(
                store_events.StoreStillDown(
                    at=now, operation=operation, error=error, since=failing.since, failures=failing.failures
                )
            )

    def succeeded(self, operation: str) -> None:
        """Begin to count *operation* anew, and tell the observers if it had failed more than once."""
        if not self._failing:
            return
        failing = self._failing.pop(operation, None)
        if failing is None:
            return
        if failing.failures >= _DOWN:
            # Others were not let through meanwhile, and what they hold is offered to the store at once.
            self._came_back()
        if failing.failures > 1:
            now = self._clock.time()
            took = max(0.0, now - failing.since)
            self._observers.emit(
                store_events.StoreUp(
                    at=now, operation=operation, since=failing.since, took=took, failures=failing.failures
                )
            )
