"""
A queue of items by instant. A new instant of an item replaces the previous one.

Each item provides a slot, `deadline`, so the queue needs no table: a heap entry counts only if it matches its item. So
a key costs one pair in one list.
"""

from __future__ import annotations

import heapq
import math
from typing import Final, Generic, Protocol, TypeVar, final

__all__ = ["Deadlines", "Due"]


# The size of the heap for each item in it. A larger value needs more memory, and a smaller one rebuilds it more often.
_ROOM: Final = 1.25


class Due(Protocol):
    """An item of the queue. Its `__lt__` only breaks ties, so any answer will do."""

    deadline: float | None

    def __lt__(self, other: object, /) -> bool: ...


ItemT = TypeVar("ItemT", bound=Due)


@final
class Deadlines(Generic[ItemT]):
    """A heap of instants in which each item has at most one entry that counts."""

    __slots__ = ("_armed", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, ItemT]] = []
        self._armed = 0

    def __len__(self) -> int:
        return self._armed

    def set(self, item: ItemT, instant: float, /) -> None:
        """
        Put *item* at *instant*. It leaves its previous place.

        Raises:
            ValueError: The instant is not finite. The item would have no place, or block all items after it.
        """
        if not -math.inf < instant < math.inf:
            msg = f"a deadline must be a finite instant, not {instant!r}"
            raise ValueError(msg)
        self.discard(item)
        item.deadline = instant
        self._armed += 1
        heapq.heappush(self._heap, (instant, item))

    def discard(self, item: ItemT, /) -> None:
        """Remove *item*, if it is in the queue."""
        if item.deadline is None:
            return
        item.deadline = None
        self._armed -= 1
        # Most entries that no longer count are far in the future, and would stay for hours.
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
        Return the items that are due at *now*, in order, at most *most* of them. Each is set to *again_at*.

        So an item stays in the queue, even if its receiver fails.
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
