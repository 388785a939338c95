"""
One member of a fleet with many keys, in a process of its own: `python -m tests.benchmarks._load JSON`.

It prints "lives", and fetches all keys on command. Then it prints "cold", goes on at the next command, and prints its
observations.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time
from typing import Any

from evertoken import TokenManager
from evertoken.stores import PostgresStore, RedisStore

LATENCY = 0.01


class Source:
    """The source of one key: it writes down when it was called."""

    rotates: bool | None = False

    def __init__(self, key: int, provider: str, lifetime: float, fetches: list[tuple[int, float]]) -> None:
        self.key = key
        self.provider = provider
        self.lifetime = lifetime
        self.fetches = fetches

    async def fetch(self, request: Any, /) -> tuple[str, float]:
        self.fetches.append((self.key, time.time()))
        await asyncio.sleep(LATENCY)
        return f"token-{self.key}-{os.getpid()}-{len(self.fetches)}", self.lifetime


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def told(word: str) -> None:
    print(word, flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def live(task: dict[str, Any]) -> dict[str, Any]:
    redis = task["store"].startswith("redis:")
    store: Any = RedisStore(task["store"]) if redis else PostgresStore(task["store"])
    fetches: list[tuple[int, float]] = []

    def source_for(key: int) -> Source:
        return Source(key, f"provider-{key % task['providers']}", task["lifetime"], fetches)

    keys = range(task["keys"])
    async with TokenManager(source_for=source_for, store=store, namespace="load") as tokens:
        await told("lives")
        begun = cpu(), time.monotonic()
        got = await asyncio.gather(*(tokens.get(key, timeout=120.0) for key in keys), return_exceptions=True)
        cold = cpu() - begun[0], time.monotonic() - begun[1]
        failed = [repr(one) for one in got if isinstance(one, BaseException)]
        cold_fetches = len(fetches)
        await told("cold")
        await asyncio.sleep(task["seconds"])
        served = sum(tokens.peek(key) is not None for key in keys)
        used = cpu() - begun[0]
    return {
        "cold_cpu": cold[0],
        "cold_took": cold[1],
        "cold_fetches": cold_fetches,
        "cpu": used,
        "failed": failed[:3],
        "fetches": fetches,
        "lacking": len(keys) - served,
    }


if __name__ == "__main__":
    logging.getLogger("evertoken").setLevel(logging.CRITICAL)
    print(json.dumps(asyncio.run(live(json.loads(sys.argv[1])))))
