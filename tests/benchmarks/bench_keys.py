"""100,000 keys: memory, arming, a virtual hour, and the same under uvloop."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

from tests.benchmarks._measure import Options, Row, Rows, median, run

from evertoken import TokenManager
from evertoken._engine.chore import Chore
from evertoken._engine.maintenance import Maintenance
from evertoken._engine.supervisor import Supervisor
from evertoken._model.key_state import KeyState
from evertoken.sources import OAuthClient, RefreshToken
from evertoken.testing import VirtualClock, VirtualTimeLoop

# One client for all tenants, as in a real service.
_CLIENT = OAuthClient(token_endpoint="https://login.example.com/token", client_id="svc", client_secret="s3cret")

KEYS, CAP = 100_000, 16


class Source:
    """One for all keys, with strings that were there before."""

    provider = "provider"

    def __init__(self, tokens: dict[str, str], latency: float | None, lifetime: float) -> None:
        self.tokens = tokens
        self.latency = latency
        self.lifetime = lifetime
        self.fetches = self.concurrent = self.most = 0

    async def fetch(self, request, /):
        self.fetches += 1
        self.concurrent += 1
        self.most = max(self.most, self.concurrent)
        try:
            if self.latency is not None:
                await asyncio.sleep(self.latency)
        finally:
            self.concurrent -= 1
        return self.tokens[request.key], self.lifetime


def source_for(source: Source) -> Callable[[str], Source]:
    def one(key: str) -> Source:
        return source

    return one


def strings(count: int) -> dict[str, str]:
    return {f"tenant-{number:06d}": f"token-{number:06d}-{'x' * 32}" for number in range(count)}


def upkeep_of(manager: TokenManager) -> Maintenance:
    session = manager._life.session
    assert session is not None, "the manager runs"
    return session.maintenance


async def fill(manager, keys):
    for begin in range(0, len(keys), 1000):
        await asyncio.gather(*map(manager.get, keys[begin : begin + 1000]))


def rows(options: Options) -> Rows:
    count = options.pick(KEYS, 20_000)
    yield from run(lambda: _arming(count, options))
    yield from run(lambda: _memory(count, options))
    yield from run(lambda: _hour(count), VirtualTimeLoop)
    yield from _loops(options)


async def _arming(count: int, options: Options) -> list[Row]:
    now = time.time()
    tokens = strings(count)
    source = Source(tokens, None, 3600.0)

    async def sleeping() -> float:
        gc.collect()
        begun = perf_counter()
        tasks = [asyncio.create_task(asyncio.sleep(3600.0 + number * 0.01)) for number in range(count)]
        await asyncio.sleep(0)
        took = perf_counter() - begun
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return took

    def deadlines() -> float:
        supervisor: Supervisor[KeyState | Chore] = upkeep_of(manager).supervisor
        fresh = type(supervisor)(manager.clock, on_due=print, on_step=print, on_restart=print)
        entries = [KeyState(key, source) for key in tokens]
        gc.collect()
        begun = perf_counter()
        for number, entry in enumerate(entries):
            fresh.set(entry, now + 3600.0 + number * 0.01)
        return perf_counter() - begun

    async with TokenManager(source_for=source_for(source)) as manager:
        await fill(manager, list(tokens))
        rounds = options.pick(5, 3)

        def restart() -> float:
            # All that a start does for keys in memory: the policy, the jitter of each, and the queue.
            upkeep = upkeep_of(manager)
            for entry in manager._keys.values():
                entry.deadline = None
            upkeep.supervisor.deadlines = type(upkeep.supervisor.deadlines)()
            gc.collect()
            begun = perf_counter()
            upkeep.start()
            return perf_counter() - begun

        found = [(await sleeping(), deadlines(), restart()) for _ in range(rounds)]
    sleep, queue, start = (median(one[place] for one in found) for place in range(3))
    return [
        Row(f"{count:,} sleeping tasks: to arm", sleep * 1e3, unit="ms"),
        Row("arming the queue, against them", median(b / a for a, b, _ in found), 0.05, note=f"{queue * 1e3:.0f} ms"),
        Row(
            "a start with all keys in memory (policy, jitter and queue)",
            median(c / a for a, _, c in found),
            note=f"{start * 1e3:.0f} ms",
        ),
    ]


async def _memory(count: int, options: Options) -> list[Row]:
    tokens = strings(count)
    keys = list(tokens)
    found = []
    # All fetched at once, so that no instant is shared by luck; and one by one.
    source = Source(tokens, None, 3600.0)
    warm = TokenManager(source_for=source_for(source))
    async with warm:
        await fill(warm, keys[:2000])
    del warm
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    first = tracemalloc.take_snapshot()
    async with TokenManager(source_for=source_for(source)) as manager:
        await fill(manager, keys)
        await asyncio.sleep(0.1)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        where = tracemalloc.take_snapshot().compare_to(first, "lineno")
        tasks = len(asyncio.all_tasks()) - 1
        tracemalloc.stop()
    places = _places(where, count)
    key = (after - before) / count
    source_, source_places = _source_bytes(options.pick(5_000, 1_000))
    found.append(Row(f"bytes a key, {count:,} keys in service", key, unit="B", note=places))
    found.append(
        Row("... of a RefreshToken source, strings of the caller aside", source_, unit="B", note=source_places)
    )
    found.append(Row("... of both", key + source_, 700.0, unit="B"))
    found.append(Row("tasks beside ours", float(tasks), 1.0, unit=""))
    return found


def _source_bytes(count: int) -> tuple[float, str]:
    """Return the bytes of one source of many that share a client, and where they go."""
    refresh_tokens = [f"refresh-{number:06d}" for number in range(count)]
    made = [_refresh_token(refresh_tokens[0])]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    first = tracemalloc.take_snapshot()
    made += map(_refresh_token, refresh_tokens)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    where = tracemalloc.take_snapshot().compare_to(first, "lineno")
    tracemalloc.stop()
    return (after - before) / count, _places(where, count)


def _refresh_token(refresh_token: str) -> RefreshToken:
    return RefreshToken(_CLIENT, refresh_token)


def _places(where: list[tracemalloc.StatisticDiff], count: int) -> str:
    return ", ".join(
        f"{Path(stat.traceback[0].filename).name}:{stat.traceback[0].lineno} {stat.size_diff / count:.0f}"
        for stat in where[:9]
        if stat.size_diff > count
    )


async def _hour(count: int) -> list[Row]:
    tokens = strings(count)
    keys = list(tokens)
    source = Source(tokens, 0.05, 3600.0)
    clock = VirtualClock()
    async with TokenManager(source_for=source_for(source), clock=clock, concurrency=CAP, idle_after=None) as manager:
        await fill(manager, keys)
        took = clock.time()
        supervisor = upkeep_of(manager).supervisor
        first, wakeups = source.fetches, supervisor.wakeups
        most_tasks = 0
        begun = process_time()
        for _ in range(60):
            await clock.advance(minutes=1)
            most_tasks = max(most_tasks, len(asyncio.all_tasks()) - 1)
        cpu = process_time() - begun
        fetches, wakeups = source.fetches - first, supervisor.wakeups - wakeups
        now = clock.time()
        dead = sum(entry.in_service(now) is None for entry in manager._keys.values())
    assert took
    return [
        Row("a virtual hour: fetches a key", fetches / count, 1.5, unit="", note=f"{fetches:,} in {cpu:.1f} s of CPU"),
        Row("... CPU a fetch", cpu / fetches * 1e6, unit="us"),
        Row("... fetches at one time", float(source.most), float(CAP), unit="", note="the cap"),
        Row("... wake-ups of the supervisor a fetch", wakeups / fetches, 1.1, unit="", note=f"{wakeups:,}"),
        Row(
            "... tasks at any minute",
            float(most_tasks),
            float(1 + 2 * CAP),
            unit="",
            note="the supervisor, and two a fetch",
        ),
        Row("... keys without a valid token at its end", float(dead), 0.0, unit=""),
    ]


async def _real(count: int, seconds: float) -> tuple[float, int, int, int]:
    tokens = strings(count)
    source = Source(tokens, 0.01, seconds)
    async with TokenManager(source_for=source_for(source), concurrency=CAP * 4) as manager:
        await fill(manager, list(tokens))
        supervisor = upkeep_of(manager).supervisor
        fetches, wakeups = source.fetches, supervisor.wakeups
        gc.collect()
        begun = process_time()
        await asyncio.sleep(seconds)
        cpu = process_time() - begun
        now = time.time()
        dead = sum(entry.in_service(now) is None for entry in manager._keys.values())
        return cpu, source.fetches - fetches, supervisor.wakeups - wakeups, dead


def _loops(options: Options) -> Rows:
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        yield Row("uvloop against asyncio", "skipped", note="uvloop is not installed")
        return
    count, seconds = options.pick((10_000, 10.0), (2_000, 4.0))
    shares, found = [], {}
    for _ in range(options.pick(3, 1)):
        for name, factory in (("asyncio", asyncio.SelectorEventLoop), ("uvloop", uvloop.new_event_loop)):
            found[name] = run(lambda: _real(count, seconds), factory)
        shares.append(found["uvloop"][0] / found["asyncio"][0])
    note = "; ".join(
        f"{name}: {cpu:.2f} s CPU, {fetches:,} fetches, {wakeups:,} wake-ups"
        for name, (cpu, fetches, wakeups, _) in found.items()
    )
    yield Row(f"CPU under uvloop against asyncio, {count:,} keys, {seconds:g} s", median(shares), 1.5, note=note)
    yield Row("... wake-ups a fetch under uvloop", found["uvloop"][2] / found["uvloop"][1], 1.5, unit="")
    yield Row("... keys without a valid token at the end", float(max(one[3] for one in found.values())), 0.0, unit="")
