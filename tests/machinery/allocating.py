"""Say how much memory a hundred thousand calls of `get()` leave behind, and how much they take at most, in bytes."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

from evertoken import TokenManager


async def fetch() -> tuple[str, float]:
    return "token", 3600.0


async def main() -> None:
    async with TokenManager(fetch) as single, TokenManager({"a": fetch}) as keyed:
        handle = keyed.handle("a")
        await asyncio.gather(single.get(), keyed.get("a"), handle.get())

        async def read(times: int) -> None:
            for _ in range(times):
                await single.get()
                await keyed.get("a")
                await handle.get()

        await read(1000)
        gc.collect()
        tracemalloc.start()
        try:
            await read(1000)
            before = tracemalloc.get_traced_memory()[0]
            await read(100_000)
            grown = tracemalloc.get_traced_memory()[0] - before
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    print(grown, peak)  # noqa: T201 - the figures


if __name__ == "__main__":
    asyncio.run(main())
