"""Clocks that a test moves: one for the virtual loop, one for any loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING, Any, Final, final

from evertoken.testing.loop import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ManualClock", "VirtualClock"]

#: The start of wall clocks: 2030-01-01T00:00:00Z.
EPOCH: Final = 1_893_456_000.0

# The number of loop rounds after each timer of a manual clock, until the loop is quiet.
_ROUNDS: Final = 50


@final
class VirtualClock:
    """
    A `Clock` on a `VirtualTimeLoop`. Its wall clock moves with the loop, and can also be stepped separately.

    Args:
        start: The wall clock's first reading, in epoch seconds.
    """

    def __init__(self, start: float = EPOCH) -> None:
        self._start = start
        self._begun: float | None = None
        self._stepped = 0.0

    def time(self) -> float:
        """Return the wall clock in epoch seconds."""
        loop = _virtual_loop()
        if self._begun is None:
            self._begun = loop.time()
        return self._start + self._stepped + (loop.time() - self._begun)

    def monotonic(self) -> float:
        """Return the loop's own seconds. Steps do not affect them."""
        return _virtual_loop().time()

    def call_later(self, delay: float, callback: Callable[..., Any], *args: object) -> asyncio.TimerHandle:
        """Call *callback* after *delay* virtual seconds."""
        return _virtual_loop().call_later(delay, callback, *args)

    def step(self, seconds: float) -> None:
        """Move only the wall clock, as if the clock was set or the machine slept."""
        self.time()
        self._stepped += seconds

    async def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0) -> None:
        """Let this much virtual time pass, with everything that happens in it."""
        await asyncio.sleep(seconds + 60.0 * minutes + 3600.0 * hours)

    def __repr__(self) -> str:
        return f"VirtualClock(stepped={self._stepped!r})"


@final
class ManualClock:
    """
    A `Clock` for any loop. It stands still until the test moves it.

    It affects only code that asks this clock, such as a `TokenManager` with `clock=`. It does not affect
    `asyncio.sleep` in the test.

    Args:
        start: The wall clock's first reading, in epoch seconds.
    """

    def __init__(self, start: float = EPOCH) -> None:
        self._wall = start
        self._monotonic = 0.0
        self._timers: list[tuple[float, int, _ManualTimer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        """Return the wall clock in epoch seconds."""
        return self._wall

    def monotonic(self) -> float:
        """Return the seconds by which the clock was advanced. Steps do not count."""
        return self._monotonic

    def call_later(self, delay: float, callback: Callable[..., Any], *args: object) -> _ManualTimer:
        """Call *callback* after the clock was advanced by *delay* seconds."""
        timer = _ManualTimer(callback, args)
        heapq.heappush(self._timers, (self._monotonic + max(delay, 0.0), next(self._order), timer))
        return timer

    def step(self, seconds: float) -> None:
        """Move only the wall clock."""
        self._wall += seconds

    async def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0) -> None:
        """Move both clocks. Call the timers that are due in order, and let the loop become quiet after each."""
        end = self._monotonic + seconds + 60.0 * minutes + 3600.0 * hours
        await _settle()
        while self._timers and self._timers[0][0] <= end:
            at, _, timer = heapq.heappop(self._timers)
            self._move(max(at - self._monotonic, 0.0))
            timer.fire()
            await _settle()
        self._move(end - self._monotonic)
        await _settle()

    def _move(self, seconds: float) -> None:
        self._wall += seconds
        self._monotonic += seconds

    def __repr__(self) -> str:
        return f"ManualClock({self._wall!r})"


@final
class _ManualTimer:
    __slots__ = ("_args", "_callback")

    def __init__(self, callback: Callable[..., Any], args: tuple[object, ...]) -> None:
        self._callback: Callable[..., Any] | None = callback
        self._args = args

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(*self._args)


async def _settle() -> None:
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


def _virtual_loop() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualTimeLoop):
        msg = (
            f"VirtualClock needs the test to run on a VirtualTimeLoop, and this is a {type(loop).__name__}: make it "
            f"the loop factory, or use ManualClock"
        )
        raise RuntimeError(msg)  # noqa: TRY004 - the loop is not an argument
    return loop
