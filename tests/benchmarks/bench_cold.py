"""
10,000 callers on a cold key; and what it costs to cancel them.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from evertoken import TokenManager
from tests.benchmarks._measure import CountingLoop, Options, Row, Rows, median, run, shuffled

CALLERS = 10_000
ORDERS = {"in order": list, "in reverse": lambda tasks: tasks[::-1], "at random": shuffled}


def rows(options: Options) -> Rows:
    yield from run(_cold, CountingLoop)
    yield from run(lambda: _cancel(options))


async def _cold() -> list[Row]:
    loop = asyncio.get_running_loop()
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

    async with TokenManager(source_for=lambda key: fetch) as tokens:
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


async def _cancel(options: Options) -> list[Row]:
    found = []
    repeats = options.pick(3, 1)
    for name, order in ORDERS.items():
        pairs = [(await _ours(CALLERS, order), await _shield(CALLERS, order)) for _ in range(repeats)]
        ours, shields = median(a for a, _ in pairs), median(b for _, b in pairs)
        note = f"{ours * 1e3:.0f} ms against {shields * 1e3:.0f} ms"
        found.append(Row(f"cancel 10,000 waiters {name}, against shield", median(a / b for a, b in pairs), 0.1, note=note))
    for name, order in ORDERS.items():
        spent = {n: median([await _ours(n, order) for _ in range(3)]) / n for n in (1_000, 10_000, 100_000)}
        note = ", ".join(f"{n:,}: {each * 1e6:.1f} us" for n, each in spent.items())
        found.append(Row(f"a waiter of 100,000 against one of 1,000, {name}", spent[100_000] / spent[1_000], 3.0, note=note))
    return found
