"""K2: a process that was suspended while it asked for a lease asks once more. It does not take the store for down."""

from __future__ import annotations

import pytest
from tests.kinds.rotating import Server, Source
from tests.machinery.scripted import Recorder

from evertoken import TokenManager
from evertoken.events import RefreshFailed
from evertoken.stores import MemoryStore

once = pytest.mark.asyncio(loop_factories=["virtual"])


class Suspending:
    """A store in memory. After some calls of `begin` the process stood still for a minute, by the wall clock."""

    def __init__(self, clock):
        self._clock = clock
        self._memory = MemoryStore(clock=clock)
        self.times = 0

    def __getattr__(self, name):
        return getattr(self._memory, name)

    async def begin(self, *args, **options):
        begun = await self._memory.begin(*args, **options)
        if self.times:
            self.times -= 1
            self._clock.step(60.0)
        return begun


@once
@pytest.mark.parametrize(("times", "fails"), [(0, False), (1, False), (2, True)])
async def test_suspended_while_it_asks_for_the_lease(clock, times, fails):
    """K2: a lease that ended meanwhile is asked for again. If that one ends in the same way, the store is too slow."""
    server, told = Server(clock, lifetime=3600.0), Recorder()
    store = Suspending(clock)
    async with TokenManager(
        Source(server, server.login()), clock=clock, store=store, namespace="", observers=[told]
    ) as tokens:
        first = await tokens.get()
        store.times = times
        if not fails:
            assert await tokens.refresh() != first
        else:
            with pytest.raises(Exception, match="store"):
                await tokens.refresh()
        assert bool(told.of(RefreshFailed)) is fails
    assert server.replays == []
