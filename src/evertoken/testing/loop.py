"""
An event loop whose time jumps when there is nothing to do. A day of supervision takes a few hundredths of a second.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, Unpack, final

import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

__all__ = ["VirtualTimeLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_START: Final = 1000.0

# Seconds of real time between two checks of a worker thread, while virtual time stands still.
_OUTSIDE_POLL: Final = 0.05

# If there are sockets, data may arrive for this many real seconds before time jumps.
_SOCKET_GRACE: Final = 0.005

# If nothing is scheduled, only another thread can help. After this many real seconds it is a deadlock.
_DEADLOCK_AFTER: Final = 5.0


@final
class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """
    An asyncio loop that does not wait. If no callback is ready, its clock jumps to the next timer.

    All code that asks the loop for time is deterministic on it: `asyncio.sleep`, `asyncio.timeout`, anyio's scopes,
    httpx's timeouts. Jobs in worker threads (`run_in_executor`, `anyio.to_thread`) are awaited in real time, while
    virtual time stands still. Sockets get a few real milliseconds before each jump. That is enough on loopback, but not
    certain elsewhere, so use a real loop for tests of sockets.

    Pass it as a loop factory: `asyncio.Runner(loop_factory=VirtualTimeLoop)`.
    """

    def __init__(self) -> None:
        self._virtual_now = _START
        self.jumps: int = 0
        self.outside: int = 0
        super().__init__(_JumpSelector(self))
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Return the loop's own seconds."""
        return self._virtual_now

    def advance(self, seconds: float) -> None:
        """Move the loop's clock forward. The loop does this by itself. Call it to make a callback late."""
        self._virtual_now += seconds
        self.jumps += 1

    def run_forever(self) -> None:
        """Run until stopped, counting jobs in worker threads as work."""
        with _counted_worker_threads():
            super().run_forever()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run *func* in a thread. Virtual time stands still meanwhile."""
        self.outside += 1
        try:
            future = super().run_in_executor(executor, func, *args)
        except BaseException:
            self.outside -= 1
            raise
        future.add_done_callback(self._back)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002 - Python 3.11 has no timeout
        """Join the default executor's threads. This may take any amount of real time."""
        self.outside += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self.outside -= 1

    def _back(self, _: asyncio.Future[Any]) -> None:
        self.outside -= 1


@final
class _JumpSelector(selectors.BaseSelector):
    """The default selector, except that it does not wait."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0.0):
            return ready
        if self._loop.outside:
            return self._real.select(_OUTSIDE_POLL)
        # One registration belongs to the loop itself. Other threads use it to wake the loop.
        if len(self._real.get_map()) > 1:
            ready = self._real.select(_SOCKET_GRACE)
            if ready:
                return ready
        if timeout is None:
            ready = self._real.select(_DEADLOCK_AFTER)
            if ready:
                return ready
            msg = "deadlock: on this virtual loop nothing is ready, nothing is scheduled, and no thread is at work"
            raise RuntimeError(msg)
        self._loop.advance(timeout)
        return []


class _counted_worker_threads:  # noqa: N801 - it is used like a function
    """Counts anyio's worker threads as work outside the loop, while any virtual loop runs."""

    _users = 0
    _real: Any = None

    def __enter__(self) -> None:
        cls = _counted_worker_threads
        cls._users += 1
        if cls._users == 1:
            cls._real = anyio.to_thread.run_sync
            anyio.to_thread.run_sync = _run_sync  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        cls = _counted_worker_threads
        cls._users -= 1
        if not cls._users:
            anyio.to_thread.run_sync = cls._real


async def _run_sync(func: Callable[..., Any], *args: Any, **options: Any) -> Any:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualTimeLoop):
        return await _counted_worker_threads._real(func, *args, **options)  # noqa: SLF001 - defined in this file
    loop.outside += 1
    try:
        return await _counted_worker_threads._real(func, *args, **options)  # noqa: SLF001
    finally:
        loop.outside -= 1
