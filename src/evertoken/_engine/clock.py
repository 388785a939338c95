"""The only file that asks the system for the time."""

from __future__ import annotations

import asyncio
import time as system
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import Timer

__all__ = ["SystemClock"]


@final
class SystemClock:
    """The system's clocks and the running loop's timers."""

    __slots__ = ()

    # These are builtins and not methods around them, because the hot path pays for each frame.
    time = staticmethod(system.time)
    monotonic = staticmethod(system.monotonic)

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call *callback* on the running loop after *delay* seconds of the loop's own clock."""
        return asyncio.get_running_loop().call_later(delay, callback, *args)

    def __repr__(self) -> str:
        return "SystemClock()"
