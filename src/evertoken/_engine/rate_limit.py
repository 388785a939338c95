"""
How many calls may run at once for one provider, and who is next.

A lane starts no task for what waits: a burst of a hundred thousand due keys costs a queue entry each.
"""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

__all__ = ["Lanes"]

T = TypeVar("T")


@final
class _Lane:
    __slots__ = ("filling", "running", "urgent", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.filling = False
        self.urgent: deque[Callable[[], bool]] = deque()
        self.waiting: deque[Callable[[], bool]] = deque()


@final
class Lanes:
    """
    A cap on concurrent calls for each provider, first come first served; calls that somebody waits for go first.

    Args:
        limit: Calls that may run at once for one provider.
    """

    __slots__ = ("_lanes", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self._lanes: dict[Hashable, _Lane] = {}

    @property
    def queued(self) -> int:
        """
        How many calls wait for their turn.
        """
        # A list, for this may be asked on another thread than that on which lanes come and go.
        return sum(len(lane.urgent) + len(lane.waiting) for lane in list(self._lanes.values()))

    def enter(self, provider: Hashable, start: Callable[[], bool], *, urgent: bool) -> None:
        """
        Call *start* now if the provider's lane has room, else when its turn comes.

        *start* returns False where there is nothing left to start, and then takes no place. So a call that waits
        may be entered again as urgent.
        """
        lane = self._lanes.get(provider)
        if lane is None:
            lane = self._lanes[provider] = _Lane()
        if lane.running < self.limit or _INSIDE.get() is self:
            lane.running += 1
            if not start():
                self.leave(provider)
        else:
            (lane.urgent if urgent else lane.waiting).append(start)

    async def inside(self, call: Callable[[], Awaitable[T]]) -> T:
        """
        Await a *call* that has a place, in a context of its own. What it enters in turn starts at once.

        It waits for that, and a lane full of calls that wait for what is queued behind them would stand still.
        """
        _INSIDE.set(self)
        return await call()

    def leave(self, provider: Hashable) -> None:
        """
        Give the place of an ended call to the next; drop a lane that nobody uses.
        """
        lane = self._lanes.get(provider)
        if lane is None:
            return
        lane.running -= 1
        if lane.filling:
            # A call that ended while it started; the loop below sees the place it left.
            return
        lane.filling = True
        try:
            while lane.running < self.limit and (lane.urgent or lane.waiting):
                lane.running += 1
                if not (lane.urgent or lane.waiting).popleft()():
                    lane.running -= 1
        finally:
            lane.filling = False
        if not lane.running:
            self._lanes.pop(provider, None)

    def clear(self) -> None:
        """
        Forget all that wait.
        """
        for lane in self._lanes.values():
            lane.urgent.clear()
            lane.waiting.clear()

    def reset(self) -> None:
        """
        Forget all that wait and all that run.
        """
        self._lanes.clear()


_INSIDE: Final[ContextVar[Lanes | None]] = ContextVar("inside", default=None)
