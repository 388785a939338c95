"""
How many fetches may run at once for one provider, and which is next.

No task is started for a fetch that waits: a burst of a hundred thousand due keys costs a queue entry each.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["INSIDE", "Limits"]

#: The flight within whose fetch the running code stands.
INSIDE: Final[ContextVar[Any]] = ContextVar("inside", default=None)


_Waiting: TypeAlias = "tuple[Callable[[], bool], Callable[[], bool]]"


_NONE: Final[OrderedDict[object, _Waiting]] = OrderedDict()


@final
class _Limit:
    __slots__ = ("filling", "running", "urgent", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.filling = False
        # Made when the first one has to wait.
        self.urgent: OrderedDict[object, _Waiting] = _NONE
        self.waiting: OrderedDict[object, _Waiting] = _NONE

    def __len__(self) -> int:
        return len(self.urgent) + len(self.waiting)


@final
class Limits:
    """
    A limit of concurrent fetches for each provider, first come first served; those that somebody waits for go first.

    What a running fetch waits for is not queued, in however many managers it passes through: a limit full of fetches
    that wait for what is queued would stand still.

    Args:
        limit: Fetches that may run at once for one provider.
    """

    __slots__ = ("_limits", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self._limits: dict[Hashable, _Limit] = {}

    @property
    def queued(self) -> int:
        """How many fetches wait for their turn."""
        # A list, because this may be asked on another thread than that on which limits come and go.
        return sum(len(limit) for limit in list(self._limits.values()))

    def enter(
        self, provider: Hashable, who: object, start: Callable[[], bool], *, urgent: bool, inside: Callable[[], bool]
    ) -> None:
        """
        Call *start* now if the provider has room, else when the turn of *who* comes.

        *start* returns False where there is nothing left to start, and then takes no place. Who waits already is only
        moved, and only if it has become urgent. *inside* tells whether a fetch that holds a place waits for *who*.
        """
        limit = self._limits.get(provider)
        if limit is None:
            limit = self._limits[provider] = _Limit()
        if limit.running < self.limit or inside():
            if len(limit):
                limit.urgent.pop(who, None)
                limit.waiting.pop(who, None)
            limit.running += 1
            if not start():
                self.leave(provider)
            return
        if limit.urgent is _NONE:
            limit.urgent, limit.waiting = OrderedDict(), OrderedDict()
        if urgent and who not in limit.urgent:
            limit.waiting.pop(who, None)
            limit.urgent[who] = start, inside
        elif not urgent and who not in limit.urgent and who not in limit.waiting:
            limit.waiting[who] = start, inside

    def recheck(self, provider: Hashable) -> None:
        """Start what waits, if a fetch that holds a place has come to wait for it."""
        limit = self._limits.get(provider)
        if limit is None:
            return
        for waiting in (limit.urgent, limit.waiting):
            for who, (start, inside) in list(waiting.items()):
                if inside() and waiting.pop(who, None) is not None:
                    limit.running += 1
                    if not start():
                        self.leave(provider)

    async def place(self, provider: Hashable, who: object, *, inside: Callable[[], bool]) -> None:
        """Wait for a place, and take it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def start() -> bool:
            if turn.done():
                return False
            turn.set_result(None)
            return True

        self.enter(provider, who, start, urgent=True, inside=inside)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave(provider)
            turn.cancel()
            raise

    def leave(self, provider: Hashable) -> None:
        """Give the place of an ended fetch to the next; drop a limit that nobody uses."""
        limit = self._limits.get(provider)
        if limit is None:
            return
        limit.running -= 1
        if limit.filling:
            # A fetch that ended while it started; the loop below sees the place it left.
            return
        limit.filling = True
        try:
            while limit.running < self.limit and len(limit):
                limit.running += 1
                _, (start, _) = (limit.urgent or limit.waiting).popitem(last=False)
                if not start():
                    limit.running -= 1
        finally:
            limit.filling = False
        if limit.running <= 0 and not len(limit):
            self._limits.pop(provider, None)

    def clear(self) -> None:
        """Forget all that wait."""
        for limit in self._limits.values():
            limit.urgent.clear()
            limit.waiting.clear()
