"""Chores: work that a session repeats besides its keys, at the supervisor's deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Chore"]


@final
class Chore:
    """
    A piece of work that is repeated.

    Args:
        run: A function that does the work without waiting, and returns when to run it next (epoch seconds).

        end: Called when the session ends.
    """

    __slots__ = ("deadline", "due_at", "end", "run")

    def __init__(self, run: Callable[[], float], end: Callable[[], object]) -> None:
        self.run = run
        self.end = end
        #: The deadline that the supervisor set. It may be earlier than `due_at`, if that is far in the future.
        self.deadline: float | None = None
        self.due_at: float = 0.0

    def __lt__(self, other: object) -> bool:
        return False
