"""How long a member waits before it fetches, so that peers can bring an answer that they alone have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from evertoken._model.protocols import Record

__all__ = ["OFFER", "Hearing"]

#: Seconds in which peers bring what they alone know to a store that was flushed, or that was down when an answer came.
#: Longer than a watch pauses, and than a connection to a server that was gone takes.
OFFER: Final = 4.0


@final
class Hearing:
    """Peers that may know better, and until when (by the monotonic clock) they are given time to say so."""

    __slots__ = ("last", "mark", "offered", "until", "waits")

    def __init__(self) -> None:
        #: Whether a flushed store was offered what memory has.
        self.offered: bool = False
        #: The mark of a peer that was given time.
        self.mark: float | None = None
        self.until: float = -math.inf
        #: How often in a row the lease was found held.
        self.waits: int = 0
        #: What was on record when the lease was waited for.
        self.last: Record | None = None

    def begins(self, mark: float | None, /) -> bool:
        """
        Tell whether peers are given their time anew: for another *mark*, or because they could not use it.

        While another member held the lease, such as one that has died, nobody could bring an answer.
        """
        blocked, self.waits = self.waits > 1, 0
        if mark is None or (mark == self.mark and not blocked):
            return False
        self.mark = mark
        return True

    def wait(self, asked: float, free: float, /, *, anew: bool) -> None:
        """
        Give peers their time, in which the lease is free.

        Args:
            asked: When this member asked for the lease. Since then nobody else could write.

            free: Since when the lease is free again. This member may have stood still before it gave the lease back.

            anew: Whether their time begins now; if not, it goes on.
        """
        self.until = free + OFFER if anew else self.until + max(free - asked, 0.0)
