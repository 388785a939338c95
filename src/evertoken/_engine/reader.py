"""The common base of token and event readers. Each waits on its own loop, and is woken from any thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self, final

from evertoken._engine.tasks import ring

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Reader", "Readers"]

# Seconds between two checks of a reader on another loop whether the session is still alive.
_WATCH: Final = 0.5


class Readers:
    """
    The readers of one session, on any loops and threads.

    Args:
        loop: The loop of the session.

        is_lost: A function that tells whether the session's loop has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, is_lost: Callable[[], bool]) -> None:
        self.loop = loop
        self._is_lost = is_lost
        self._waiting: set[Any] = set()
        self._ended = False

    @property
    def lost(self) -> bool:
        """Whether nothing will come any longer."""
        return self._ended or self._is_lost()

    def holding(self, reader: Reader) -> _Holding:
        """Return a context in which *reader* is not garbage-collected."""
        return _Holding(self._waiting, reader)


class Reader:
    """
    A reader that waits for items, on the loop that runs now.

    Args:
        readers: The collection to which it belongs.
    """

    __slots__ = ("__weakref__", "_closed", "_loop", "_readers", "_wakeup")

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._loop = asyncio.get_running_loop()
        self._wakeup: asyncio.Future[None] | None = None
        self._closed = False

    def notify(self) -> None:
        """Let the reader check again. This can be called from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:
            # The loop of the reader is gone, and so is the reader.
            self._closed = True

    def close(self) -> None:
        """End the iteration. This can be called from any thread."""
        if not self._closed:
            self._closed = True
            self._leave()
            self.notify()

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # How

    def _leave(self) -> None:
        """Remove the reader from its collection."""

    def _ready(self) -> bool:
        """Tell whether an item is ready, so that no wait is needed."""
        return False

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._wakeup = wakeup = loop.create_future()
        # A reader on another loop may outlive the session without being told, so it checks from time to time.
        watch = None if loop is self._readers.loop else loop.call_later(_WATCH, ring, wakeup)
        try:
            # An item that came before the future existed has woken nobody.
            if not self._closed and not self._ready():
                # It is held while it waits, because nothing else may refer to it or to its task.
                with self._readers.holding(self):
                    await wakeup
        finally:
            self._wakeup = None
            if watch is not None:
                watch.cancel()

    def _ring(self) -> None:
        if self._wakeup is not None:
            ring(self._wakeup)


@final
class _Holding:
    __slots__ = ("_held", "_one")

    def __init__(self, held: set[Any], one: Any) -> None:
        self._held = held
        self._one = one

    def __enter__(self) -> None:
        self._held.add(self._one)

    def __exit__(self, *_: object) -> None:
        self._held.discard(self._one)
