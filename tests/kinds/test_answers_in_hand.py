"""K1: an answer in hand is never lost, for every fate of its access token, its flight, the store and the manager."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.gated import virtual
from tests.kinds.rotating import KEPT, Server, Source, ask, live, scheduled

from evertoken import Token, TokenError, TokenManager, TokenUnavailable
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])
SHARED = pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
#: Answers that arrive, though not all of them in time.
ARRIVING = [*KEPT, "received", "broken", "late", "stubborn"]


def manager(clock, source, *, shared, **options):
    store = MemoryStore(clock=clock) if shared else None
    return TokenManager(source, clock=clock, store=store, namespace="", **({"fetch_timeout": 5.0} | options))


@virtual
@SHARED
@pytest.mark.parametrize("number", [1, 2], ids=["first fetch", "refresh"])
@pytest.mark.parametrize("fate", ARRIVING)
async def test_each_answer_that_arrives(clock, fate, number, shared):
    """K1: the refresh token of any answer is the one that is presented next."""
    server = Server(clock)
    source = Source(server, server.login(), fates={number: fate})
    async with manager(clock, source, shared=shared) as tokens:
        await ask(tokens)
        assert await live(clock, [tokens], 700.0) is not None
        assert scheduled(tokens)
        assert server.issued >= 5
    assert server.replays == []


@virtual
@SHARED
@pytest.mark.parametrize("fate", ARRIVING)
async def test_several_of_them_in_a_row(clock, fate, shared):
    """K1: each of many unusable answers in a row passes its refresh token on."""
    server = Server(clock)
    source = Source(server, server.login(), fates=dict.fromkeys(range(2, 9), fate))
    async with manager(clock, source, shared=shared) as tokens:
        await ask(tokens)
        await live(clock, [tokens], 4000.0)
        assert tokens.peek() is not None
    assert server.replays == []


def put_bare(tokens, clock):
    now = clock.time()
    return tokens.put(Token("put", issued_at=now, expires_at=now + 50.0))


def cancelled_get(tokens, _):
    return asyncio.wait_for(tokens.get(min_ttl=1e6), 0.01)


def cancelled_refresh(tokens, _):
    return asyncio.wait_for(tokens.refresh(), 0.01)


def cancelled_forget(tokens, _):
    return asyncio.wait_for(tokens.forget(), 0.0)


async def refused(tokens, _):
    token = tokens.peek()
    if token is not None:
        await tokens.refused(token)


async def closed(tokens, _):
    await tokens.aclose()
    await tokens.start()


async def closed_and_cancelled(tokens, _):
    task = asyncio.create_task(tokens.aclose())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await tokens.start()


async def all_cancelled(_, __):
    for task in asyncio.all_tasks():
        if task.get_name().startswith("evertoken:refresh"):
            task.cancel()


IN_BETWEEN = {
    "nothing": None,
    "forget": lambda tokens, _: tokens.forget(),
    "forget, cancelled": cancelled_forget,
    "put, no refresh token": put_bare,
    "refresh, cancelled": cancelled_refresh,
    "get, cancelled": cancelled_get,
    "refused": refused,
    "close and start": closed,
    "close, cancelled, and start": closed_and_cancelled,
    "its task is cancelled": all_cancelled,
}
MOMENTS = [0.0, 0.1, 0.2, 0.35]
#: In between that ends the request itself, so that its answer never comes: the process cannot know of it.
ENDS_THE_REQUEST = {"its task is cancelled", "close and start", "close, cancelled, and start"}


@plain
@SHARED
@pytest.mark.parametrize("number", [1, 2], ids=["first fetch", "refresh"])
@pytest.mark.parametrize("between", IN_BETWEEN)
@pytest.mark.parametrize("fate", ["whole", "dead", "of a type that is not understood", "received", "late", "stubborn"])
async def test_something_comes_in_between(clock, fate, between, number, shared):
    """K1: for every event during a fetch, nobody presents a refresh token that the server knows as spent."""
    if fate == "stubborn" and between in ENDS_THE_REQUEST:
        # The close waits one second for a call that it has cancelled, and this one takes three.
        fate = "whole"
    for at in MOMENTS:
        server = Server(clock)
        source = Source(server, server.login(), fates={number: fate})
        async with manager(clock, source, shared=shared) as tokens:
            if number == 2:
                await ask(tokens)
            flying = asyncio.create_task(ask_anew(tokens))
            await clock.advance(at)
            if IN_BETWEEN[between] is not None:
                with contextlib.suppress(TokenError, TimeoutError):
                    await IN_BETWEEN[between](tokens, clock)
            await flying
            seen = fate, between, at
            if between == "its task is cancelled" and at in {0.1, 0.2} and fate in KEPT:
                # Sent and never answered: held back for the sake of the access token in service.
                assert number == 1 or tokens.peek() is not None
                continue
            assert await live(clock, [tokens], 600.0) is not None, seen
            assert scheduled(tokens)
        assert server.replays == [], seen


@plain
@pytest.mark.parametrize("fate", ["whole", "dead", "of a type that is not understood", "received", "late"])
@pytest.mark.parametrize("grace", [0.0, 0.05, 5.0])
@pytest.mark.parametrize("delay", [0.0, 0.2, 2.0])
async def test_the_close_comes_while_the_answer_is_written(clock, fate, grace, delay):
    """K1: a close keeps the received answer, however long the store takes for the write."""
    for at in [0.2, 0.31, 0.4, 1.0, 2.5]:
        server = Server(clock)
        source = Source(server, server.login(), fates={2: fate})
        memory = MemoryStore(clock=clock)
        store = Slow(memory)
        for _ in range(3):
            async with TokenManager(
                source, clock=clock, store=store, namespace="", fetch_timeout=5.0, close_grace=grace
            ) as tokens:
                await ask(tokens)
                flying = asyncio.create_task(ask_anew(tokens))
                store.delay = delay
                await clock.advance(at)
            await flying
            store.delay = 0.0
        if grace < 0.3 and at == 0.2:
            continue
        # Another process, which knows what the store knows.
        async with TokenManager(source, clock=clock, store=memory, namespace="") as tokens:
            await live(clock, [tokens], 700.0)
        assert server.replays == [], (fate, grace, delay, at)


class Slow:
    """A store whose steps take `delay` each."""

    def __init__(self, inner):
        self._inner = inner
        self.delay = 0.0

    def __getattr__(self, name):
        async def call(*args):
            await asyncio.sleep(self.delay)
            return await getattr(self._inner, name)(*args)

        if name == "watch":
            raise AttributeError(name)
        return call


async def ask_anew(tokens):
    with contextlib.suppress(TokenError):
        await tokens.refresh()


@virtual
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
async def test_an_answer_after_its_fetch_was_given_up(clock, shared):
    """T2: beside a valid token, an answer that comes too late brings its refresh token; the access token stays."""
    server = Server(clock)
    source = Source(server, server.login(), fates={2: "stubborn"})
    store = MemoryStore(clock=clock) if shared else None
    async with TokenManager(source, clock=clock, store=store, namespace="", fetch_timeout=1.0) as tokens:
        first = await tokens.get()
        with pytest.raises(TokenUnavailable):
            await tokens.refresh()
        await clock.advance(6.0)
        held = tokens.peek()
        assert (held.access_token, held.refresh_token) == (first.access_token, server.good_of())
        assert held.refresh_token != first.refresh_token
    assert server.replays == []
