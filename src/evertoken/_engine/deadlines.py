"""
A queue of items by instant, where setting an item's instant replaces the one before.

Items lend a slot, `deadline`, so that the queue needs no table of its own: a heap entry counts only while it
agrees with its item. That keeps a key to one pair in one list.
"""

from __future__ import annotations

import heapq
import math
from typing import Final, Generic, Protocol, TypeVar, final

__all__ = ["Deadlines", "Due"]


# How large the heap may become for each item in it: small enough for memory, large enough that few calls rebuild it.
_ROOM: Final = 1.25


class Due(Protocol):
    """What can stand in the queue. Its `__lt__` only breaks ties; any answer will do."""

    deadline: float | None

    def __lt__(self, other: object, /) -> bool: ...


ItemT = TypeVar("ItemT", bound=Due)


@final
class Deadlines(Generic[ItemT]):
    """A heap by instant, replaced by item."""

    __slots__ = ("_armed", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, ItemT]] = []
        self._armed = 0

    def __len__(self) -> int:
        return self._armed

    def set(self, item: ItemT, instant: float, /) -> None:
        """
        Put *item* at *instant*, instead of where it stood.

        Raises:
            ValueError: The instant is no finite number: the item would stand nowhere, or hold up all that come after.
        """
        if not -math.inf < instant < math.inf:
            msg = f"a deadline must be a finite instant, not {instant!r}"
            raise ValueError(msg)
        self.discard(item)
        item.deadline = instant
        self._armed += 1
        heapq.heappush(self._heap, (instant, item))

    def discard(self, item: ItemT, /) -> None:
        """Take *item* out, if it is in."""
        if item.deadline is None:
            return
        item.deadline = None
        self._armed -= 1
        # Most entries that no longer count lie far in the future, and would stay for hours.
        if len(self._heap) > 64 and len(self._heap) > _ROOM * self._armed:  # noqa: PLR2004 - small heaps cost nothing
            self._heap = [pair for pair in self._heap if pair[1].deadline is pair[0]]
            heapq.heapify(self._heap)

    def next(self) -> float:
        """Return the earliest instant, or infinity."""
        heap = self._heap
        while heap and heap[0][1].deadline is not heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def hand_out(self, now: float, again_at: float, most: int, /) -> list[ItemT]:
        """
        Return, in order, the items that are due at *now*, at the most so many. Each of them stands at *again_at* then.

        So an item that is in the queue stays in it, whatever its receiver does or fails to do.
        """
        due: list[ItemT] = []
        while len(due) < most and self.next() <= now and self._heap:
            item = self._heap[0][1]
            item.deadline = again_at
            heapq.heapreplace(self._heap, (again_at, item))
            due.append(item)
        return due

    def shift(self, seconds: float, /) -> None:
        """Move every instant by *seconds*."""
        items = [(instant + seconds, item) for instant, item in self._heap if item.deadline is instant]
        for instant, item in items:
            item.deadline = instant
        heapq.heapify(items)
        self._heap = items
