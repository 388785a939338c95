"""Runs blocking work in worker threads, so that it never blocks the loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Abandoned", "offload"]

#: The number of threads for each loop. A store that waits for a lock does not use up the program's own worker threads.
THREADS: Final = 16

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("evertoken_stores")


class Abandoned(threading.Event):
    """This event is set when the caller has gone. Work that only the caller could use should not be done then."""


async def offload(work: Callable[[*Ts], T], /, *args: *Ts, abandoned: Abandoned | None = None) -> T:
    """
    Run *work* in a worker thread, and return its result.

    If the caller is cancelled, it continues at once. *work* ends by itself, and finds *abandoned* set.
    """
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS)
        _limiter.set(limiter)
    try:
        return await anyio.to_thread.run_sync(work, *args, abandon_on_cancel=True, limiter=limiter)
    finally:
        if abandoned is not None:
            abandoned.set()
