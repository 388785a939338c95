"""10,000 callers on a cold key, and the cost of cancelling them."""

from __future__ import annotations

import asyncio
import gc
import math
from time import perf_counter

from tests.benchmarks._measure import CountingLoop, Options, Row, Rows, median, run, shuffled

from evertoken import TokenManager

CALLERS = 10_000
ORDERS = {"in order": list, "in reverse": lambda tasks: tasks[::-1], "at random": shuffled}


def rows(options: Options) -> Rows:
    yield from run(_cold, CountingLoop)
    yield from run(lambda: _cancel(options))


async def _cold() -> list[Row]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    fetches, answered, served = 0, 0, []

    async def fetch():
        nonlocal fetches, answered
        fetches += 1
        await asyncio.sleep(0.2)
        answered = loop.rounds
        return "token", 3600.0

    async def caller(tokens):
        await tokens.get("key")
        served.append(loop.rounds)

    async with TokenManager({"key": fetch}) as tokens:
        begun = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(caller(tokens))
        took = perf_counter() - begun
    return [
        Row("10,000 callers on a cold key: fetches", float(fetches), 1.0, unit=""),
        Row("loop rounds from the answer to the last caller", float(max(served) - answered), 2.0, unit=""),
        Row("seconds in all, endpoint 0.2 s", took, unit="s"),
    ]


async def _cancelled(tasks, order):
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ordered = order(tasks)
    gc.collect()
    begun = perf_counter()
    for task in ordered:
        task.cancel()
    await asyncio.sleep(0)
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
    return perf_counter() - begun


async def _ours(count, order):
    landed = asyncio.Event()

    async def fetch():
        await landed.wait()
        return "token", 3600.0

    async with TokenManager(fetch) as tokens:
        took = await _cancelled([asyncio.create_task(tokens.get()) for _ in range(count)], order)
        landed.set()
        assert (await tokens.get()).access_token == "token"
    return took


async def _shield(count, order):
    async def fetch():
        await asyncio.get_running_loop().create_future()

    async def caller(shared):
        await asyncio.shield(shared)

    shared = asyncio.create_task(fetch())
    await asyncio.sleep(0)
    took = await _cancelled([asyncio.create_task(caller(shared)) for _ in range(count)], order)
    shared.cancel()
    await asyncio.wait({shared})
    return took


async def _bare(count, order):
    async def caller():
        await asyncio.get_running_loop().create_future()

    return await _cancelled([asyncio.create_task(caller()) for _ in range(count)], order)


async def _cancel(options: Options) -> list[Row]:
    found = []
    repeats = options.pick(5, 1)
    for name, order in ORDERS.items():
        pairs = [(await _ours(CALLERS, order), await _shield(CALLERS, order)) for _ in range(repeats)]
        ours, shields = median(a for a, _ in pairs), median(b for _, b in pairs)
        note = f"{ours * 1e3:.0f} ms against {shields * 1e3:.0f} ms"
        found.append(
            Row(f"cancel 10,000 waiters {name}, against shield", median(a / b for a, b in pairs), 0.1, note=note)
        )
    # The exponent of the growth: 1 is linear, 2 is a shield. The garbage collector is held off, for its work grows with
    # all that lives (a cancelled task keeps its frames until it is dropped); the note shows both, and the bare
    # future, whose own growth (memory visited at random, not in order) is what can be reached.
    for name, order in ORDERS.items():
        each = {count: await _each(count, order) for count in (1_000, 10_000, 100_000)}
        ours, _, bare = (
            math.log10(large / small) / 2.0 + 1.0 for small, large in zip(each[1_000], each[100_000], strict=True)
        )
        note = "us a waiter, collector off / on / bare future: " + ", ".join(
            f"{count:,}: " + " / ".join(f"{one * 1e6:.1f}" for one in found_) for count, found_ in each.items()
        )
        found.append(
            Row(f"exponent of growth, 1,000 to 100,000 {name}", ours, round(bare + 0.2, 2), unit="", note=note)
        )
    return found


async def _each(count, order):
    spent: list[list[float]] = [[], [], []]
    for _ in range(7 if count < 100_000 else 2):
        for times, (cost, collects) in zip(spent, ((_ours, False), (_ours, True), (_bare, False)), strict=True):
            if not collects:
                gc.disable()
            try:
                times.append(await cost(count, order))
            finally:
                gc.enable()
    return [min(times) / count for times in spent]
