"""L2, U5: a subscription gets each token that comes, none that is dead, and disturbs nobody."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading

import pytest
from tests.kinds.rotating import Server, Source, ask
from tests.machinery.scripted import ScriptedSource

from evertoken import Token, TokenError, TokenManager
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])
KINDS = ["single", "mapping", "source_for"]


def of_kind(kind, source, **options):
    """Return a manager of *kind*, and the arguments that name its key."""
    if kind == "single":
        return TokenManager(source, **options), ()
    if kind == "mapping":
        return TokenManager({"k": source}, **options), ("k",)
    return TokenManager(source_for=lambda _: source, **options), ("k",)


async def forget(tokens, key, _):
    await tokens.forget(*key)


async def refresh(tokens, key, _):
    await tokens.refresh(*key)


async def refused(tokens, key, _):
    await tokens.refused(tokens.peek(*key), *key)


async def put(tokens, key, clock):
    now = clock.time()
    await tokens.put(Token("put", issued_at=now, expires_at=now + 90.0), *key)


async def out_and_in(tokens, key, clock):
    await tokens.revoke(*key)
    await tokens.refresh(*key)


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [forget, refresh, refused, put, out_and_in])
async def test_a_reader_is_not_starved(clock, change, kind, shared):
    """L2: after any command, a subscriber gets the next tokens, even if nobody calls get()."""
    tokens, key = of_kind(
        kind,
        ScriptedSource(clock, lifetime=100.0),
        clock=clock,
        idle_after=300.0,
        store=MemoryStore(clock=clock) if shared else None,
        namespace="",
    )
    found = []

    async def read():
        async for token in tokens.subscribe(*key):
            found.append((clock.time(), token))  # noqa: PERF401 - each as it comes

    async with tokens:
        reader = asyncio.create_task(read())
        await clock.advance(10.0)
        for _ in range(3):
            await change(tokens, key, clock)
            seen = len(found)
            await clock.advance(2000.0)
            assert len(found) >= seen + 15
        assert all(token.valid_at(at) for at, token in found)
    await reader


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("what", ["revoked", "expired in an outage", "refused", "forgotten in an outage"])
async def test_a_busy_reader_gets_no_dead_token(clock, what, shared):
    """U5: a late reader gets the token that is valid then, and no token that died meanwhile."""
    source = ScriptedSource(clock, lifetime=100.0)
    async with TokenManager(
        source, clock=clock, store=MemoryStore(clock=clock) if shared else None, namespace=""
    ) as tokens:
        reader = tokens.subscribe()
        await anext(reader)
        await tokens.refresh()
        source.error = ConnectionError()
        if what == "revoked":
            await tokens.revoke()
        elif what == "refused":
            with contextlib.suppress(TokenError):
                await tokens.refused(tokens.peek())
        elif what == "forgotten in an outage" and not shared:
            await tokens.forget()
        await clock.advance(200.0)
        assert tokens.peek() is None
        late = asyncio.ensure_future(anext(reader))
        await clock.advance(10.0)
        assert not late.done()
        source.error = None
        await tokens.refresh()
        assert (await late).valid_at(clock.time())


@plain
async def test_a_waiting_reader_is_held(clock):
    """L2: a task that waits on a subscription which nothing else holds is not collected."""
    found = []

    async def push():
        async for token in tokens.subscribe():
            found.append(token)  # noqa: PERF401 - each as it comes

    async with TokenManager(ScriptedSource(clock, lifetime=100.0), clock=clock) as tokens:
        for _ in range(5):
            asyncio.get_running_loop().create_task(push())
        await clock.advance(1.0)
        for _ in range(5):
            gc.collect()
            await clock.advance(100.0)
        assert len(found) >= 25


def test_readers_come_and_go_on_other_threads():
    """U5: threads that subscribe and close disturb neither the publishing nor each other."""
    errors: list[BaseException] = []
    published: list[object] = []
    done = threading.Event()

    def come_and_go(tokens):
        async def main():
            while not done.is_set():
                readers = [tokens.subscribe() for _ in range(20)]
                await anext(readers[0])
                for one in readers[::2]:
                    one.close()
                    one.close()
                del readers

        try:
            asyncio.run(main())
        except StopAsyncIteration:
            return
        except BaseException as error:  # noqa: BLE001 - kept for the test to judge
            errors.append(error)

    async def main():
        tokens = TokenManager(lambda: ("token", 60.0), observers=[published.append])
        async with tokens:
            steady = tokens.subscribe()
            threads = [threading.Thread(target=come_and_go, args=(tokens,)) for _ in range(3)]
            for one in threads:
                one.start()
            for _ in range(300):
                await tokens.refresh()
            assert await anext(steady) is not None
            done.set()
            await asyncio.get_running_loop().run_in_executor(None, lambda: [one.join(20.0) for one in threads])

    asyncio.run(main())
    assert errors == []
    assert sum(type(one).__name__ == "TokenRefreshed" for one in published) >= 300


@plain
async def test_a_login_that_a_peer_brings(clock):
    """K2: what a peer fetches, puts or signs out reaches the subscribers of each member."""
    server, store = Server(clock), MemoryStore(clock=clock)
    first = server.login()
    a = TokenManager(Source(server, first), clock=clock, store=store, namespace="")
    b = TokenManager(Source(server, first), clock=clock, store=store, namespace="")
    found = []

    async def read():
        async for token in b.subscribe():
            found.append((clock.time(), token.access_token))  # noqa: PERF401 - each as it comes

    async with a, b:
        reader = asyncio.create_task(read())
        await ask(a)
        await clock.advance(300.0)
        assert len(found) >= 3
        await a.revoke()
        seen = len(found)
        await clock.advance(500.0)
        assert len(found) == seen
        now = clock.time()
        await a.put(Token("login", issued_at=now, expires_at=now + 50.0, refresh_token=server.login("new")))
        await clock.advance(1.0)
        assert found[-1][1] == "login"
        assert found[-1][0] <= now + 1.0
    await reader
