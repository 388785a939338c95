"""Subscriptions: the list, the wake-ups, and the end of each."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from evertoken import Token
from evertoken._engine.subscription import Subscription, Subscriptions


class Key:
    """A key whose token the test sets."""

    def __init__(self, *, lost: bool = False) -> None:
        self.token: Token | None = None
        self.lost = lost
        self.begun = 0
        self.subscriptions = Subscriptions(asyncio.get_running_loop(), lambda: self.lost)

    async def begin(self) -> None:
        self.begun += 1

    def subscribe(self, key: str = "key", begin: Any = None) -> Subscription[Token]:
        return Subscription(self.subscriptions, key, lambda: self.token, begin or self.begin)

    def set(self, value: str) -> None:
        self.token = Token(value, issued_at=0.0)
        self.subscriptions.changed("key")


async def test_each_token_once():
    """L2: a reader is given each token once, the newest where several came, and none that is not in service."""
    key = Key()
    reader = key.subscribe()
    key.set("t1")
    assert (await anext(reader)).access_token == "t1"
    assert key.begun == 1
    waiting = asyncio.ensure_future(anext(reader))
    for value in ("t1", "t2", "t3"):
        key.set(value)
    assert (await waiting).access_token == "t3"
    waiting = asyncio.ensure_future(anext(reader))
    key.token = None
    key.subscriptions.changed("key")
    key.subscriptions.changed("another")
    await asyncio.sleep(0.01)
    assert not waiting.done()
    key.set("t4")
    assert (await waiting).access_token == "t4"
    assert key.begun == 1


@pytest.mark.parametrize("how", ["close", "end", "thread", "context", "lost"])
async def test_how_it_ends(how):
    """L2: a reader that waits ends when it is closed, from any thread, and when its session ends or is lost."""
    key = Key()
    reader = key.subscribe()
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0.01)
    if how == "close":
        reader.close()
        reader.close()
    elif how == "end":
        key.subscriptions.end()
    elif how == "thread":
        await asyncio.to_thread(reader.close)
    elif how == "context":
        async with reader:
            pass
    else:
        key.lost = True
        key.subscriptions.changed("key")
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5.0)
    with pytest.raises(StopAsyncIteration):
        await anext(reader)
    assert not key.subscriptions.has("key")
    assert [token async for token in reader] == []


async def test_one_reader():
    """L2: two readers of one subscription are told apart, and a cancelled one takes nothing from the next."""
    key = Key()
    reader = key.subscribe()
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0.01)
    with pytest.raises(RuntimeError, match="one reader"):
        await anext(reader)
    waiting.cancel()
    await asyncio.wait({waiting})
    key.set("t1")
    assert (await anext(reader)).access_token == "t1"


@pytest.mark.parametrize("error", [LookupError("unknown"), asyncio.CancelledError()], ids=repr)
async def test_begun_until_it_ended_well(error):
    """L2: a subscription whose first step failed or was cancelled is begun again by the next step."""
    key, fails = Key(), [True, True, False]

    async def begin() -> None:
        if fails.pop(0):
            raise error

    reader = key.subscribe(begin=begin)
    for _ in range(2):
        with pytest.raises(type(error)):
            await anext(reader)
    key.set("t1")
    assert (await anext(reader)).access_token == "t1"
    assert fails == []


async def test_dropped_without_being_closed():
    """L2, F6: a subscription that nobody holds is listed no longer; one that is waited for is held."""
    key = Key()
    dropped = key.subscribe()
    assert key.subscriptions.has("key")
    gone = weakref.ref(dropped)
    del dropped
    gc.collect()
    assert gone() is None
    assert not key.subscriptions.has("key")
    assert not key.subscriptions._readers

    async def first() -> str:
        return (await anext(key.subscribe())).access_token

    waiting = asyncio.ensure_future(first())
    await asyncio.sleep(0.01)
    gc.collect()
    assert key.subscriptions.has("key")
    key.set("t1")
    assert await asyncio.wait_for(waiting, 5.0) == "t1"


async def test_a_reader_on_another_loop():
    """U5, L1: a reader on another loop is woken there, and ends where the session's loop is lost without a word."""
    key, seen = Key(), list[str]()
    first, listed = threading.Event(), threading.Event()

    async def read() -> None:
        reader = key.subscribe()
        listed.set()
        async for token in reader:
            seen.append(token.access_token)
            first.set()

    reading = threading.Thread(target=lambda: asyncio.run(read()))
    reading.start()
    await asyncio.to_thread(listed.wait, 10.0)
    key.set("t1")
    await asyncio.to_thread(first.wait, 10.0)
    key.lost = True
    await asyncio.to_thread(reading.join, 10.0)
    assert not reading.is_alive()
    assert seen == ["t1"]


async def test_a_reader_whose_loop_is_gone():
    """L1: a reader whose loop has ended harms nobody when it is told."""
    key = Key()

    async def subscribe() -> Subscription[Token]:
        return key.subscribe()

    reader = await asyncio.to_thread(lambda: asyncio.run(subscribe()))
    key.set("t1")
    assert repr(reader) == "Subscription(closed=True)"
    key.subscriptions.end()
    assert key.subscriptions.lost
