"""R3, K6: a call keeps its meaning if any other call comes in between. Managers that ask each other do not deadlock."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from tests.kinds.rotating import Server, Source, ask
from tests.machinery.scripted import ScriptedSource, down

from evertoken import GrantRejected, ManagerClosed, Token, TokenError, TokenManager, TokenUnavailable
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])
eager = pytest.mark.asyncio(loop_factories=["virtual", *(["eager"] if hasattr(asyncio, "eager_task_factory") else [])])


def login(clock, server, lifetime=100.0):
    now = clock.time()
    return Token("login", issued_at=now, expires_at=now + lifetime, refresh_token=server.login("login"))


@eager
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("number", [1, 2], ids=["first fetch", "refresh"])
@pytest.mark.parametrize("at", [0.0, 0.1, 0.2, 0.29])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_login_while_it_is_refreshed(clock, shared, number, at, times):
    """K6: refresh() during which somebody logs in, however often, brings a token of the login, and does not fail."""
    server = Server(clock)
    source = Source(server, server.login())
    async with TokenManager(
        source, clock=clock, store=MemoryStore(clock=clock) if shared else None, namespace=""
    ) as tokens:
        if number == 2:
            await ask(tokens)
        callers = [asyncio.ensure_future(tokens.refresh()) for _ in range(3)]
        for _ in range(times):
            await clock.advance(at)
            await tokens.put(login(clock, server))
        found = await asyncio.gather(*callers)
        assert {one.refresh_token.partition("-")[0] for one in found} == {"login"}
        assert tokens.peek() is not None
    assert server.replays == []


@eager
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
async def test_the_same_refresh_token_comes_while_it_is_refreshed(clock, shared):
    """T2, K6: a login that brings the refresh token which is being spent gets the new one, and not the spent one."""
    server = Server(clock)
    async with TokenManager(
        Source(server, server.login()), clock=clock, store=MemoryStore(clock=clock) if shared else None, namespace=""
    ) as tokens:
        first = await ask(tokens)
        refreshing = asyncio.ensure_future(tokens.refresh())
        await clock.advance(0.1)
        # The same characters in another object, as a program reads them from its own database.
        same = "".join(list(first.refresh_token))
        await tokens.put(Token("again", issued_at=clock.time(), expires_at=clock.time() + 100.0, refresh_token=same))
        await asyncio.gather(refreshing, return_exceptions=True)
        await clock.advance(200.0)
        assert (await ask(tokens)).refresh_token != same
    assert server.replays == []


class Slow:
    """A store whose steps take 0.3 s."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        if name == "watch":
            raise AttributeError(name)

        async def call(*args):
            await asyncio.sleep(0.3)
            return await getattr(self._inner, name)(*args)

        return call


@plain
@pytest.mark.parametrize("after", [0.0, 0.1, 0.4, 1.0])
@pytest.mark.parametrize("first", [True, False], ids=["while it starts", "later"])
async def test_refresh_after_put_fetches(clock, after, first):
    """K6: refresh() fetches, also where the store is slow and a token was put just now."""
    server = Server(clock)
    source = Source(server, server.login())
    async with TokenManager(source, clock=clock, store=Slow(MemoryStore(clock=clock)), namespace="") as tokens:
        if not first:
            await ask(tokens)
        putting = asyncio.ensure_future(tokens.put(login(clock, server)))
        await clock.advance(after)
        found = await tokens.refresh()
        assert found.access_token != "login"
        assert "login-0" in server.presented
        await putting
    assert server.replays == []


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("then", ["forget", "put", "revoke", "refused"])
async def test_a_sign_out_and_what_follows(clock, then, shared):
    """K6: the last word counts, while a fetch is under way as well as after it."""
    server = Server(clock)
    source = Source(server, server.login())
    async with TokenManager(
        source, clock=clock, store=MemoryStore(clock=clock) if shared else None, namespace=""
    ) as tokens:
        await ask(tokens)
        token = tokens.peek()
        waiting = asyncio.ensure_future(tokens.refresh())
        await clock.advance(0.1)
        with contextlib.suppress(TokenError):
            await tokens.revoke()
        if then == "forget":
            await tokens.forget()
        elif then == "put":
            await tokens.put(login(clock, server))
        elif then == "revoke":
            await tokens.revoke()
        else:
            with pytest.raises(GrantRejected):
                await tokens.refused(token)
        await asyncio.gather(waiting, return_exceptions=True)
        await clock.advance(300.0)
        if then == "put":
            assert tokens.peek().refresh_token.startswith("login")
        else:
            assert tokens.peek() is None
            with pytest.raises(GrantRejected):
                await tokens.get()


REQUIRED = {
    "hangs, rejected": (["hang", "reject"], GrantRejected),
    "rejected, hangs": (["reject", "hang"], GrantRejected),
    "hangs, fails": (["hang", "fail"], TokenUnavailable),
    "both at one time": (["fail", "reject"], GrantRejected),
    "well, hangs, rejected": (["ok", "hang", "reject"], GrantRejected),
    "ten hang, one is rejected": (["hang"] * 10 + ["reject"], GrantRejected),
    "hang": (["ok", "hang"], TokenUnavailable),
}


@plain
@pytest.mark.parametrize("case", REQUIRED)
async def test_required_at_start(clock, case):
    """L1: start="require" raises what fails first, and a rejection before another failure of the same moment."""
    kinds, error = REQUIRED[case]

    def source(kind):
        async def fetch():
            if kind == "hang":
                await asyncio.sleep(1e6)
            if kind == "reject":
                raise GrantRejected("invalid_grant")
            if kind == "fail":
                raise down()
            return "token", 60.0

        return fetch

    sources = {number: source(kind) for number, kind in enumerate(kinds)}
    tokens = TokenManager(sources, clock=clock, start="require", start_timeout=7.0, concurrency=20)
    begun = clock.monotonic()
    with pytest.raises(error):
        await tokens.start()
    assert tokens.snapshot().state == "closed"
    took = clock.monotonic() - begun
    # The close gives fetches under way its grace.
    assert took <= (7.0 if case == "hang" else 0.0) + 5.0 + 1.1
    assert len(asyncio.all_tasks()) == 1


@eager
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("stored", [False, True])
async def test_a_close_in_the_first_step_of_a_start(clock, again, stored):
    """L1: a source that closes the manager, and starts it again, at once when it is asked, leaves no task behind."""
    fetches, under_way, ended = 0, 0, []

    async def close():
        await tokens.aclose()
        if again:
            await tokens.start()

    async def fetch():
        nonlocal fetches, under_way
        fetches, under_way = fetches + 1, under_way + 1
        assert under_way == 1
        if fetches == 2:
            ended.append(asyncio.ensure_future(close()))
        try:
            await asyncio.sleep(0.1)
        finally:
            under_way -= 1
        return f"token-{fetches}", 60.0

    store = MemoryStore(clock=clock) if stored else None
    tokens = TokenManager(fetch, store=store, namespace="a", clock=clock, close_grace=0.0)
    async with tokens:
        await tokens.get()
    await clock.advance(120.0)
    with contextlib.suppress(ManagerClosed):
        await tokens.start()
    await clock.advance(30.0)
    await asyncio.gather(*ended)
    assert len(ended) == 1
    assert tokens.snapshot().state == ("running" if again else "closed")
    if again:
        assert await tokens.get()
        await tokens.aclose()
    assert len(asyncio.all_tasks()) == 1


@eager
@pytest.mark.parametrize("managers", [1, 2, 3, 5])
@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("rounds", [1, 2, 4])
async def test_rings_of_managers(clock, managers, concurrency, rounds):
    """F6: what a fetch waits for starts at once, through however many managers the ring goes, and however often."""
    ring = []
    depth = managers * rounds

    def source_for(at):
        def make(key):
            async def fetch():
                if key < depth:
                    await ring[(at + 1) % managers].get(key + 1)
                return f"token-{key}", 60.0

            return fetch

        return make

    ring.extend(TokenManager(source_for=source_for(at), clock=clock, concurrency=concurrency) for at in range(managers))
    async with contextlib.AsyncExitStack() as stack:
        for one in ring:
            await stack.enter_async_context(one)
        begun = clock.monotonic()
        found = await asyncio.gather(*(ring[0].get(0) for _ in range(concurrency + 1)))
        assert {one.access_token for one in found} == {"token-0"}
        assert clock.monotonic() - begun <= 1.0


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_ring_across_loops(concurrency):
    """F6, U5: a ring of managers on two loops does not stand still either."""
    ring: dict[int, TokenManager] = {}

    def source_for(at):
        def make(key):
            async def fetch():
                if key < 4:
                    await ring[1 - at].get(key + 1)
                return f"token-{key}", 60.0

            return fetch

        return make

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for at in range(2):
            ring[at] = TokenManager(source_for=source_for(at), concurrency=concurrency, fetch_timeout=20.0)

        async def main():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ring[1].start(), loop))
            async with ring[0]:
                assert (await asyncio.wait_for(ring[0].get(0), 10.0)).access_token == "token-0"
            await ring[1].aclose()

        asyncio.run(main())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@plain
@pytest.mark.parametrize("length", [10, 80, 300])
async def test_a_deep_chain(clock, length):
    """L1: a chain of keys that wait for each other may be deep, and the manager closes."""

    def make(key):
        async def fetch():
            if key:
                await tokens.get(key - 1)
            return f"token-{key}", 60.0

        return fetch

    tokens = TokenManager(source_for=make, clock=clock, concurrency=1)
    async with tokens:
        assert (await tokens.get(length)).access_token == f"token-{length}"


#: Eager tasks came with Python 3.12.
EAGER = [10, 60, 80, 120, 300] if hasattr(asyncio, "eager_task_factory") else [0]


@pytest.mark.parametrize("length", EAGER)
def test_a_deep_chain_of_eager_tasks(length):
    """L1: with eager tasks a deep chain may fail, though not without an error, and the manager closes."""

    async def main():
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))

        def make(key):
            async def fetch():
                if key:
                    await tokens.get(key - 1)
                return f"token-{key}", 60.0

            return fetch

        tokens = TokenManager(source_for=make, concurrency=1, close_grace=0.5, fetch_timeout=3.0)
        await tokens.start()
        try:
            with contextlib.suppress(TokenError, RecursionError):
                await asyncio.wait_for(tokens.get(length), 10.0)
        finally:
            await asyncio.wait_for(tokens.aclose(), 15.0)
        assert tokens.snapshot().state == "closed"

    asyncio.run(main())


@plain
async def test_callers_of_a_queued_fetch(clock):
    """F6: a caller that joins a fetch in the queue, and leaves again, does not make the queue longer."""
    source = ScriptedSource(clock, latency=1e6)
    async with TokenManager(
        dict.fromkeys(range(3), source), clock=clock, concurrency=1, fetch_timeout=1e5, close_grace=0.0
    ) as tokens:
        await clock.advance(1.0)
        for number in range(500):
            key = 1 + number % 2
            calls = [tokens.get(key), tokens.refresh(key), anext(tokens.subscribe(key)), tokens.get(key, timeout=1.0)]
            task = asyncio.ensure_future(calls.pop(number % 4))
            for other in calls:
                other.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert tokens.snapshot().queued == 2
