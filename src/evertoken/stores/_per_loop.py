"""
Keeps one resource per event loop, such as a pool of connections. It is closed when its last user leaves.
"""

from __future__ import annotations

import asyncio
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["PerLoop"]

T = TypeVar("T")


@final
class _Held(Generic[T]):
    __slots__ = ("lock", "resource", "users")

    def __init__(self) -> None:
        self.users = 0
        self.resource: T | None = None
        self.lock = asyncio.Lock()


@final
class PerLoop(Generic[T]):
    """
    One resource for each loop, made on first use.

    Args:
        make: A function that makes the resource.

        close: A function that closes it.
    """

    def __init__(self, make: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[object]]) -> None:
        self._make = make
        self._close = close
        self._held: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Held[T]] = weakref.WeakKeyDictionary()

    def enter(self) -> None:
        """Keep the resource of this loop from now on."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            held = self._held[loop] = _Held()
        held.users += 1

    async def leave(self) -> None:
        """Close the resource, if all who entered on this loop have left."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            return
        held.users -= 1
        if held.users:
            return
        del self._held[loop]
        if held.resource is not None:
            resource, held.resource = held.resource, None
            await self._close(resource)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[T]:
        """Give the resource of this loop. If nobody has entered, make one for this use."""
        held = self._held.get(asyncio.get_running_loop())
        if held is None:
            resource = await self._make()
            try:
                yield resource
            finally:
                await self._close(resource)
            return
        async with held.lock:
            if held.resource is None:
                held.resource = await self._make()
        yield held.resource
