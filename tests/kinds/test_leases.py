"""K2, K3, K4: a lease binds nobody longer than it should, and a member knows its own."""

from __future__ import annotations

import asyncio

import pytest
from tests.kinds.rotating import Server, Source, ask, live
from tests.machinery.scripted import ScriptedSource

from evertoken import TokenManager
from evertoken.stores import MemoryStore
from evertoken.testing import VirtualClock

plain = pytest.mark.asyncio(loop_factories=["virtual"])


class Faulty:
    """A store whose steps fail before or after they are done, or are slow, as told."""

    def __init__(self, inner):
        self._inner = inner
        self.before: set[str] = set()
        self.after: set[str] = set()
        self.delay = 0.0

    def __getattr__(self, name):
        if name == "watch":
            raise AttributeError(name)

        async def call(*args):
            await asyncio.sleep(self.delay)
            if name in self.before:
                raise ConnectionError("before")
            found = await getattr(self._inner, name)(*args)
            if name in self.after:
                raise ConnectionError("after")
            return found

        return call


@plain
@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.parametrize("lifetime", [2.0, 15.0, 100.0])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "steps", [{"abandon"}, {"commit"}, {"begin"}, {"mark"}, {"renew"}, {"begin", "abandon", "commit"}]
)
async def test_a_step_that_failed_once(clock, steps, when, lifetime, rotating):
    """K4: after a step of the store that failed, its member goes on at once: its own lease keeps it from nothing."""
    server = Server(clock, lifetime=lifetime)
    source = Source(server, server.login(), latency=0.1) if rotating else ScriptedSource(clock, lifetime=lifetime)
    store = Faulty(MemoryStore(clock=clock))
    async with TokenManager(source, clock=clock, store=store, namespace="") as tokens:
        await ask(tokens)
        for _ in range(4):
            await clock.advance(lifetime * 1.3)
            setattr(store, when, steps)
            await clock.advance(lifetime * 0.4)
            setattr(store, when, set())
            begun = clock.monotonic()
            assert await tokens.get(timeout=30.0) is not None
            assert clock.monotonic() - begun <= 2.1
    assert server.replays == []


@plain
@pytest.mark.parametrize("lifetime", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("delay", [0.5, 1.5, 2.5, 4.5, 7.0])
async def test_a_slow_store_starves_nobody(clock, delay, lifetime):
    """K3: where tokens may be minted freely, a store that is slow keeps nobody from them."""
    store = Faulty(MemoryStore(clock=clock))
    source = ScriptedSource(clock, lifetime=lifetime)
    source.rotates = False
    async with TokenManager(source, clock=clock, store=store, namespace="") as tokens:
        await ask(tokens)
        store.delay = delay
        await clock.advance(20.0)
        found = 0
        for _ in range(20):
            await clock.advance(1.7)
            found += await ask(tokens) is not None
        assert found >= 18


@plain
@pytest.mark.parametrize("step", [-3600.0, -30.0, 30.0, 3600.0])
@pytest.mark.parametrize("shared_clock", [True, False], ids=["all clocks", "the store's"])
async def test_the_clock_is_set_while_a_holder_dies(clock, step, shared_clock):
    """K2: a lease of a member that died ends within the longest lease, wherever a clock is set."""
    own = clock if shared_clock else VirtualClock()
    own.time()
    store = MemoryStore(clock=own)
    server = Server(clock)
    await store.begin('["",null]', "somebody who died", 10.0)
    own.step(step)
    async with TokenManager(Source(server, server.login()), clock=clock, store=store, namespace="") as tokens:
        begun = clock.monotonic()
        assert await tokens.get(timeout=60.0) is not None
        assert clock.monotonic() - begun <= 12.0
        await live(clock, [tokens], 300.0)
        assert tokens.peek() is not None
    assert server.replays == []
