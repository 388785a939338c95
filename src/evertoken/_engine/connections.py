"""Things that sources keep open between fetches, such as HTTP connections. They end with the session."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.observers import say
from evertoken._engine.tasks import bounded, must_propagate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Hashable

    from evertoken._engine.tasks import Strays
    from evertoken._model.protocols import Clock, Timer

__all__ = ["Connections"]

#: An unused object is kept open for this many seconds, so that consecutive fetches share it.
IDLE: Final = 2.0

# Closing an object should take at most this many seconds.
_CLOSE: Final = 1.0


@final
class Connections:
    """
    The open objects of one session's sources. A key describes the use of each.

    Args:
        spawn: A function that runs a coroutine in the session.
    """

    def __init__(
        self, clock: Clock, strays: Strays, spawn: Callable[[Coroutine[Any, Any, object], str], object]
    ) -> None:
        self._clock = clock
        self._strays = strays
        self._spawn = spawn
        self._open: dict[Hashable, tuple[Any, set[object], list[Timer]]] = {}
        self._closed = False

    @contextlib.asynccontextmanager
    async def use(self, key: Hashable, make: Callable[[], Any]) -> AsyncIterator[Any]:
        """
        Lend the object of *key*, or the new one from *make*. The object needs a method `aclose`.

        It is closed after nobody has used it for `IDLE` seconds.
        """
        if key not in self._open:
            self._open[key] = make(), set(), []
        opened, users, timers = self._open[key]
        user = object()
        users.add(user)
        while timers:
            timers.pop().cancel()
        try:
            yield opened
        finally:
            users.discard(user)
            if self._closed:
                await self._close(opened)
            elif not users and self._open.get(key, (None,))[0] is opened:
                timers.append(self._clock.call_later(IDLE, self._end, key))

    async def aclose(self) -> None:
        """Close all objects. From now on each new one is closed after its use."""
        self._closed = True
        opened, self._open = self._open, {}
        for one, users, timers in opened.values():
            for timer in timers:
                timer.cancel()
            if not users:
                await self._close(one)

    def _end(self, key: Hashable) -> None:
        opened, users, _ = self._open[key]
        if not users:
            del self._open[key]
            self._spawn(self._close(opened), "evertoken:disconnect")

    async def _close(self, opened: Any) -> None:
        try:
            await bounded(opened.aclose, _CLOSE, clock=self._clock, strays=self._strays, name="evertoken:disconnect")
        except BaseException as error:
            if must_propagate(error):
                raise
            say(logging.DEBUG, "closing a connection raised %s", type(error).__qualname__)
