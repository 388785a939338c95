"""Work that belongs to one event loop, such as what uses connections, and may be asked for on others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, final

from evertoken._engine.tasks import to_its_end

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["HomeLoop"]

T = TypeVar("T")


@final
class HomeLoop:
    """The event loop that was the first to ask for work, until it is closed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        """Return what *work* returns, awaited on the home loop."""
        here = asyncio.get_running_loop()
        if self._loop is None or self._loop.is_closed():
            self._loop = here
        if self._loop is here:
            return await work()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self._loop))

    async def call_to_its_end(self, work: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        """Do what `call` does. The work goes on to its end, also if the caller is cancelled."""
        return await self.call(lambda: to_its_end(work(), "evertoken:store", self._tasks))
