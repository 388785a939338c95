"""What a session does from time to time besides its keys, at the supervisor's deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Chore"]


@final
class Chore:
    """
    Something to be done again and again.

    Args:
        run: Does it, without waiting, and returns when it is to be done next (epoch seconds).

        end: Called when the session ends.
    """

    __slots__ = ("deadline", "due_at", "end", "run")

    def __init__(self, run: Callable[[], float], end: Callable[[], object]) -> None:
        self.run = run
        self.end = end
        #: The supervisor's, which looks at it earlier where this is far ahead.
        self.deadline: float | None = None
        self.due_at: float = 0.0

    def __lt__(self, other: object) -> bool:
        return False
