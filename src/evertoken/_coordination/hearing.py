"""Decides how long a member waits before it fetches, so that peers can write answers that only they have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from evertoken._model.protocols import Record

__all__ = ["OFFER", "Hearing"]

#: Seconds for peers to write their records to a store that was flushed, or that was down when an answer came. This is
#: longer than the pause of a watch, and than a new connection to a server that was gone.
OFFER: Final = 4.0


@final
class Hearing:
    """The peers that may know better, and until when (by the monotonic clock) this member waits for them."""

    __slots__ = ("last", "mark", "offered", "until", "waits")

    def __init__(self) -> None:
        #: Whether the state of memory was offered to a flushed store.
        self.offered: bool = False
        #: The mark of the peer for which this member waits.
        self.mark: float | None = None
        self.until: float = -math.inf
        #: How often in a row another member held the lease.
        self.waits: int = 0
        #: The record when this member began to wait for the lease.
        self.last: Record | None = None

    def begins(self, mark: float | None, /) -> bool:
        """
        Tell whether the time for peers starts again: for another *mark*, or because they could not use it.

        While another member holds the lease, for example one that has died, no peer can write an answer.
        """
        blocked, self.waits = self.waits > 1, 0
        if mark is None or (mark == self.mark and not blocked):
            return False
        self.mark = mark
        return True

    def wait(self, asked: float, free: float, /, *, anew: bool) -> None:
        """
        Give peers time, during which the lease is free.

        Args:
            asked: When this member asked for the lease. Since then no other member could write.

            free: Since when the lease is free again. This member may have been suspended before it gave the lease back.

            anew: Whether the time starts now. Otherwise it continues.
        """
        self.until = free + OFFER if anew else self.until + max(free - asked, 0.0)
