"""F1, F6, F7: the bounds hold for every policy, every source and any number of keys."""

from __future__ import annotations

import asyncio
import functools
import threading
import time

import pytest
from tests.kinds.rotating import ask
from tests.machinery.scripted import ScriptedSource, down, gaps

from evertoken import GrantRejected, RefreshPolicy, RetryPolicy, TokenManager, TokenUnavailable
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])
TINY = 1e-6

RETRIES = {
    "tiny": {"first": TINY, "cap": TINY},
    "tiny, no jitter": {"first": TINY, "cap": TINY, "jitter": 0.0},
    "tiny probe": {"probe": TINY},
    "tiny patience": {"patience": TINY},
    "all tiny": {"first": TINY, "cap": TINY, "probe": TINY, "patience": TINY, "retry_after_cap": TINY},
    "no wait is obeyed": {"first": TINY, "cap": TINY, "retry_after_cap": 0.0},
    "huge factor": {"first": TINY, "factor": 1e300, "cap": 1e300},
    "subnormal": {"first": 5e-324, "cap": 5e-324, "probe": 5e-324, "patience": 5e-324},
}
ERRORS = {
    "down": down(),
    "slow down": down(retry_after=0.0),
    "rejected": GrantRejected("invalid_grant"),
    "ambiguous": down(ambiguous=True),
}


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("asked", ["by nobody", "again and again", "with a timeout"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("policy", RETRIES)
async def test_failed_attempts(clock, policy, error, asked, shared):
    """F1: there are never more than ten failed attempts a second, under any policy and any demand."""
    source = ScriptedSource(clock, lifetime=5.0)
    store = MemoryStore(clock=clock) if shared else None
    async with TokenManager(
        source, clock=clock, retry=RetryPolicy(**RETRIES[policy]), store=store, namespace=""
    ) as tokens:
        await tokens.get()
        begun = source.fetches
        source.error = ERRORS[error]
        for _ in range(200):
            await clock.advance(0.05)
            if asked == "again and again":
                await ask(tokens)
            elif asked == "with a timeout":
                with pytest.raises((TokenUnavailable, GrantRejected)) if tokens.peek() is None else Anything():
                    await tokens.get(timeout=0.01)
        assert source.fetches - begun <= 10 * (clock.time() - source.at[0]) + 2
        assert all(gap >= 0.099 for gap in gaps(source.at[1:]))


class Anything:
    """A context in which nothing has to be raised."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


LEADS = [
    {"lead_fraction": 0.5, "jitter": 1.0},
    {"lead_time": 1e9, "jitter": 1.0},
    {"lead_time": 1800.0, "jitter": 1.0},
    {"lead_time": 300.0, "jitter": 1.0},
    {"lead_fraction": 0.5, "jitter": 0.0},
]


@plain
@pytest.mark.parametrize("lead", LEADS, ids=str)
@pytest.mark.parametrize("lifetime", [10.0, 60.0, 3600.0, 86400.0])
async def test_lead_with_jitter(clock, lead, lifetime):
    """F1: the lead, jitter included, takes at most half a lifetime, for each of many keys."""
    sources = {key: ScriptedSource(clock, lifetime=lifetime) for key in range(100)}
    async with TokenManager(sources, clock=clock, policy=RefreshPolicy(**lead)):
        await clock.advance(lifetime * 4.0)
    assert all(gap >= lifetime * 0.499 for source in sources.values() for gap in gaps(source.at))
    assert all(4 <= source.fetches <= 9 for source in sources.values())


@plain
@pytest.mark.parametrize("lifetime", [0.01, 0.1, 1.0])
async def test_tokens_that_hardly_live(clock, lifetime):
    """F1: tokens that are dead nearly at once are not fetched without a pause."""
    source = ScriptedSource(clock, lifetime=lifetime)
    async with TokenManager(source, clock=clock) as tokens:
        for _ in range(200):
            await clock.advance(0.05)
            await ask(tokens)
    # Callers that meet no valid token have each a fetch; the supervisor alone keeps a pause.
    assert source.fetches <= 230


@plain
@pytest.mark.parametrize("timeout", [0.5, 5.0, 11.0, 60.0, 600.0])
@pytest.mark.parametrize("behaviour", ["async", "stubborn"])
async def test_fetch_timeout(clock, timeout, behaviour):
    """F7: a fetch may take as long as it was given, and no longer."""

    async def fetch():
        try:
            await asyncio.sleep(latency)
        except asyncio.CancelledError:
            if behaviour == "stubborn":
                await asyncio.sleep(1000.0)
            raise
        return "token", 6000.0

    latency = timeout * 0.99
    async with TokenManager(fetch, clock=clock, fetch_timeout=timeout) as tokens:
        assert (await tokens.get()).access_token == "token"
    latency = timeout + 0.1
    async with TokenManager(fetch, clock=clock, fetch_timeout=timeout) as tokens:
        begun = clock.time()
        with pytest.raises(TokenUnavailable):
            await tokens.get()
        assert clock.time() - begun <= timeout + 1.1


def made(kind, function):
    """Return sources of one function for many keys."""

    class Object:
        async def fetch_one(self, _=None):
            return await function()

    one = Object()
    if kind == "function":
        return lambda _: function
    if kind == "method":
        return lambda _: one.fetch_one
    if kind == "partial":

        async def with_key(key):
            return await function()

        return lambda key: functools.partial(with_key, key)
    if kind == "partial of a partial of a method":
        return lambda key: functools.partial(functools.partial(one.fetch_one), key)
    msg = kind
    raise LookupError(msg)


@plain
@pytest.mark.parametrize("kind", ["function", "method", "partial", "partial of a partial of a method"])
@pytest.mark.parametrize("by", ["mapping", "source_for"])
@pytest.mark.parametrize("limit", [1, 3, 16])
async def test_one_function_for_many_keys(clock, kind, by, limit):
    """F6, F8: keys whose sources are made of one function share one limit."""
    flying = most = 0

    async def function():
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.1)
        flying -= 1
        return "token", 600.0

    make = made(kind, function)
    keys = range(100)
    if by == "mapping":
        tokens = TokenManager({key: make(key) for key in keys}, clock=clock, concurrency=limit)
    else:
        tokens = TokenManager(source_for=make, clock=clock, concurrency=limit)
    async with tokens:
        await asyncio.gather(*(tokens.get(key) for key in keys))
    assert most == limit


@pytest.mark.parametrize("kind", ["function", "method", "partial"])
def test_threads_of_hung_functions(kind):
    """F6: calls that hang keep their threads, so one function has eight of them at most, in however many managers."""
    go = threading.Event()
    running = most = 0
    lock = threading.Lock()

    class Hung:
        def hang(self, *_):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            go.wait(60.0)
            with lock:
                running -= 1
            return "token", 60.0

    one = Hung()
    plainly = one.hang

    def make(key):
        return {"function": plainly, "method": one.hang, "partial": functools.partial(plainly, key)}[kind]

    async def main():
        managers = [
            TokenManager({key: make(key) for key in range(20)}, fetch_timeout=0.2, close_grace=0.1) for _ in range(2)
        ]
        for manager in managers:
            await manager.start()
        await asyncio.sleep(1.5)
        begun = time.monotonic()
        for manager in managers:
            await manager.aclose()
        assert time.monotonic() - begun < 5.0
        assert most <= 8 if kind != "partial" else most <= 8 * 20
        go.set()

    asyncio.run(main())
