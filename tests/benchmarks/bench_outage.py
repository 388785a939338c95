"""The endpoint is down past expiry, and 1,000 callers a second come."""

from __future__ import annotations

import asyncio
import gc
import logging
from time import perf_counter

from tests.benchmarks._measure import Options, Row, Rows, percentile, run
from tests.benchmarks._process import ServerProcess

from evertoken import TokenManager, TokenUnavailable
from evertoken._model.events import FetchStarted, RefreshFailed

LIFETIME, RATE = 4.0, 1000


def rows(options: Options) -> Rows:
    logging.getLogger("evertoken").setLevel(logging.CRITICAL)
    with ServerProcess(lifetime=LIFETIME) as server:
        yield from run(lambda: _outage(server, options.pick(15.0, 5.0)))


async def _outage(server: ServerProcess, seconds: float) -> list[Row]:
    seen: list[object] = []
    async with TokenManager(server.client_credentials(), observers=[seen.append]) as tokens:
        first = await tokens.get()
        server.tell("fail", 503)
        assert first.expires_at is not None
        await asyncio.sleep(first.expires_at - tokens.clock.time() + 0.01)

        told: list[float] = []

        async def caller():
            begun = perf_counter()
            try:
                await tokens.get()
            except TokenUnavailable:
                told.append(perf_counter() - begun)

        # The longest garbage collection of the whole process, which delays the task that runs at that moment.
        pauses = [0.0]

        def collecting(phase: str, _: object) -> None:
            pauses.append(perf_counter() if phase == "start" else perf_counter() - pauses.pop())

        gc.callbacks.append(collecting)
        await caller()
        told.clear()
        start = perf_counter()
        count = int(RATE * seconds)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(max(0.0, start + number / RATE - perf_counter()))
                group.create_task(caller())
        gc.callbacks.remove(collecting)
        failed = [event for event in seen if isinstance(event, RefreshFailed)]
        began = [event.at for event in seen if isinstance(event, FetchStarted)][1:]
        # Each fetch of the outage but the first was announced by the failure before it.
        off = [at - event.retry_at for event, at in zip(failed, began[1:], strict=False)]
        server.tell("heal")
        healed = perf_counter()
        await tokens.get(timeout=60.0)
        recovery = perf_counter() - healed
        gap = failed[-1].retry_at - failed[-1].at
    return [
        Row("callers told TokenUnavailable", float(len(told)), float(count), unit="", least=True),
        Row("... median", percentile(told, 0.5) * 1e6, unit="us"),
        Row("... p99", percentile(told, 0.99) * 1e3, 1.0, unit="ms"),
        Row(
            "... slowest",
            max(told) * 1e3,
            1.0,
            unit="ms",
            note=f"of {len(told):,}; longest pause of the collector {max(pauses) * 1e3:.1f} ms",
        ),
        Row(
            "fetches of the outage",
            float(len(began)),
            float(len(failed) + 1),
            unit="",
            note="one for each failure, none between",
        ),
        Row(
            "a fetch was off its schedule by, at most", max(map(abs, off)) * 1e3, 25.0, unit="ms", note=f"of {len(off)}"
        ),
        Row(
            "recovery after the endpoint is back",
            recovery,
            gap + 0.5,
            unit="s",
            note=f"the wait between retries is {gap:.2f} s",
        ),
    ]
