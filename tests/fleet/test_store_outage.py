"""
K4: a store that is down for all keys.

It starves none of them, and writes one line to the log, one a minute, and one at its end.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.machinery.log_lines import lines
from tests.machinery.scripted import Recorder, ScriptedSource

from evertoken import Token, TokenManager
from evertoken.events import StoreFailed, StoreStillDown, StoreUp, TokenUnpersisted
from evertoken.stores import MemoryStore

__all__ = ["lines"]

# Many keys, on the virtual loop alone.
once = pytest.mark.asyncio(loop_factories=["virtual"])

KEYS = range(40)


class Failing:
    """A memory store whose steps fail while they are named in `fails`."""

    def __init__(self, clock: Any) -> None:
        self.memory = MemoryStore(clock=clock)
        self.fails: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return self._fail if name in self.fails else getattr(self.memory, name)

    async def _fail(self, *_: Any, **__: Any) -> Any:
        msg = "down"
        raise ConnectionError(msg)


class Hanging(Failing):
    """The same, but the steps do not answer."""

    async def _fail(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()


@once
@pytest.mark.parametrize("rotates", [False, True])
@pytest.mark.parametrize(
    "fails",
    [{"begin", "read", "commit", "mark", "abandon"}, {"commit"}, {"begin"}],
    ids=["all", "commit", "begin"],
)
async def test_many_keys(clock, lines, fails, rotates):
    """K4: forty keys fail for half an hour: a few lines a minute and step, and every failure reaches observers."""
    store, told = Failing(clock), Recorder()
    source = ScriptedSource(clock, lifetime=300.0)
    source.rotates = rotates
    async with TokenManager(
        source_for=lambda key: source, store=store, clock=clock, namespace="", observers=[told]
    ) as tokens:
        await asyncio.gather(*(tokens.get(key) for key in KEYS))
        assert not lines
        store.fails = fails
        await clock.advance(1800.0)
        assert rotates or all(tokens.peek(key) is not None for key in KEYS)
        steps = {event.operation for event in told.of(StoreFailed)}
        assert steps <= fails
        assert lines["StoreFailed"] == len(steps)
        # One flight a second tries a step that is down, six times at most.
        assert len(told.of(StoreFailed)) <= 6 * 1800 * len(steps)
        assert 20 * len(steps) <= lines["StoreStillDown"] <= 30 * len(steps)
        assert lines["TokenUnpersisted"] <= 2
        assert lines["RefreshFailed"] <= 2
        assert rotates or len(told.of(TokenUnpersisted)) > len(KEYS)
        assert not lines["StoreUp"]
        store.fails = set()
        await clock.advance(120.0)
        assert lines["StoreUp"] == len(steps)
        assert sum(event.failures for event in told.of(StoreUp)) == len(told.of(StoreFailed))
        assert all(event.took >= 1400.0 for event in told.of(StoreUp))
        assert {event.operation for event in told.of(StoreStillDown)} == steps
        before = sum(lines.values())
        await clock.advance(600.0)
        assert sum(lines.values()) == before


@once
@pytest.mark.parametrize("store", [Failing, Hanging])
@pytest.mark.parametrize(
    "fails", [{"begin", "read", "commit", "abandon"}, {"commit"}, {"begin"}], ids=["all", "commit", "begin"]
)
async def test_short_tokens(clock, store, fails):
    """K4: a store that is down or hangs delays no fetch of a token that can be had without a lease."""
    down = store(clock)
    source = ScriptedSource(clock, lifetime=300.0, latency=0.1)
    source.rotates = False
    async with TokenManager(source_for=lambda key: source, store=down, clock=clock, namespace="") as tokens:
        await asyncio.gather(*(tokens.get(key) for key in KEYS))
        down.fails = fails
        for _ in range(90):
            await clock.advance(10.0)
            assert all(tokens.peek(key) is not None for key in KEYS)
        assert source.fetches <= 6 * len(KEYS)
        down.fails = set()
        await clock.advance(30.0)
        # Everything is kept now, as another member sees.
        async with TokenManager(source_for=lambda key: source, store=down, clock=clock, namespace="") as others:
            before = source.fetches
            for key in KEYS:
                assert await others.get(key) == tokens.peek(key)
            assert source.fetches == before


@once
async def test_one_failure(clock, lines):
    """K4: a single failure is one warning, and its end is not told."""
    store = Failing(clock)
    source = ScriptedSource(clock, lifetime=300.0)
    source.rotates = False
    async with TokenManager(source, store=store, clock=clock, namespace="") as tokens:
        store.fails = {"begin"}
        await tokens.get()
        store.fails = set()
        await clock.advance(600.0)
    assert lines == {"StoreFailed": 1, "TokenUnpersisted": 1}


@once
@pytest.mark.parametrize("fails", [{"begin", "read", "commit", "mark", "abandon"}, {"begin"}], ids=["all", "begin"])
async def test_new_keys_while_it_hangs(clock, fails):
    """K3, R4: a store that hangs holds up a few callers for a few seconds, and not each key that has no token."""
    store = Hanging(clock)
    source = ScriptedSource(clock, lifetime=60.0)
    source.rotates = False
    held: list[float] = []

    async def get(tokens: Any, key: Any) -> None:
        begun = clock.monotonic()
        await tokens.get(key)
        held.append(clock.monotonic() - begun)

    async with TokenManager(source_for=lambda key: source, store=store, clock=clock, namespace="") as tokens:
        store.fails = fails
        for key in range(3):
            await get(tokens, ("first", key))
        held.clear()
        calls = [asyncio.ensure_future(get(tokens, key)) for key in range(300)]
        for second in range(60):
            calls += [asyncio.ensure_future(get(tokens, (second, key))) for key in range(5)]
            await clock.advance(1.0)
        await asyncio.gather(*calls)
    # One flight a second tries the store.
    assert sum(took > 1.0 for took in held) <= 61
    assert max(held) <= 5.1


class Slow(Hanging):
    """The same, but steps take a moment, and the most that ran at once are counted."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.running = self.most = 0

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        if name not in {"begin", "commit"}:
            return method

        async def step(*arguments: Any, **named: Any) -> Any:
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await asyncio.sleep(0.01)
                return await method(*arguments, **named)
            finally:
                self.running -= 1

        return step


@once
@pytest.mark.parametrize("hangs", [False, True])
async def test_steps_at_once(clock, monkeypatch, hangs):
    """K4: at most 64 steps run at once, also while none ends; those that wait for a place go on one at a time."""
    store = Slow(clock)
    store.fails = {"begin"} if hangs else set()
    count = 100 if hangs else 1000
    timers, call_later = [], type(clock).call_later
    monkeypatch.setattr(
        type(clock), "call_later", lambda self, *given, **named: timers.append(1) or call_later(self, *given, **named)
    )
    async with TokenManager(
        source_for=lambda key: ScriptedSource(clock), store=store, namespace="", clock=clock, concurrency=1000
    ) as tokens:
        asking = [asyncio.ensure_future(tokens.get(key, timeout=60.0)) for key in range(count)]
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert hangs or all(isinstance(one, Token) for one in found)
        assert store.most == 64
        # A few timers for each step, and not one for each that waits whenever a step ends.
        assert hangs or len(timers) < 10 * count
