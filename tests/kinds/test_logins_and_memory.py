"""
K1, K3, K6: the newest login wins over what members or the store remember, through outages, flushes and skewed clocks.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.kinds.rotating import Server, Source, ask, live
from tests.machinery.scripted import ScriptedSource

from evertoken import GrantRejected, Token, TokenError, TokenManager
from evertoken.stores import MemoryStore
from evertoken.testing import VirtualClock

plain = pytest.mark.asyncio(loop_factories=["virtual"])


class Shared:
    """A store that may be down or slow, be flushed, and be heard of or not."""

    def __init__(self, clock):
        self.clock = clock
        self.inner = MemoryStore(clock=clock)
        self.down = False
        self.deaf = False
        #: Operations that fail although they were done.
        self.lossy = frozenset()

    def flush(self):
        watchers = self.inner._watchers
        self.inner = MemoryStore(clock=self.clock)
        self.inner._watchers = watchers

    def for_one(self):
        return Way(self)


class Way:
    """The way of one member to the store."""

    def __init__(self, shared):
        self.shared = shared
        self.down = False

    def __getattr__(self, name):
        async def call(*args):
            if self.down or self.shared.down:
                await asyncio.sleep(0.01)
                raise ConnectionError("down")
            found = await getattr(self.shared.inner, name)(*args)
            if name in self.shared.lossy:
                raise ConnectionError("the answer was lost")
            return found

        return call

    async def watch(self, changed):
        while self.down or self.shared.down:
            await asyncio.sleep(0.2)
        await self.shared.inner.watch(lambda name: None if self.down or self.shared.down else changed(name))


def login(clock, server, lifetime, family="new"):
    now = clock.time()
    return Token("login", issued_at=now, expires_at=now + lifetime, refresh_token=server.login(family))


async def down_then_login(world):
    world.shared.down = True
    await world.put()
    await world.clock.advance(20.0)
    world.shared.down = False


async def login_in_a_short_outage(world):
    world.shared.down = True
    await world.put()
    await world.clock.advance(0.5)
    world.shared.down = False


async def login_beside_an_outage(world):
    world.ways[0].down = True
    await world.put(1)
    await world.clock.advance(20.0)
    world.ways[0].down = False


async def flush_then_login(world):
    world.shared.flush()
    await world.put()


async def login_then_flush(world):
    await world.put()
    world.shared.flush()


async def sign_out_then_login(world):
    with contextlib.suppress(TokenError):
        await world.members[1].revoke()
    await world.put()


async def sign_out_in_an_outage_then_login(world):
    world.shared.down = True
    with contextlib.suppress(TokenError):
        await world.members[1].revoke()
    await world.clock.advance(1.0)
    world.shared.down = False
    await world.clock.advance(15.0)
    await world.put()


async def login_over_a_sign_out_that_is_unheard(world):
    world.ways[0].down = True
    with contextlib.suppress(TokenError):
        await world.members[1].revoke()
    await world.clock.advance(3.0)
    await world.put(0)
    await world.clock.advance(3.0)
    world.ways[0].down = False


async def login_while_it_refreshes(world):
    task = asyncio.ensure_future(world.members[1].refresh())
    await world.clock.advance(0.1)
    await world.put()
    await asyncio.gather(task, return_exceptions=True)


async def writes_that_seem_to_fail(world):
    world.shared.lossy = frozenset({"commit", "mark"})
    await world.put()
    await world.clock.advance(3.0)
    world.shared.lossy = frozenset()


STORIES = [
    down_then_login,
    login_in_a_short_outage,
    login_beside_an_outage,
    flush_then_login,
    login_then_flush,
    sign_out_then_login,
    sign_out_in_an_outage_then_login,
    login_over_a_sign_out_that_is_unheard,
    login_while_it_refreshes,
    writes_that_seem_to_fail,
]


class World:
    """Two members, whose clocks may differ, on one store."""

    def __init__(self, clock, skew, lifetime):
        self.clock = clock
        self.lifetime = lifetime
        self.clocks = [clock, Skewed(clock, skew)]
        self.server = Server(clock)
        self.shared = Shared(clock)
        first = self.server.login()
        self.ways = [self.shared.for_one() for _ in range(2)]
        self.members = [
            TokenManager(Source(self.server, first), clock=one, store=way, namespace="")
            for one, way in zip(self.clocks, self.ways, strict=True)
        ]

    async def put(self, member=0):
        await self.members[member].put(login(self.clocks[member], self.server, self.lifetime))


class Skewed:
    """A clock that differs from another."""

    def __init__(self, clock: VirtualClock, skew: float) -> None:
        self._clock = clock
        self._skew = skew
        self.monotonic = clock.monotonic
        self.call_later = clock.call_later

    def time(self):
        return self._clock.time() + self._skew


@plain
@pytest.mark.parametrize("skew", [0.0, -30.0, 30.0])
@pytest.mark.parametrize("lifetime", [3.0, 100.0])
@pytest.mark.parametrize("age", [30.0, 500.0])
@pytest.mark.parametrize("story", STORIES)
async def test_the_login_wins(clock, story, age, lifetime, skew):
    """K6: after a login both members use its grant, its refresh token is presented once, and no older grant is."""
    if story is login_over_a_sign_out_that_is_unheard:
        # By the clock of the member that signed it out, a login of these seconds may be earlier.
        skew = min(skew, 0.0)
    world = World(clock, skew, lifetime)
    async with world.members[0], world.members[1]:
        await live(clock, world.members, age)
        await story(world)
        await clock.advance(10.0)
        await live(clock, world.members, 60.0)
        seen = len(world.server.presented)
        await live(clock, world.members, 500.0)
        later = world.server.presented[seen:]
        assert later
        assert all(one.startswith("new") for one in later), later
        for one in world.members:
            assert await ask(one) is not None
    assert world.server.presented.count("new-0") == 1
    assert world.server.replays == []


@plain
@pytest.mark.parametrize("long", [0.5, 3.0, 20.0])
@pytest.mark.parametrize("by", [0, 1])
@pytest.mark.parametrize("flushed", [False, True])
async def test_a_sign_out_in_an_outage(clock, long, by, flushed):
    """K6: a key that was signed out while the store was down is signed out everywhere when it is back."""
    world = World(clock, 0.0, 100.0)
    async with world.members[0], world.members[1]:
        await live(clock, world.members, 100.0)
        world.shared.down = True
        with pytest.raises(TokenError):
            await world.members[by].revoke()
        await clock.advance(long)
        if flushed:
            world.shared.flush()
        world.shared.down = False
        await clock.advance(30.0)
        for one in world.members:
            assert one.peek() is None
            with pytest.raises(GrantRejected):
                await one.get()
    # And for a member that starts later.
    async with TokenManager(
        Source(world.server, "family-0"), clock=clock, store=world.shared.for_one(), namespace=""
    ) as tokens:
        with pytest.raises(GrantRejected):
            await tokens.get()


ASKED = {
    "nobody": None,
    "get": lambda tokens: tokens.get(),
    "refresh": lambda tokens: tokens.refresh(),
    "min_ttl": lambda tokens: tokens.get(min_ttl=1e6),
    "forget": lambda tokens: tokens.forget(),
    "refused": lambda tokens: tokens.refused(tokens.peek()) if tokens.peek() else tokens.get(),
    "close": None,
    "restart": None,
}


@plain
@pytest.mark.parametrize("lifetime", [15.0, 100.0])
@pytest.mark.parametrize("back_after", [1.0, 4.0, 12.0, 33.0])
@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("asked", ASKED)
async def test_a_rotated_token_that_memory_alone_has(clock, asked, flushed, back_after, lifetime):
    """K1, K3: a token that rotated while the store was down is written to it, before a peer presents the spent one."""
    world = World(clock, 0.0, lifetime)
    world.server.lifetime = lifetime
    a, b = world.members
    async with a, b:
        await live(clock, world.members, 3.0 * lifetime)
        task = asyncio.ensure_future(b.refresh())
        await clock.advance(0.1)
        world.shared.down = True
        await asyncio.gather(task, return_exceptions=True)
        for _ in range(3):
            await clock.advance(back_after / 4.0)
            if ASKED[asked] is not None:
                with contextlib.suppress(TokenError, TimeoutError):
                    await asyncio.wait_for(ASKED[asked](b), back_after / 100.0)
        if asked == "restart":
            await b.aclose()
            await b.start()
        if flushed:
            world.shared.flush()
        world.shared.down = False
        if asked == "close":
            await b.aclose()
        await clock.advance(10.0)
        await live(clock, [a], 6.0 * lifetime)
        assert await ask(a) is not None
    assert world.server.replays == []


@pytest.mark.parametrize("stored", [False, True])
async def test_forget_does_not_take_a_refresh_token_to_another_provider(stored):
    """K5: where forget() brings a source of another provider, what the one before has issued is not presented there."""
    presented: list[tuple[str, object]] = []
    place = "old"

    class Login:
        rotates = True

        def __init__(self, provider):
            self.provider = provider

        async def fetch(self, request):
            presented.append((self.provider, None if request.current is None else request.current.refresh_token))
            return {"access_token": f"at-{self.provider}", "expires_in": 600, "refresh_token": f"rt-{self.provider}"}

    store = MemoryStore() if stored else None
    async with TokenManager(source_for=lambda _: Login(place), store=store, namespace="") as tokens:
        await tokens.get("alice")
        await tokens.refresh("alice")
        place = "new"
        if stored:
            await store.delete('["","alice"]')
        await tokens.forget("alice")
        assert (await tokens.get("alice")).access_token == "at-new"
    assert presented == [("old", None), ("old", "rt-old"), ("new", None)]


@plain
@pytest.mark.parametrize(("gone", "fetches"), [(0.0, 0), (60.0, 0), (3000.0, 1), (3590.0, 1)])
async def test_a_login_with_a_part_of_its_life_gone(clock, gone, fetches):
    """R2: A token that was put is taken for the longest obtainable only while it is young."""
    source = ScriptedSource(clock, lifetime=3600.0)
    async with TokenManager(source, clock=clock) as tokens:
        login = Token("login", issued_at=clock.time() - gone, expires_at=clock.time() + 3600.0 - gone)
        await tokens.put(login)
        token = await tokens.get(min_ttl=3595.0)
        assert source.fetches == fetches
        assert (token == login) == (not fetches)


@plain
async def test_since_when_a_key_is_connected(clock):
    """L2: The status of an open key says when its login was, and later when it was signed out."""
    source = ScriptedSource(clock, lifetime=3600.0)
    async with TokenManager(source, store=MemoryStore(clock=clock), namespace="", clock=clock) as tokens:
        begun = clock.time()
        await tokens.put(Token("login", issued_at=begun, expires_at=begun + 3600.0, refresh_token="r"))
        await clock.advance(500.0)
        status = await tokens.status()
        assert (status.status, status.since) == ("connected", pytest.approx(begun, abs=1.0))
        await tokens.revoke()
        await clock.advance(500.0)
        status = await tokens.status()
        assert (status.status, status.since) == ("signed_out", pytest.approx(begun + 500.0, abs=1.0))
