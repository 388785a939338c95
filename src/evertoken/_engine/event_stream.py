"""
Events for code that must await something, as they happen.

An observer must not block. A stream keeps the newest events for a reader that takes its time, in a buffer with a bound.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, final

from evertoken._engine.reader import Reader, Readers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from evertoken._model.events import Event

__all__ = ["EventStream", "EventStreams"]


@final
class EventStream(Reader):
    """
    An async iterator over events. Made by `TokenManager.events`.

    It has room for so many events; if its reader is slower, the oldest are dropped and counted. It ends when the
    manager has closed, after the last event, or with `close`.

    Args:
        streams: Where it is listed.

        maxsize: How many events it holds.
    """

    __slots__ = ("_events", "_streams", "dropped")

    def __init__(self, streams: EventStreams, maxsize: int) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int) or maxsize < 1:
            msg = f"maxsize must be a whole number of at least 1, not {maxsize!r}"
            raise ValueError(msg)
        super().__init__(streams)
        #: How many events were dropped so far, because the reader was too slow.
        self.dropped: int = 0
        self._streams = streams
        self._events: deque[Event] = deque(maxlen=maxsize)
        streams.add(self)

    def offer(self, event: Event) -> None:
        """Take *event*, on the session's loop."""
        if self._closed:
            return
        if len(self._events) == self._events.maxlen:
            self.dropped += 1
        self._events.append(event)
        # Only a reader that waits has to be woken.
        if self._wakeup is not None:
            self.notify()

    async def __anext__(self) -> Event:
        if self._wakeup is not None:
            msg = "a stream of events has one reader; call events() again for another"
            raise RuntimeError(msg)
        while not self._events:
            if self._streams.lost:
                self.close()
            if self._closed:
                raise StopAsyncIteration
            await self._wait()
        return self._events.popleft()

    def __repr__(self) -> str:
        return f"EventStream({len(self._events)} events, dropped={self.dropped}, closed={self._closed})"

    def _leave(self) -> None:
        self._streams.discard(self)

    def _ready(self) -> bool:
        return bool(self._events)


@final
class EventStreams(Readers):
    """
    The streams of one session.

    Args:
        loop: The session's.

        is_lost: Tells whether the session's loop has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, is_lost: Callable[[], bool]) -> None:
        super().__init__(loop, is_lost)
        self._lock = threading.Lock()
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: EventStream) -> None:
        """List *stream*."""
        with self._lock:
            self._streams.add(stream)

    def discard(self, stream: EventStream) -> None:
        """List *stream* no longer."""
        with self._lock:
            self._streams.discard(stream)

    def tell(self, event: Event) -> None:
        """Offer *event* to all."""
        if self._streams:
            for stream in self._listed():
                stream.offer(event)

    def end(self) -> None:
        """End all of them."""
        self._ended = True
        for stream in self._listed():
            stream.close()

    def _listed(self) -> list[EventStream]:
        with self._lock:
            return list(self._streams)
