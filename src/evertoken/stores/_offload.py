"""Work that blocks, done in worker threads, so that it never holds up the loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Abandoned", "offload"]

#: Threads a loop at most. The program's own worker threads are not used up by a store that waits for a lock.
THREADS: Final = 16

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("evertoken_stores")


class Abandoned(threading.Event):
    """Set when nobody waits for the work any more: what only its caller could use should not be done."""


async def offload(work: Callable[[*Ts], T], /, *args: *Ts, abandoned: Abandoned | None = None) -> T:
    """
    Return what *work* returns, run in a worker thread.

    If the caller is cancelled it goes on at once; *work* ends by itself, and finds *abandoned* set.
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
