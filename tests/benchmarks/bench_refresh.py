"""The cost of one refresh beside the fetch: without a store, and with one in memory."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from time import process_time
from typing import Any

from tests.benchmarks._measure import Options, Row, Rows, median, run

from evertoken import TokenManager
from evertoken.stores import MemoryStore

BATCH = 50


class Minted:
    """Answers at once, with a pair."""

    rotates: bool | None = False

    async def fetch(self, request: Any, /) -> Any:
        return "token", 3600.0


class Rotating:
    """Answers at once, with another refresh token each time."""

    rotates = True

    def __init__(self) -> None:
        self.fetches = 0

    async def fetch(self, request: Any, /) -> Any:
        self.fetches += 1
        request.sending()
        return {"access_token": "token", "expires_in": 3600, "refresh_token": f"refresh-{self.fetches}"}


def rows(options: Options) -> Rows:
    yield from run(lambda: _rows(options.pick(300, 40)))


async def _rows(rounds: int) -> list[Row]:
    loop = asyncio.get_running_loop()
    source = Minted()

    async def bare() -> None:
        await loop.create_task(source.fetch(None))

    async def within() -> None:
        async with asyncio.timeout(30.0):
            await source.fetch(None)

    async def bounded() -> None:
        await loop.create_task(within())

    async with (
        TokenManager(source) as alone,
        TokenManager(Minted(), store=MemoryStore(), namespace="minted") as minted,
        TokenManager(Rotating(), store=MemoryStore(), namespace="rotating") as rotating,
    ):
        sides: list[Callable[[], Awaitable[object]]] = [bare, bounded, alone.refresh, minted.refresh, rotating.refresh]
        for side in sides:
            for _ in range(BATCH):
                await side()
        shares: list[list[float]] = [[] for _ in sides]
        times: list[list[float]] = [[] for _ in sides]
        for number in range(rounds):
            order = list(enumerate(sides))
            spent = [0.0] * len(sides)
            for place, side in order if number % 2 else reversed(order):
                gc.collect(0)
                begun = process_time()
                for _ in range(BATCH):
                    await side()
                spent[place] = (process_time() - begun) / BATCH
            for place, seconds in enumerate(spent):
                shares[place].append(seconds / spent[0])
                times[place].append(seconds)
    under = median(shares[1])
    named = zip(
        ("a refresh without a store", "a refresh with MemoryStore, minted", "a refresh with MemoryStore, rotating"),
        (4.0, 12.0, 12.0),
        shares[2:],
        times[2:],
        strict=True,
    )
    return [
        Row("a bare task that awaits the source", median(times[0]) * 1e6, unit="us", note="CPU of this process"),
        Row("the same under a deadline, as each fetch has one", median(times[1]) * 1e6, unit="us"),
        *(
            Row(
                f"{name}, against it",
                median(share),
                target,
                note=f"{median(time) * 1e6:.0f} us; {median(share) / under:.1f} of the second",
            )
            for name, target, share, time in named
        ),
    ]
