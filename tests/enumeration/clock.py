"""The clocks of a run: one for each process, which faults set and stop, and one for the machine of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from evertoken._engine.supervisor import BEAT

if TYPE_CHECKING:
    from tests.enumeration.process import Process

__all__ = ["PAUSE", "Clock", "StoreClock"]

#: Seconds that a process stands still.
PAUSE: Final = 15.0


class Clock:
    """The clocks of one process."""

    def __init__(self, process: Process, offset: float) -> None:
        self.process = process
        self.loop = asyncio.get_running_loop()
        self.offset = offset
        self.noticed_at = 0.0

    def step(self, seconds: float) -> None:
        """Set the wall clock."""
        self.offset += seconds
        self.noticed_at = self.loop.time() + BEAT + (PAUSE if self.process.thaw is not None else 0.1)

    def time(self) -> float:
        return self.offset + self.loop.time()

    def monotonic(self) -> float:
        return self.loop.time()

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> _Timer:
        timer = _Timer(self.process, callback, args)
        timer.handle = self.loop.call_later(delay, timer.fire)
        return timer


class _Timer:
    __slots__ = ("args", "callback", "handle", "process")

    def __init__(self, process: Process, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.process = process
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.handle: asyncio.TimerHandle

    def cancel(self) -> None:
        self.callback = None
        self.handle.cancel()

    def fire(self) -> None:
        process, callback = self.process, self.callback
        if callback is None or process.dead:
            return
        if process.thaw is not None:
            process.late.append(self.fire)
            return
        self.callback = None
        process.run(callback, *self.args)


class StoreClock:
    """The clock of the store's own machine, which no fault sets."""

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    monotonic = time

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay, callback, *arguments)
