"""A steady load: requests start at fixed times, even if earlier ones have not ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import httpx

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["Sample", "Side", "TimedReader"]


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """
    One request as its caller experienced it.

    Args:
        at: The time at which it was due, in seconds from the start.

        latency: Seconds from the time at which it was due to its end.

        status: The status code, or 0 if there was no answer.

        error: The class of the exception, if one was raised.
    """

    at: float
    latency: float
    status: int
    error: str | None = None

    @property
    def good(self) -> bool:
        """Whether the caller received a good answer."""
        return self.status == httpx.codes.OK


@final
@dataclass(slots=True)
class Side:
    """
    One of the two sides of the comparison.

    Args:
        name: The name of the side.

        send: A function that sends one request.
    """

    name: str
    send: Callable[[], Awaitable[httpx.Response]]
    samples: list[Sample] = field(default_factory=list)
    expires_at: Callable[[], float | None] = lambda: None
    due_at: Callable[[], float | None] = lambda: None
    expiries: list[float] = field(default_factory=list)

    async def run(self, begun: float, seconds: float, rate: float) -> None:
        """Send *rate* requests per second for *seconds* seconds, beginning at *begun* on the loop's clock."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * rate)):
                due = begun + number / rate
                await asyncio.sleep(due - loop.time())
                group.create_task(self._one(due, begun))

    async def _one(self, due: float, begun: float) -> None:
        loop = asyncio.get_running_loop()
        status, error = 0, None
        try:
            status = (await self.send()).status_code
        except Exception as raised:  # noqa: BLE001 - exceptions are part of the measurement
            error = type(raised).__name__
        self.samples.append(Sample(due - begun, loop.time() - due, status, error))


@final
class TimedReader:
    """A token reader that measures how long `get` takes, from the start of the load."""

    def __init__(self, tokens: TokenReader, since: Callable[[], float]) -> None:
        self._tokens = tokens
        self._since = since
        self.waits: list[tuple[float, float]] = []

    async def get(self) -> Token:
        """Return a valid token."""
        begun = time.perf_counter()
        token = await self._tokens.get()
        self.waits.append((self._since(), time.perf_counter() - begun))
        return token

    async def refused(self, token: Token, /, *, wait: bool = True) -> Token | None:
        """Pass the refusal on."""
        return await self._tokens.refused(token, wait=wait)

    def get_sync(self) -> Any:
        """Not used by the demo."""
        return self._tokens.get_sync()

    def refused_sync(self, token: Token, /, *, wait: bool = True) -> Token | None:
        """Not used by the demo."""
        return self._tokens.refused_sync(token, wait=wait)
