"""How the checks of HTTP clients call one: with coroutines, or blocking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any


async def pieces() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


def plain_pieces() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


class Caller:
    """A client of coroutines."""

    def __init__(self, send: Callable[..., Any]) -> None:
        self.send = send
        self.last: Any = None

    async def here(self, method: str, url: str, body: Any = None) -> int:
        status, self.last = await self.send(method, url, pieces() if body == "generator" else body)
        return int(status)

    async def __call__(self, method: str, url: str, body: Any = None) -> int:
        return await self.here(method, url, body)

    def seen(self) -> list[Any]:
        return [self.last.request, self.last.request.headers]

    def pickled(self) -> list[Any]:
        return [self.last]


class BlockingCaller(Caller):
    """A client without a loop; it is called in threads, or `here`, where it blocks the loop."""

    def _ask(self, method: str, url: str, body: Any = None) -> int:
        status, self.last = self.send(method, url, plain_pieces() if body == "generator" else body)
        return int(status)

    async def here(self, method: str, url: str, body: Any = None) -> int:
        return self._ask(method, url, body)

    async def __call__(self, method: str, url: str, body: Any = None) -> int:
        return await asyncio.to_thread(self._ask, method, url, body)
