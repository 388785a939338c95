"""K4, F4, K6: what may be spent, or was signed out, is not used again; the same with a store and without."""

from __future__ import annotations

import asyncio
import contextlib
import functools

import pytest
from tests.kinds.rotating import Server, Source, ask, live, scheduled

from evertoken import GrantRejected, RetryPolicy, Token, TokenError, TokenManager
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])
SHARED = pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])


def of_key(kind, source, **options):
    """Return a manager of *kind*, and the arguments that name its key."""
    if kind == "single":
        return TokenManager(source, **options), ()
    if kind == "mapping":
        return TokenManager({"k": source}, **options), ("k",)
    return TokenManager(source_for=lambda _: source, **options), ("k",)


async def wait(clock, tokens, key):
    await clock.advance(5000.0)


async def restart(clock, tokens, key):
    await tokens.aclose()
    await tokens.start()
    await live_key(clock, tokens, key, 500.0)


async def idle(clock, tokens, key):
    await clock.advance(4 * 3600.0)


async def asked(clock, tokens, key):
    await live_key(clock, tokens, key, 1500.0)


async def step_back(clock, tokens, key):
    clock.step(-3600.0)
    await live_key(clock, tokens, key, 500.0)


async def step_on(clock, tokens, key):
    clock.step(3600.0)
    await live_key(clock, tokens, key, 500.0)


async def subscribed(clock, tokens, key):
    async with tokens.subscribe(*key) as reader:
        task = asyncio.ensure_future(anext(reader))
        await clock.advance(1000.0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, TokenError):
            await task


async def live_key(clock, tokens, key, seconds):
    end = clock.time() + seconds
    while clock.time() < end:
        await clock.advance(7.0)
        await ask(tokens, *key)


async def forgotten(clock, tokens, key):
    await tokens.forget(*key)
    await live_key(clock, tokens, key, 500.0)


LATER = [wait, restart, idle, asked, step_back, step_on, subscribed, forgotten]


@plain
@SHARED
@pytest.mark.parametrize("kind", ["single", "mapping", "source_for"])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("later", LATER)
async def test_reject_presents_it_once(clock, later, number, kind, shared):
    """F4, K4: with on_ambiguous="reject" a refresh token whose answer was lost is never presented a second time."""
    server = Server(clock)
    source = Source(server, server.login(), fates={number: "lost"}, on_ambiguous="reject")
    store = MemoryStore(clock=clock) if shared else None
    tokens, key = of_key(
        kind,
        source,
        clock=clock,
        store=store,
        namespace="",
        fetch_timeout=5.0,
        idle_after=1800.0 if kind == "source_for" else 3600.0,
    )
    async with tokens:
        await ask(tokens, *key)
        while source.fetches < number:
            await clock.advance(20.0)
            await ask(tokens, *key)
        await clock.advance(20.0)
        for _ in range(2):
            await later(clock, tokens, key)
        assert source.fetches == number
        if later is not step_back:
            with pytest.raises(GrantRejected):
                await tokens.get(*key)
    assert server.replays == []


@plain
@SHARED
@pytest.mark.parametrize("kind", ["single", "mapping", "source_for"])
@pytest.mark.parametrize("rotates", [True, None, False])
@pytest.mark.parametrize("later", LATER)
async def test_signed_out_stays_signed_out(clock, later, rotates, kind, shared):
    """K6: a signed-out key is not fetched again, however long it is idle, and for no caller."""
    server = Server(clock)
    source = Source(server, server.login(), rotates=rotates)
    store = MemoryStore(clock=clock) if shared else None
    tokens, key = of_key(kind, source, clock=clock, store=store, namespace="", idle_after=1800.0)
    async with tokens:
        await ask(tokens, *key)
        await tokens.revoke(*key)
        fetches = source.fetches
        for _ in range(2):
            await later(clock, tokens, key)
        with pytest.raises(GrantRejected):
            await tokens.get(*key)
        assert source.fetches == fetches
        now = clock.time()
        await tokens.put(Token("login", issued_at=now, expires_at=now + 50.0, refresh_token=server.login("new")), *key)
        assert (await tokens.get(*key)).access_token == "login"
        await live_key(clock, tokens, key, 300.0)
        assert tokens.peek(*key) is not None
    assert server.replays == []


@plain
@SHARED
@pytest.mark.parametrize("call", ["refresh", "get", "min_ttl", "forget", "refused", "restart"])
@pytest.mark.parametrize("rotates", [True, None])
async def test_hold_keeps_the_token_in_service_safe(clock, rotates, call, shared):
    """K4: while the access token is valid, nobody makes the engine present what may be spent; then it is tried."""
    server = Server(clock)
    source = Source(server, server.login(), fates={3: "lost"}, rotates=rotates)
    store = MemoryStore(clock=clock) if shared else None
    async with TokenManager(source, clock=clock, store=store, namespace="", fetch_timeout=5.0) as tokens:
        await ask(tokens)
        while source.fetches < 3:
            await clock.advance(1.0)
        await clock.advance(8.0)
        valid = tokens.peek()
        assert valid is not None
        for _ in range(3):
            with contextlib.suppress(TokenError):
                if call == "refresh":
                    await tokens.refresh()
                elif call == "get":
                    await tokens.get()
                elif call == "min_ttl":
                    await tokens.get(min_ttl=1e6)
                elif call == "restart":
                    await tokens.aclose()
                    await tokens.start()
                elif call == "forget" and shared:
                    await tokens.forget()
            await clock.advance(0.5)
            assert source.fetches == 3, call
        if call == "refused":
            # Nothing valid is left that could be put at risk.
            with contextlib.suppress(TokenError):
                await tokens.refused(valid)
            assert source.fetches == 4
        await clock.advance(60.0)
        await ask(tokens)
        assert source.fetches >= 4
        assert scheduled(tokens)


FUNCTIONS = ["async", "plain", "partial", "method", "callable object"]


@pytest.mark.parametrize("kind", FUNCTIONS)
@plain
async def test_functions_that_take_the_token_before(clock, kind):
    """K4: a function of any kind that takes the previous token is assumed to have presented it."""
    calls = []

    async def answer(before):
        calls.append(before and before.refresh_token)
        if len(calls) == 3:
            await asyncio.get_running_loop().create_future()
        return {"access_token": f"t{len(calls)}", "expires_in": 100, "refresh_token": f"r{len(calls)}"}

    def plainly(before):
        calls.append(before and before.refresh_token)
        if len(calls) == 3:
            raise TimeoutError
        return {"access_token": f"t{len(calls)}", "expires_in": 100, "refresh_token": f"r{len(calls)}"}

    class Object:
        async def __call__(self, before):
            return await answer(before)

        async def fetch_it(self, before):
            return await answer(before)

    async def two(_, before):
        return await answer(before)

    function = {
        "async": answer,
        "plain": plainly,
        "partial": functools.partial(two, 1),
        "method": Object().fetch_it,
        "callable object": Object(),
    }[kind]
    async with TokenManager(function, clock=clock, fetch_timeout=3.0, retry=RetryPolicy(jitter=0.0)) as tokens:
        await ask(tokens)
        await clock.advance(81.0 + 79.0)
        assert len(calls) == 3
        # The token of the second answer is valid for a while.
        await clock.advance(15.0)
        assert len(calls) == 3
        assert tokens.peek().refresh_token == "r2"
        await clock.advance(20.0)
        assert calls[3] == calls[2] == "r2"


@plain
@pytest.mark.parametrize("again", [False, True])
async def test_a_new_login_member_by_member(clock, again):
    """K6: a new refresh token in the configuration is presented, and an old member never presents the old one again."""
    server = Server(clock)
    store = MemoryStore(clock=clock)
    old, new = server.login("old"), server.login("new")
    a = TokenManager(Source(server, old), clock=clock, store=store, namespace="")
    b = TokenManager(Source(server, old), clock=clock, store=store, namespace="")
    c = TokenManager(Source(server, new), clock=clock, store=store, namespace="")
    async with a, b:
        await live(clock, [a, b], 250.0)
        await b.aclose()
        async with c:
            await live(clock, [a, c], 250.0)
            if again:
                with contextlib.suppress(TokenError):
                    await c.refresh()
            else:
                await a.aclose()
            await live(clock, [c], 250.0)
            assert server.presented.count(new) == 1
            # A member that was not rolled out yet, and is started again.
            await b.start()
            await a.start()
            seen = len(server.presented)
            await live(clock, [a, b, c], 600.0)
            assert all(one.startswith("new") for one in server.presented[seen:])
            for one in (a, b, c):
                assert one.peek() is not None
    # The next one to start still has the old configuration.
    async with TokenManager(Source(server, old), clock=clock, store=store, namespace="") as d:
        await live(clock, [d], 300.0)
        assert d.peek() is not None
    assert server.presented.count(old) == server.presented.count(new) == 1
    assert server.replays == []
