"""K2: a process that was suspended while it asked for a lease asks once more. It does not take the store for down."""

from __future__ import annotations

import asyncio

import pytest
from tests.gated import GatedSource
from tests.kinds.rotating import Server, Source
from tests.machinery.scripted import Recorder, ScriptedSource

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


@once
@pytest.mark.parametrize("refreshes", [0, 1, 3])
async def test_what_came_after_the_lease_had_ended(clock, refreshes):
    """K2: the answer of a member that had lost its lease is not written over what peers have fetched since."""

    class Unrenewed(Suspending):
        async def renew(self, lease, ttl):
            return False

    store = MemoryStore(clock=clock)
    late, slow = GatedSource(clock), Unrenewed(clock)
    slow._memory = store
    quick = ScriptedSource(clock)
    quick.answer = lambda request: {"access_token": f"peer-{quick.fetches}", "expires_in": 3600}
    async with (
        TokenManager(late, clock=clock, store=slow, namespace="") as one,
        TokenManager(quick, clock=clock, store=store, namespace="") as peer,
    ):
        asking = asyncio.ensure_future(one.get(timeout=60.0))
        await late.reached()
        # By then the lease of the first one has ended.
        await clock.advance(11.0)
        newest = await peer.get(timeout=15.0)
        for _ in range(refreshes):
            newest = await peer.refresh()
        late.release()
        assert await asking == newest
        assert one.peek() == peer.peek() == newest
        (name,) = [one async for one in store.keys()]  # noqa: SIM118 - it is no mapping
        assert (await store.read(name)).token == newest
