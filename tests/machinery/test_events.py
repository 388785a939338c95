"""Events for code that awaits: bounded, counted, on any loop, and gone when nobody reads."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest
from tests.gated import virtual
from tests.machinery.scripted import ScriptedSource

from evertoken import ManagerClosed, TokenManager
from evertoken._model import events

plain = pytest.mark.asyncio(loop_factories=["virtual"])


@virtual
async def test_what_happens_is_told_in_order_until_the_end(clock):
    """L2: a stream has what an observer has, from its beginning to the last event, and ends with the manager."""
    seen = []
    async with TokenManager(ScriptedSource(clock), clock=clock, observers=[seen.append]) as tokens:
        stream = tokens.events()
        begun = len(seen)
        reading = asyncio.ensure_future(collected(stream))
        await tokens.get()
        await clock.advance(3600.0)
        await tokens.refresh()
    assert await reading == seen[begun:]
    assert isinstance(seen[-1], events.ManagerClosing)
    assert stream.dropped == 0


async def collected(stream):
    return [event async for event in stream]


@virtual
@pytest.mark.parametrize("maxsize", [1, 3, 100])
async def test_a_slow_reader_loses_the_oldest(clock, maxsize):
    """L2: the buffer is bounded, the newest events stay, and dropped events are counted."""
    seen = []
    async with TokenManager(ScriptedSource(clock), clock=clock, observers=[seen.append]) as tokens:
        stream = tokens.events(maxsize=maxsize)
        begun = len(seen)
        for _ in range(10):
            await tokens.refresh()
            await clock.advance(2.0)
    told = await collected(stream)
    all_of_them = seen[begun:]
    assert told == all_of_them[-maxsize:]
    assert stream.dropped == max(len(all_of_them) - maxsize, 0)


@plain
@pytest.mark.parametrize("maxsize", [0, -1, 1.5, True, None, "many"])
async def test_a_size_that_is_none(clock, maxsize):
    """L2: the message names the parameter."""
    async with TokenManager(ScriptedSource(clock), clock=clock) as tokens:
        with pytest.raises(ValueError, match="maxsize"):
            tokens.events(maxsize=maxsize)


@plain
async def test_a_stream_of_a_manager_that_does_not_run(clock):
    """L1: it says so at once."""
    tokens = TokenManager(ScriptedSource(clock), clock=clock)
    with pytest.raises(RuntimeError, match="not started"):
        tokens.events()
    async with tokens:
        pass
    with pytest.raises(ManagerClosed):
        tokens.events()


@virtual
async def test_a_stream_that_nobody_reads_is_no_leak(clock):
    """F6: one that was dropped is collected; one whose reader was cancelled, too; one that is closed ends at once."""
    async with TokenManager(ScriptedSource(clock), clock=clock) as tokens:
        streams = tokens._life.session.event_streams
        dropped = weakref.ref(tokens.events())
        reading = asyncio.ensure_future(collected(tokens.events()))
        await clock.advance(1.0)
        assert len(streams) == 1
        gc.collect()
        assert dropped() is None
        # Only the waiting task refers to its stream.
        assert not reading.done()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        del reading
        await asyncio.sleep(0)
        gc.collect()
        assert len(streams) == 0
        async with tokens.events() as stream:
            await tokens.refresh()
        kinds = [type(event) for event in await collected(stream)]
        assert kinds == [events.FetchStarted, events.TokenRefreshed]
        assert len(streams) == 0


@virtual
async def test_a_stream_has_one_reader(clock):
    """L2: two that read one stream would each miss events."""
    async with TokenManager(ScriptedSource(clock), clock=clock) as tokens:
        await tokens.get()
        stream = tokens.events()
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one reader"):
            await anext(stream)
        stream.close()
        with pytest.raises(StopAsyncIteration):
            await first


@pytest.mark.asyncio
async def test_a_stream_on_another_loop():
    """U5: a reader in another thread is told what happens here, and of the end."""

    async def login():
        return "token", 3600

    told, ready = [], threading.Event()

    def elsewhere(tokens):
        async def read():
            stream = tokens.events()
            ready.set()
            told.extend([type(event) async for event in stream])

        asyncio.run(read())

    async with TokenManager(login) as tokens:
        await tokens.get()
        thread = threading.Thread(target=elsewhere, args=(tokens,))
        thread.start()
        await asyncio.to_thread(ready.wait)
        await tokens.refresh()
    await asyncio.to_thread(thread.join, 30.0)
    assert not thread.is_alive()
    assert told == [events.FetchStarted, events.TokenRefreshed, events.ManagerClosing]


@virtual
async def test_pages_of_a_snapshot(clock):
    """L2: all open keys come page by page, each once, also where keys come and go between two pages."""
    source = ScriptedSource(clock)
    keys = [*range(95), "a", ("b", 1), ("b", 2), None.__class__.__name__, -2]
    async with TokenManager(source_for=lambda key: source, clock=clock) as tokens:
        assert tokens.snapshots() == {}
        for key in keys:
            await tokens.get(key)
        found, after = [], None
        while page := tokens.snapshots(after, limit=7):
            assert len(page) <= 7
            found += page
            after = found[-1]
            assert all(one == tokens.snapshot(key) for key, one in page.items())
            if len(found) == 14:
                await tokens.forget(after)
        assert sorted(map(repr, found)) == sorted(map(repr, keys))
        handle = tokens.handle("a")
        assert handle.snapshot() == tokens.snapshot("a")
        assert (await handle.status()).status == handle.snapshot().status == "connected"
        assert tokens.snapshot("never opened").status == "pending"
        assert "never opened" not in tokens.snapshot().keys
        for limit in (0, -1, True, 1.5):
            with pytest.raises(ValueError, match="limit"):
                tokens.snapshots(limit=limit)
        with pytest.raises(TypeError):
            tokens.snapshot(None)
