"""Many keys: one task, one queue, a cap, few bytes."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest
from tests.gated import virtual
from tests.machinery.scripted import Recorder

from evertoken import Token, TokenManager
from evertoken._model.events import KeyEvicted

KEYS = 20_000
# Entries of the queue that no longer count, a quarter of all at most, make up for 20 bytes of it.
BYTES_A_KEY = 475


class Bare:
    """A source that costs little itself."""

    rotates: bool | None = None

    def __init__(self, clock: Any, *, latency: float = 0.0) -> None:
        self.clock = clock
        self.latency = latency
        self.fetches = 0
        self.flying = 0
        self.most = 0

    async def fetch(self, request: Any, /) -> Token:
        self.fetches += 1
        self.flying += 1
        self.most = max(self.most, self.flying)
        if self.latency:
            await asyncio.sleep(self.latency)
        self.flying -= 1
        now = self.clock.time()
        return Token(f"token-{self.fetches}", issued_at=now, expires_at=now + 3600.0)


async def open_all(manager: TokenManager[Any], keys: list[str]) -> None:
    for begin in range(0, len(keys), 1000):
        await asyncio.gather(*(manager.get(key) for key in keys[begin : begin + 1000]))


def ours() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("evertoken:")]


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_an_hour_of_many_keys(clock):
    """F6: an hour of many hourly tokens: one task, no timer a key, never above the cap, each refreshed once."""
    source = Bare(clock, latency=0.05)
    keys = [f"tenant-{i}" for i in range(KEYS)]
    async with TokenManager(source_for=lambda key: source, clock=clock, idle_after=None) as manager:
        await open_all(manager, keys)
        assert source.fetches == KEYS
        assert ours() == ["evertoken:supervisor"]
        supervisor = manager._life.session.maintenance.supervisor
        assert len(supervisor.deadlines) == KEYS
        assert len(asyncio.get_running_loop()._scheduled) < 200
        wakeups = supervisor.wakeups
        await clock.advance(3600.0)
        assert KEYS * 2 <= source.fetches <= KEYS * 2 + KEYS // 10
        assert source.most == 16
        assert all(manager.peek(key) is not None for key in keys)
        assert supervisor.wakeups - wakeups <= KEYS + 400
        assert manager.health().restarts == 0


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_bytes_a_key(clock):
    """F6: what a key costs on top of its own string and its token's."""
    source = Bare(clock)
    keys = [f"tenant-{i}" for i in range(KEYS)]
    async with TokenManager(source_for=lambda key: source, clock=clock) as manager:
        await open_all(manager, keys[:100])
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await open_all(manager, keys[100:])
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        strings = sum(len(manager.peek(key).access_token) + 49 for key in keys[100:])
        each = (grown - strings) / (KEYS - 100)
        print(f"\n{each:.0f} bytes a key")  # noqa: T201 - the figure
        assert each < BYTES_A_KEY


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_idle_keys_are_evicted(clock):
    """F6, trap 77: keys nobody asks for are dropped, all of them, and those in use stay."""
    source = Bare(clock)
    recorder = Recorder()
    keys = [f"tenant-{i}" for i in range(2000)]
    async with TokenManager(
        source_for=lambda key: source, clock=clock, idle_after=600.0, observers=[recorder]
    ) as manager:
        await open_all(manager, keys)
        for _ in range(80):
            await clock.advance(30.0)
            for key in keys[:20]:
                await manager.get(key)
        assert sorted(manager.snapshot().keys) == sorted(keys[:20])
        assert len(recorder.of(KeyEvicted)) == 1980
        assert len(manager._life.session.maintenance.supervisor.deadlines) == 20
        # Dropped from memory too, not just from sight.
        assert len(manager._life.session.maintenance.supervisor.deadlines._heap) <= 64


@virtual
async def test_a_burst_of_due_keys_is_spread_by_the_cap(clock):
    """F6: when all keys are due at once (after a suspend), fetches run by the cap, readers are served, all land."""
    source = Bare(clock, latency=1.0)
    keys = [f"tenant-{i}" for i in range(500)]
    async with TokenManager(source_for=lambda key: source, clock=clock, concurrency=4) as manager:
        await open_all(manager, keys)
        clock.step(3000.0)
        await clock.advance(11.0)
        assert manager.snapshot().queued > 400
        assert len([name for name in ours() if "refresh" in name]) == 4
        for key in keys:
            assert (await manager.get(key)).valid_at(clock.time())
        await clock.advance(130.0)
        assert source.most == 4
        assert source.fetches == 1000
        assert manager.snapshot().queued == 0
        assert not manager._life.session.limits._limits


@virtual
async def test_fetches_that_need_another_key_of_the_same_provider(clock):
    """F6: fetches that ask for another key of their provider do not wait for the places that they hold."""
    source = Bare(clock, latency=1.0)

    def source_for(key: str) -> Any:
        async def derive() -> tuple[str, float]:
            root = await manager.get("root")
            return f"{key}-of-{root.access_token}", 3600.0

        return source if key == "root" else derive

    async with TokenManager(source_for=source_for, clock=clock, concurrency=2) as manager:
        begun = clock.time()
        tokens = await asyncio.gather(*(manager.get(f"tenant-{i}") for i in range(40)))
        assert {token.access_token.partition("-of-")[2] for token in tokens} == {"token-1"}
        assert clock.time() - begun == pytest.approx(1.0, abs=0.01)
        assert source.fetches == 1
        await clock.advance(0.0)
        assert not manager._life.session.limits._limits


async def test_functions_in_threads_that_need_another_key_of_the_same_provider():
    """F6: plain functions, in their threads, do not delay it either."""

    def source_for(key: str) -> Any:
        return lambda: ("root" if key == "root" else f"{key}-of-{manager.get_sync('root').access_token}", 3600.0)

    async with TokenManager(source_for=source_for, concurrency=2) as manager:
        tokens = await asyncio.gather(*(manager.get(f"tenant-{i}") for i in range(10)))
    assert [token.access_token for token in tokens] == [f"tenant-{i}-of-root" for i in range(10)]
