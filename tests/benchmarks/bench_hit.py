"""The cost of `await manager.get()` while a token is valid."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from typing import Any

from tests.benchmarks._measure import Options, Row, Rows, coro_rounds, ratio, run

from evertoken import Token, TokenManager

TARGET = {(3, 11): 2.0, (3, 12): 2.2}.get(sys.version_info[:2], 2.5)


async def trivial():
    return None


class Floor:
    """The least that can be done: one coroutine with a default argument, one clock, one comparison, a token at hand."""

    def __init__(self, token: Token) -> None:
        self.token = token
        self.valid_until = time.time() + 3600.0
        self.now = time.time

    async def get(self, key=None):
        now = self.now
        if key is None and now() < self.valid_until:
            return self.token
        raise AssertionError


class Bare:
    """The least that a lock and a dict can cost."""

    def __init__(self, token: Token) -> None:
        self.lock = asyncio.Lock()
        self.cache = {"key": (token, time.time() + 3600.0)}

    async def get(self, key):
        async with self.lock:
            token, expires_at = self.cache[key]
            if time.time() < expires_at:
                return token
            raise AssertionError


class Snippet:
    """The same as people write it: the answer of the endpoint in a dict, its expiry beside it, and a leeway."""

    def __init__(self, token: Token) -> None:
        self.lock = asyncio.Lock()
        self.tokens: dict[str, dict[str, Any]] = {
            "key": {"access_token": token.access_token, "expires_at": time.time() + 3600.0}
        }

    async def get(self, key):
        async with self.lock:
            token = self.tokens.get(key)
            if token is None or token["expires_at"] - 30 < time.time():
                raise AssertionError
            return token["access_token"]


def rows(options: Options) -> Rows:
    yield from run(lambda: _rows(options))


async def _rows(options: Options) -> list[Row]:
    async def fetch():
        return "token", 3600.0

    async with TokenManager(fetch) as single, TokenManager({"key": fetch}) as keyed:
        token = await single.get()
        await keyed.get("key")
        handle, floor, bare, snippet = keyed.handle("key"), Floor(token), Bare(token), Snippet(token)
        await handle.get()

        # One body each, so that the specialising interpreter sees one kind of call at each place.
        async def awaits_trivial(count):
            for _ in range(count):
                await trivial()

        async def awaits_floor(count):
            for _ in range(count):
                await floor.get()

        async def awaits_default(count):
            for _ in range(count):
                await single.get()

        async def awaits_handle(count):
            for _ in range(count):
                await handle.get()

        async def awaits_keyed(count):
            for _ in range(count):
                await keyed.get("key")

        async def awaits_bare(count):
            for _ in range(count):
                await bare.get("key")

        async def awaits_snippet(count):
            for _ in range(count):
                await snippet.get("key")

        bodies = (
            awaits_trivial,
            awaits_floor,
            awaits_default,
            awaits_handle,
            awaits_keyed,
            awaits_bare,
            awaits_snippet,
        )
        count = 5000
        measures = [coro_rounds(body, count) for body in bodies]
        for one in measures:
            one()
        unit = min(measures[0]() for _ in range(20)) / count * 1e9
        _, at_floor, default, by_handle, by_key, by_bare, by_snippet = ratio(options.pick(401, 101), *measures)

        sent = []
        for coroutine in (single.get(), handle.get(), keyed.get("key")):
            try:
                coroutine.send(None)
            except StopIteration as stop:
                sent.append(isinstance(stop.value, Token))
            else:
                coroutine.close()
                sent.append(False)

        calls = options.pick(1_000_000, 200_000)
        await awaits_default(1000)
        gc.collect()
        blocks = sys.getallocatedblocks()
        await awaits_default(calls)
        grown_blocks = sys.getallocatedblocks() - blocks
        tracemalloc.start()
        await awaits_default(1000)
        size = tracemalloc.get_traced_memory()[0]
        await awaits_default(calls // 10)
        await awaits_handle(calls // 10)
        grown = tracemalloc.get_traced_memory()[0] - size
        tracemalloc.stop()

    return [
        Row("await of a trivial coroutine", unit, unit="ns", note="the unit"),
        Row("the floor, in this run", at_floor),
        Row("await get(), default key", default, TARGET),
        Row("await handle.get()", by_handle, TARGET),
        Row('await get("key")', by_key, note="DESIGN 5: 2.1 / 2.2 / 2.4 with a look-up"),
        Row("lock + dict, the barest", by_bare),
        Row("lock + dict, as people write it", by_snippet),
        Row(
            "get() against lock + dict, the barest",
            default / by_bare,
            0.25,
            note=f"the floor is {at_floor / by_bare:.3f}",
        ),
        Row("get() against lock + dict, as people write it", default / by_snippet, 0.25),
        Row("handle.get() against the same", by_handle / by_snippet, 0.25),
        Row('get("key") against the same', by_key / by_snippet),
        Row("coro.send(None) ends at once (of 3)", float(sum(sent)), 3.0, unit="", least=True),
        Row(
            f"blocks grown over {calls:,} calls", float(grown_blocks), 50.0, unit="", note="noise of the harness itself"
        ),
        Row(f"bytes grown over {calls // 5:,} calls (tracemalloc)", float(grown), 2048.0, unit="B"),
    ]
