"""A manager that closes while its store is in the middle of something, and how much it reads when it starts."""

from __future__ import annotations

import asyncio

import pytest
from tests.fleet.simulation import Server, Store, Worker
from tests.gated import virtual

from evertoken import ManagerClosed, Record, TokenManager
from evertoken.stores import MemoryStore


class Hanging:
    """A store that hangs in one operation, and lets go of it when it is cancelled, or only when it is told to."""

    def __init__(self, inner, operation, *, stubborn):
        self._inner = inner
        self._operation = operation
        self._stubborn = stubborn
        self.go = asyncio.Event()
        self.entered = 0

    def __getattr__(self, name):
        async def call(*args):
            if name == self._operation:
                await self._hang()
                if name == "watch":
                    return None
            return await getattr(self._inner, name)(*args)

        return call

    async def _hang(self):
        while True:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                if not self._stubborn:
                    raise
            else:
                return

    async def __aenter__(self):
        if self._operation == "enter":
            await self._hang()
        self.entered += 1
        return self

    async def __aexit__(self, *_):
        if self._operation == "leave":
            await self._hang()
        self.entered -= 1


@virtual
@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.parametrize("operation", ["enter", "begin", "mark", "commit", "abandon", "renew", "watch", "leave"])
async def test_in_the_middle_of_each_operation(clock, operation, rotating, stubborn):
    """L1: if any call of the store hangs, closing still ends in bounded time, wakes the waiters, and leaves no task."""
    memory, server = Store(clock), Server(clock, rotating=rotating)
    source = Worker("source", memory, server)
    store = Hanging(memory.memory, operation, stubborn=stubborn)
    manager = TokenManager(source, store=store, namespace="", clock=clock, fetch_timeout=8.0, close_grace=2.0)
    before = asyncio.all_tasks()
    begun = clock.monotonic()
    await manager.start()
    assert clock.monotonic() - begun <= 5.1
    waiting = asyncio.ensure_future(manager.get())
    await clock.advance(0.1)
    begun = clock.monotonic()
    await manager.aclose()
    assert clock.monotonic() - begun <= 2.0 + 2.0 * 5.0 + 1.1
    if waiting.done() and waiting.exception() is None:
        assert operation in {"enter", "abandon", "renew", "watch", "leave"}
    else:
        with pytest.raises(ManagerClosed):
            await waiting
    store.go.set()
    await clock.advance(40.0)
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}
    # If the store is cancelled while it is entered or left, the store itself cleans up.
    assert store.entered == ((operation, stubborn) in {("enter", True), ("leave", False)})


@virtual
async def test_starting_reads_what_is_asked_for(clock):
    """F6: with many records in the store a manager that starts reads none, and then only those that are asked for."""
    memory, server = MemoryStore(clock=clock), Server(clock, rotating=False)
    source = Worker("source", Store(clock), server)
    for number in range(2000):
        key = f'["",{number}]'
        begun = await memory.begin(key, "me", 5.0)
        assert await memory.commit(Record(key, 1, server.take(None)), begun.lease)
    reads: list[str] = []
    read, begin = memory.read, memory.begin

    async def counted(key, /):
        reads.append(key)
        return await read(key)

    async def begun(key, owner, ttl, /):
        reads.append(key)
        return await begin(key, owner, ttl)

    memory.read, memory.begin = counted, begun
    issued = server.issued
    async with TokenManager(source_for=lambda _: source, store=memory, namespace="", clock=clock) as tokens:
        await clock.advance(5.0)
        assert reads == []
        assert (await tokens.get(7)).access_token == "at-8"
        assert set(reads) == {'["",7]'}
        assert len(reads) <= 2
        await clock.advance(30.0)
        assert set(reads) == {'["",7]'}
    assert server.issued == issued
