"""A few connections that all statements of one event loop share."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from evertoken.stores._postgres_wire import Wire

__all__ = ["Pool"]

#: Seconds to wait before the next attempt to connect, after the server has refused one.
_PAUSE: Final = 5.0


@final
class Pool:
    """
    Connections that are made when they are needed, and then kept.

    If no connection is free, a statement waits for one. If the server refuses further connections, the existing ones do
    the work. Only a server that refuses the first connection counts as down.

    Args:
        make: A function that makes a connection.

        size: The largest number of connections.
    """

    def __init__(self, make: Callable[[], Awaitable[Wire]], size: int) -> None:
        self._make = make
        self._size = size
        self._refused_until = 0.0
        # The number of connections that are free, in use, or being made.
        self._count = 0
        self._free: list[Wire] = []
        self._waiting: deque[asyncio.Future[Wire]] = deque()
        self._making: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Wire]:
        """
        Give a connection that nobody else uses.

        Raises:
            Exception: The first connection could not be made. The exception is that of the attempt.
        """
        wire = await self._taken()
        try:
            yield wire
        finally:
            self._give(wire)

    async def close(self) -> None:
        """Close the free connections. A connection in use is closed after its statement."""
        self._size = 0
        making = list(self._making)
        for task in making:
            task.cancel()
        if making:
            await asyncio.wait(making)
        for wire in self._free:
            wire.close()
        self._free.clear()
        self._refuse(ConnectionError("the store was left"))

    async def _taken(self) -> Wire:
        while self._free:
            wire = self._free.pop()
            if not wire.lost.done():
                return wire
            self._drop()
        waiting: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._grow()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._give(waiting.result())
            raise

    def _give(self, wire: Wire) -> None:
        if wire.lost.done() or not self._size:
            wire.close()
            self._drop()
            return
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(wire)
                return
        self._free.append(wire)

    def _drop(self) -> None:
        self._count -= 1
        self._grow()

    def _grow(self) -> None:
        if len(self._waiting) <= len(self._making) or self._count >= self._size:
            return
        if self._count and SystemClock.monotonic() < self._refused_until:
            return
        self._count += 1
        task = asyncio.get_running_loop().create_task(self._add())
        self._making.add(task)

    async def _add(self) -> None:
        try:
            try:
                wire = await self._make()
            finally:
                # This is done at once, because the next waiting statement may need another connection.
                self._making.discard(asyncio.current_task())
        except asyncio.CancelledError:
            self._count -= 1
            raise
        except Exception as error:  # noqa: BLE001 - the waiting statements receive it
            self._count -= 1
            self._refused_until = SystemClock.monotonic() + _PAUSE
            if not self._count:
                self._refuse(error)
        else:
            self._give(wire)

    def _refuse(self, error: Exception) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                # Each waiter gets its own exception, because raising adds a traceback to it.
                waiting.set_exception(type(error)(*error.args))
