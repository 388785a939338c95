"""
A stream of events, for code that must await something for each event.

An observer must not block. A stream keeps the newest events in a limited buffer, so its reader may be slow.
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
    An async iterator over events. `TokenManager.events` makes it.

    If the reader is slower than the events, the oldest events are dropped and counted. The stream ends after the last
    event, when the manager has closed, or with `close`.

    Args:
        streams: The list of streams to which it belongs.

        maxsize: The number of events that it can hold.
    """

    __slots__ = ("_events", "_streams", "dropped")

    def __init__(self, streams: EventStreams, maxsize: int) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int) or maxsize < 1:
            msg = f"maxsize must be a whole number of at least 1, not {maxsize!r}"
            raise ValueError(msg)
        super().__init__(streams)
        #: The number of events that were dropped so far, because the reader was too slow.
        self.dropped: int = 0
        self._streams = streams
        self._events: deque[Event] = deque(maxlen=maxsize)
        streams.add(self)

    def offer(self, event: Event) -> None:
        """Add *event*. This runs on the session's loop."""
        if self._closed:
            return
        if len(self._events) == self._events.maxlen:
            self.dropped += 1
        self._events.append(event)
        # Only a waiting reader must be woken.
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
        loop: The loop of the session.

        is_lost: A function that tells whether the session's loop has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, is_lost: Callable[[], bool]) -> None:
        super().__init__(loop, is_lost)
        self._lock = threading.Lock()
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: EventStream) -> None:
        """Add *stream* to the list."""
        with self._lock:
            self._streams.add(stream)

    def discard(self, stream: EventStream) -> None:
        """Remove *stream* from the list."""
        with self._lock:
            self._streams.discard(stream)

    def tell(self, event: Event) -> None:
        """Offer *event* to all streams."""
        if self._streams:
            for stream in self._listed():
                stream.offer(event)

    def end(self) -> None:
        """End all streams."""
        self._ended = True
        for stream in self._listed():
            stream.close()

    def _listed(self) -> list[EventStream]:
        with self._lock:
            return list(self._streams)
