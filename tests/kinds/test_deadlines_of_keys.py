"""Design rule 2: a key without a deadline cannot exist, however a change of it ends and wherever it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from tests.kinds.rotating import Server, Source, ask, scheduled

from evertoken import Token, TokenError, TokenManager
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])
FATES = ["whole", "dead", "lost", "late", "stubborn", "received", "broken", "down", "of a type that is not understood"]


def login(clock, server):
    now = clock.time()
    return Token("login", issued_at=now, expires_at=now + 40.0, refresh_token=server.login(f"login{server.issued}"))


CALLS = {
    "get": lambda tokens, *_: tokens.get(),
    "get, min_ttl": lambda tokens, *_: tokens.get(min_ttl=1e6),
    "get, timeout": lambda tokens, *_: tokens.get(timeout=3.0),
    "refresh": lambda tokens, *_: tokens.refresh(),
    "forget": lambda tokens, *_: tokens.forget(),
    "put": lambda tokens, clock, server: tokens.put(login(clock, server)),
    "revoke": lambda tokens, *_: tokens.revoke(),
    "refused": lambda tokens, *_: tokens.refused(tokens.peek() or Token("old", issued_at=0.0)),
    "invalidate": lambda tokens, *_: tokens.invalidate("old" if tokens.peek() is None else tokens.peek()),
}


async def steps_of(call, at):
    """Run *call* in a task, cancel it before its step number *at*, and tell how many steps it took."""
    taken = 0
    task = asyncio.ensure_future(call)
    while not task.done():
        if taken == at:
            task.cancel()
        await asyncio.sleep(0)
        taken += 1
        if taken > 60 and not task.done():
            # It waits for time to pass.
            task.cancel()
            break
    with contextlib.suppress(TokenError, asyncio.CancelledError):
        await task
    return taken


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("fate", ["whole", "dead", "lost", "down"])
@pytest.mark.parametrize("call", CALLS)
async def test_cancelled_at_each_step(clock, call, fate, shared):
    """R3: wherever a change by hand is cancelled, the key is scheduled and comes to a token again."""
    for at in range(12):
        server = Server(clock)
        source = Source(server, server.login(), fates={2: fate})
        store = MemoryStore(clock=clock) if shared else None
        async with TokenManager(source, clock=clock, store=store, namespace="", fetch_timeout=5.0) as tokens:
            await ask(tokens)
            await clock.advance(81.0 - 0.9)
            taken = await steps_of(CALLS[call](tokens, clock, server), at)
            assert scheduled(tokens), at
            await clock.advance(8.0)
            assert scheduled(tokens), at
            await clock.advance(400.0)
            state = tokens._life.registry.keys[None]
            assert scheduled(tokens)
            # There was no caller.
            assert state.signed_out or tokens.peek() is not None or server.replays, at
        if taken < at:
            break


@plain
@pytest.mark.parametrize("seed", range(60))
async def test_at_random(clock, seed):
    """R3, F3: after every order of commands, a key has a deadline, and recovers once all is well."""
    draw = random.Random(seed)
    server = Server(clock, lifetime=draw.choice([3.0, 30.0, 100.0]))
    source = Source(server, server.login(), fates={n: draw.choice(FATES) for n in range(1, 12)})
    store = MemoryStore(clock=clock) if seed % 2 else None
    async with TokenManager(source, clock=clock, store=store, namespace="", fetch_timeout=5.0) as tokens:
        pending = []
        for _ in range(40):
            name = draw.choice(list(CALLS))
            if name == "refused" and tokens.peek() is None:
                continue
            pending.append(asyncio.ensure_future(CALLS[name](tokens, clock, server)))
            await clock.advance(draw.choice([0.0, 0.01, 0.2, 1.0, 7.0]))
            if draw.random() < 0.5:
                draw.choice(pending).cancel()
            if draw.random() < 0.1:
                clock.step(draw.choice([-900.0, -2.0, 2.0, 900.0]))
            await asyncio.sleep(0)
            assert scheduled(tokens), name
        await clock.advance(30.0)
        await asyncio.gather(*(asyncio.wait_for(one, 60.0) for one in pending), return_exceptions=True)
        assert all(one.done() for one in pending)
        source.fates.clear()
        await tokens.put(login(clock, server))
        await clock.advance(500.0)
        assert scheduled(tokens)
        assert tokens.peek() is not None
