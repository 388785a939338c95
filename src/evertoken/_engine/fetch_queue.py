"""The flights of one provider that wait for their turn, and which is next."""

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

#: Starts a flight; returns False where there is nothing left to start.
Start: TypeAlias = Callable[[], bool]

_NONE: Final[OrderedDict[Any, Any]] = OrderedDict()
_NO_HEAP: Final[list[Any]] = []


class Turn(Hashable, Protocol):
    """What waits for its turn: a flight."""

    #: Whether it counts as a fetch, and was let through as one.
    counted: bool

    def __len__(self) -> int:
        """Return how many callers wait for it."""

    def is_inside(self) -> bool:
        """Tell whether a fetch that holds a place waits for it."""

    def wake(self) -> None:
        """Have those who wait for it look again."""


@final
class FetchQueue:
    """
    What waits, in order.

    Looks at the store ask no provider, and go first. Then come the fetches that somebody waits for, first come first
    served. A refresh ahead of expiry counts as one of them from an instant on that it brings; until then it goes after
    them, the earliest instant first.
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
        #: Flights that hold a place, and those among them that are fetches.
        self.running: int = 0
        self.under_way: int = 0
        self.filling: bool = False
        #: Set for the instant at which the next fetch may start, if a time decides that.
        self.timer: Timer | None = None
        self.timer_at: float = 0.0
        #: Whether anything ever had to wait. What follows is made then.
        self.used: bool = False
        self._looks: OrderedDict[Turn, Start] = _NONE
        self._urgent: OrderedDict[Turn, tuple[float, Start]] = _NONE
        self._ahead: dict[Turn, tuple[float, int, Start]] = _NONE
        # An entry counts only while it agrees with the dict.
        self._heap: list[tuple[float, int, Turn]] = _NO_HEAP
        self._number = 0

    def __len__(self) -> int:
        return len(self._looks) + len(self._urgent) + len(self._ahead)

    @property
    def fetches(self) -> int:
        """How many fetches wait."""
        return len(self._urgent) + len(self._ahead)

    def put_back(self, turn: Turn, start: Start, *, since: float | None, by: float) -> None:
        """Let *turn* wait once more, though its turn had come: ahead of all that are as urgent."""
        self.put(turn, start, counts=True, since=since, by=by)
        if since is not None:
            self._urgent.move_to_end(turn, last=False)

    def urge(self, turn: Turn, since: float) -> None:
        """Somebody waits for *turn* now."""
        found = self._ahead.get(turn)
        if found is not None:
            self.put(turn, found[2], counts=True, since=since, by=since)

    def put(self, turn: Turn, start: Start, *, counts: bool, since: float | None, by: float) -> None:
        """
        Let *turn* wait. Who waits already is only moved, and only if it has become more urgent.

        Args:
            turn: What waits.

            start: Called when its turn has come.

            counts: Whether it is a fetch, and not only a look.

            since: Since when somebody waits for it, if somebody does.

            by: From when on it is as urgent as that.
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
        """Take *turn* out, if it is in."""
        if self.used:
            self._looks.pop(turn, None)
            self._urgent.pop(turn, None)
            self._ahead.pop(turn, None)

    def look(self) -> tuple[Turn, Start] | None:
        """Take out the next look."""
        return self._looks.popitem(last=False) if self._looks else None

    def next(self, *, urgent: bool) -> tuple[Turn, Start, bool] | None:
        """Return the next fetch, with *urgent* only of those that somebody waits for, and whether it is one of them."""
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
        """Return the earliest instant from which on a refresh ahead is urgent."""
        first = self._first_ahead()
        return None if first is None else first[0]

    def asked_for(self) -> bool:
        """Tell whether a caller waits for any fetch."""
        return any(map(len, self._urgent))

    def turns(self) -> Iterator[tuple[Turn, Start, bool]]:
        """Yield all that wait, and whether each counts as a fetch."""
        for turn, start in list(self._looks.items()):
            yield turn, start, False
        for turn, (_, start) in list(self._urgent.items()):
            yield turn, start, True
        for turn, (_, _, start) in list(self._ahead.items()):
            yield turn, start, True

    def __contains__(self, turn: Turn) -> bool:
        return turn in self._looks or turn in self._urgent or turn in self._ahead

    def clear(self) -> None:
        """Forget all that wait."""
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
