"""The flights of one provider that wait for their turn, and the order among them."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evertoken._engine.provider_state import ProviderState
    from evertoken._model.protocols import Timer

__all__ = ["FetchQueue", "Start", "Turn"]

#: Starts a flight. It returns False if there is nothing left to start.
Start: TypeAlias = Callable[[], bool]

_NONE: Final[OrderedDict[Any, Any]] = OrderedDict()
_NO_HEAP: Final[list[Any]] = []


class Turn(Hashable, Protocol):
    """A flight that waits for its turn."""

    #: Whether it counts as a fetch, and was started as one.
    counted: bool

    def __len__(self) -> int:
        """Return the number of callers that wait for it."""

    def is_inside(self) -> bool:
        """Tell whether a fetch that holds a place waits for it."""

    def wake(self) -> None:
        """Let its waiters check again."""


@final
class FetchQueue:
    """
    The waiting flights in order.

    Flights that only look at the store come first, because they ask no provider. Then come the fetches for which
    somebody waits, in order of arrival. A refresh ahead of expiry has an instant from which it counts as one of those.
    Until then it comes after them, the earliest instant first.
    """

    __slots__ = (
        "_ahead",
        "_heap",
        "_looks",
        "_number",
        "_urgent",
        "filling",
        "running",
        "state",
        "timer",
        "timer_at",
        "under_way",
        "used",
    )

    def __init__(self, state: ProviderState) -> None:
        self.state = state
        #: The number of flights that hold a place, and the number of fetches among them.
        self.running: int = 0
        self.under_way: int = 0
        self.filling: bool = False
        #: A timer for the instant at which the next fetch may start, if that depends on the time.
        self.timer: Timer | None = None
        self.timer_at: float = 0.0
        #: Whether a flight ever had to wait. The collections below are only made then.
        self.used: bool = False
        self._looks: OrderedDict[Turn, Start] = _NONE
        self._urgent: OrderedDict[Turn, tuple[float, Start]] = _NONE
        self._ahead: dict[Turn, tuple[float, int, Start]] = _NONE
        # An entry counts only if it matches the dict.
        self._heap: list[tuple[float, int, Turn]] = _NO_HEAP
        self._number = 0

    def __len__(self) -> int:
        return len(self._looks) + len(self._urgent) + len(self._ahead)

    @property
    def fetches(self) -> int:
        """The number of waiting fetches."""
        return len(self._urgent) + len(self._ahead)

    def put_back(self, turn: Turn, start: Start, *, since: float | None, by: float) -> None:
        """Let *turn* wait again although its turn had come. It goes before all others of the same urgency."""
        self.put(turn, start, counts=True, since=since, by=by)
        if since is not None:
            self._urgent.move_to_end(turn, last=False)

    def urge(self, turn: Turn, since: float) -> None:
        """A caller now waits for *turn*."""
        found = self._ahead.get(turn)
        if found is not None:
            self.put(turn, found[2], counts=True, since=since, by=since)

    def put(self, turn: Turn, start: Start, *, counts: bool, since: float | None, by: float) -> None:
        """
        Let *turn* wait. If it waits already, it is only moved if it has become more urgent.

        Args:
            turn: The flight that waits.

            start: The function to call when its turn has come.

            counts: Whether it is a fetch, and not only a look at the store.

            since: The instant since which a caller waits for it, if a caller does.

            by: The instant from which it is as urgent as with a waiting caller.
        """
        if not self.used:
            self.used = True
            self._looks, self._urgent, self._ahead, self._heap = OrderedDict(), OrderedDict(), {}, []
        if turn in self._urgent or (turn in self._ahead and since is None):
            return
        if not counts:
            if turn not in self._ahead:
                self._looks.setdefault(turn, start)
            return
        self.discard(turn)
        if since is not None:
            self._urgent[turn] = since, start
            return
        self._number += 1
        self._ahead[turn] = by, self._number, start
        if len(self._heap) > 2 * len(self._ahead) + 64:
            self._heap = [entry for entry in self._heap if self._counts(entry)]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (by, self._number, turn))

    def discard(self, turn: Turn) -> None:
        """Remove *turn*, if it is in the queue."""
        if self.used:
            self._looks.pop(turn, None)
            self._urgent.pop(turn, None)
            self._ahead.pop(turn, None)

    def look(self) -> tuple[Turn, Start] | None:
        """Remove and return the next flight that only looks at the store."""
        return self._looks.popitem(last=False) if self._looks else None

    def next(self, *, urgent: bool) -> tuple[Turn, Start, bool] | None:
        """Return the next fetch, and whether a caller waits for it. With *urgent*, only such fetches are considered."""
        first = next(iter(self._urgent.items()), None)
        ahead = None if urgent else self._first_ahead()
        if first is None and ahead is None:
            return None
        if first is not None and (ahead is None or first[1][0] <= ahead[0]):
            turn, (_, start) = first
            return turn, start, True
        turn = ahead[2]  # type: ignore[index]  # there is one
        return turn, self._ahead[turn][2], False

    def soonest(self) -> float | None:
        """Return the earliest instant at which a refresh ahead of expiry becomes urgent."""
        first = self._first_ahead()
        return None if first is None else first[0]

    def asked_for(self) -> bool:
        """Tell whether a caller waits for any fetch."""
        return any(map(len, self._urgent))

    def turns(self) -> Iterator[tuple[Turn, Start, bool]]:
        """Yield all waiting flights, and whether each counts as a fetch."""
        for turn, start in list(self._looks.items()):
            yield turn, start, False
        for turn, (_, start) in list(self._urgent.items()):
            yield turn, start, True
        for turn, (_, _, start) in list(self._ahead.items()):
            yield turn, start, True

    def __contains__(self, turn: Turn) -> bool:
        return turn in self._looks or turn in self._urgent or turn in self._ahead

    def clear(self) -> None:
        """Remove all waiting flights."""
        self.stop()
        if self.used:
            for waiting in (self._looks, self._urgent, self._ahead, self._heap):
                waiting.clear()

    def stop(self) -> None:
        """Stop the timer."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()

    # How

    def _counts(self, entry: tuple[float, int, Turn]) -> bool:
        found = self._ahead.get(entry[2])
        return found is not None and found[1] == entry[1]

    def _first_ahead(self) -> tuple[float, int, Turn] | None:
        heap = self._heap
        while heap and not self._counts(heap[0]):
            heapq.heappop(heap)
        return heap[0] if heap else None
