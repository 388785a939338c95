"""Sources that tests open and close: races are ordered by gates, not by sleeping."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from evertoken import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from evertoken import FetchRequest

T = TypeVar("T")

# Real seconds, far beyond what a busy machine needs; only what never happens waits so long.
_PATIENCE: Final = 30.0

#: Runs a test on the virtual loop, plain, in debug mode, and with the eager task factory where there is one.
virtual = pytest.mark.asyncio(
    loop_factories=["virtual", "debug", *(["eager"] if hasattr(asyncio, "eager_task_factory") else [])]
)


class GatedSource:
    """A source whose fetches wait at a gate until the test lets them go, and then answer or fail as told."""

    rotates: bool | None = None

    def __init__(self, clock: object, *, lifetime: float | None = 100.0, open_: bool = False) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.fetches = 0
        self.ended = 0
        self.concurrent = 0
        self.most_concurrent = 0
        self.error: BaseException | None = None
        self.last: Token | None = None
        self.requests: list[FetchRequest] = []
        self.started_at: list[float] = []
        self._open = asyncio.Event()
        self._reached = asyncio.Event()
        if open_:
            self._open.set()

    async def fetch(self, request: FetchRequest, /) -> Token:
        self.fetches += 1
        self.requests.append(request)
        self.concurrent += 1
        self.most_concurrent = max(self.most_concurrent, self.concurrent)
        started = self.clock.time()  # type: ignore[attr-defined]
        self.started_at.append(started)
        self._reached.set()
        try:
            await self._open.wait()
            if self.error is not None:
                raise self.error
            self.last = Token(
                f"token-{self.fetches}",
                issued_at=started,
                expires_at=None if self.lifetime is None else started + self.lifetime,
            )
            return self.last
        finally:
            self.concurrent -= 1
            self.ended += 1

    async def reached(self) -> None:
        """Wait until a fetch stands at the gate."""
        await self._reached.wait()

    def release(self) -> None:
        """Open the gate, for this fetch and all later ones."""
        self._open.set()

    def hold(self) -> None:
        """Close the gate."""
        self._open.clear()
        self._reached.clear()


class Suspended(AssertionError):
    """It waited."""


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that must not suspend. Return its result, raise its exception, or raise `Suspended`."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        returned: T = end.value
        return returned
    coroutine.close()
    raise Suspended


async def until(condition: Callable[[], object], *, what: str = "it happened") -> None:
    """Let the loop run until *condition* holds, if the change comes from a socket or a thread and there is no gate."""
    end = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        await asyncio.sleep(0.001)
