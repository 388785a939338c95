"""Writes of peers are read together: one round trip for many keys, in bounded time, and no caller is put off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.gated import virtual

from evertoken import GrantRejected, Record, Token, TokenManager, events
from evertoken._coordination.looks import LOOK_PAUSE, MOST_KEYS
from evertoken._engine.tasks import Gate
from evertoken.stores import MemoryStore

SOON = 0.01


class Counting:
    """The store as one member sees it: its reads are counted, and may fail or wait."""

    tells_each_write = True

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner
        self.begin, self.commit, self.mark = inner.begin, inner.commit, inner.mark
        self.renew, self.abandon, self.watch = inner.renew, inner.abandon, inner.watch
        self.singles: list[str] = []
        self.batches: list[list[str]] = []
        self.hold: asyncio.Event | None = None
        self.unreadable: set[str] = set()

    async def read(self, key: str, /) -> Record | None:
        self.singles.append(key)
        return await self._found(key)

    async def read_many(self, keys: Sequence[str], /) -> dict[str, Record]:
        self.batches.append(list(keys))
        found = {key: record for key in keys if (record := await self._found(key)) is not None}
        if self.hold is not None:
            await self.hold.wait()
        return found

    async def _found(self, key: str) -> Record | None:
        if key in self.unreadable:
            msg = "sealed for others"
            raise ValueError(msg)
        return await self.inner.read(key)

    def forget(self) -> None:
        self.singles, self.batches = [], []


class Minting:
    """A source of one identity, whose tokens are numbered."""

    identity, rotates = "one", False

    def __init__(self, clock: Any, lifetime: float = 600.0) -> None:
        self.clock, self.lifetime, self.issued = clock, lifetime, 0

    async def fetch(self, _request: object) -> Token:
        self.issued += 1
        now = self.clock.time()
        return Token(f"at-{self.issued}", issued_at=now, expires_at=now + self.lifetime)


@asynccontextmanager
async def pair(
    clock: Any, keys: int, *, observer: Callable[[events.Event], object] = lambda _: None
) -> AsyncGenerator[tuple[TokenManager[Any, Any], TokenManager[Any, Any], Counting, Minting]]:
    """Give a member that writes, one that looks, the store as the latter sees it, and the source of all keys."""
    memory = MemoryStore(clock=clock)
    store, source = Counting(memory), Minting(clock)

    def manager(seen: Any, **options: Any) -> TokenManager[Any, Any]:
        return TokenManager(
            source_for=lambda _: source, store=seen, namespace="", clock=clock, concurrency=100, **options
        )

    async with manager(memory) as writer, manager(store, observers=[observer]) as looker:
        for key in range(keys):
            assert await writer.get(key) == await looker.get(key)
        await clock.advance(2.0)
        store.forget()
        yield writer, looker, store, source


@virtual
@pytest.mark.parametrize("keys", [1, 2, 17, 60])
async def test_writes_of_one_moment_cost_one_round_trip(clock, keys):
    """K2: many keys that peers have written are read at once, and each token is adopted."""
    async with pair(clock, keys) as (writer, looker, store, _):
        await asyncio.gather(*(writer.refresh(key) for key in range(keys)))
        await clock.advance(SOON)
        assert [len(set(batch)) for batch in store.batches] == [keys]
        assert not store.singles
        for key in range(keys):
            assert looker.peek(key) == writer.peek(key)


@virtual
@pytest.mark.parametrize("rate", [10.0, 50.0, 200.0])
async def test_a_stream_of_writes(clock, rate):
    """K2: however fast peers write, there are five looks a second at most, and each write is seen within one pause."""
    async with pair(clock, 40) as (writer, looker, store, _):
        writes, behind = int(rate * 4.0), 0.0
        for number in range(writes):
            await writer.refresh(number % 40)
            await clock.advance(1.0 / rate)
            late = [key for key in range(40) if looker.peek(key) != writer.peek(key)]
            behind = behind + 1.0 / rate if late else 0.0
        await clock.advance(LOOK_PAUSE + SOON)
        assert all(looker.peek(key) == writer.peek(key) for key in range(40))
        assert len(store.batches) <= 4.0 / LOOK_PAUSE + 2
        assert not store.singles


@virtual
@pytest.mark.parametrize("after", [0.0, 0.001, 0.1, 0.19, 0.5])
@pytest.mark.parametrize("before", [0, 1, 3])
async def test_a_sign_out_is_noticed_within_the_pause(clock, before, after):
    """K3: a sign-out is noticed within the pause between two looks, also right after another write."""
    async with pair(clock, 2) as (writer, looker, _, _source):
        for _ in range(before):
            await writer.refresh(1)
            await clock.advance(SOON)
        await clock.advance(after)
        await writer.revoke(0)
        await clock.advance(LOOK_PAUSE + SOON)
        assert looker.peek(0) is None
        with pytest.raises(GrantRejected, match="signed out"):
            await looker.get(0)


@virtual
async def test_a_sign_out_after_silence_is_noticed_at_once(clock):
    """K3: where nothing was written for a while nothing is put off."""
    async with pair(clock, 1) as (writer, looker, _, _source):
        await writer.revoke(0)
        await clock.advance(0.001)
        assert looker.peek(0) is None


@virtual
@pytest.mark.parametrize("call", ["refused", "refresh", "put", "revoke", "forget"])
async def test_a_caller_does_not_wait_for_a_look(clock, call):
    """R3, K3: a caller that needs more than a look goes on while a look hangs, and what the look read is not used."""
    async with pair(clock, 1) as (writer, looker, store, source):
        store.hold = asyncio.Event()
        await writer.refresh(0)
        await clock.advance(SOON)
        assert len(store.batches) == 1
        begun, held = clock.time(), looker.peek(0)
        assert held is not None
        put = Token("at-put", issued_at=begun, expires_at=begun + 900.0)
        if call == "refused":
            assert await looker.refused(held, 0) != held
        elif call == "refresh":
            assert await looker.refresh(0) != held
        elif call == "put":
            await looker.put(put, key=0)
        elif call == "revoke":
            await looker.revoke(0)
        else:
            await looker.forget(0)
            assert await looker.get(0) == writer.peek(0)
        assert clock.time() - begun < SOON
        token, issued = looker.peek(0), source.issued
        store.hold.set()
        await clock.advance(5.0)
        assert looker.peek(0) == token
        assert source.issued == issued


@virtual
async def test_a_key_without_a_valid_token_is_looked_at_at_once(clock):
    """K2: a key that somebody may ask for at any moment is not put off, though there was a look just now."""
    async with pair(clock, 2) as (writer, looker, store, source):
        held = looker.peek(0)
        assert held is not None
        await writer.refresh(1)
        await clock.advance(SOON)
        source.lifetime = -1.0
        await looker.invalidate(held, 0)
        await clock.advance(SOON)
        source.lifetime = 600.0
        assert looker.peek(0) is None
        await writer.refresh(0)
        await clock.advance(0.001)
        assert looker.peek(0) == writer.peek(0) is not None
        assert len(store.batches) == 1


@virtual
async def test_one_record_that_cannot_be_read_hides_no_other(clock):
    """K1, K3: of many keys that were written one cannot be read. The others are read by themselves, and adopted."""
    told: list[events.Event] = []
    async with pair(clock, 5, observer=told.append) as (writer, looker, store, _):
        store.unreadable.add(next(iter(store.inner._records)))
        await asyncio.gather(*(writer.refresh(key) for key in range(5)))
        await clock.advance(SOON)
        assert len(store.batches) == 1
        assert sorted(store.singles) == sorted(store.batches[0])
        assert [looker.peek(key) == writer.peek(key) for key in range(5)].count(False) == 1
        assert any(isinstance(event, events.StoreFailed) for event in told)
        store.unreadable.clear()
        await clock.advance(3.0)
        assert all(looker.peek(key) == writer.peek(key) for key in range(5))


@virtual
async def test_written_again_while_it_is_read(clock):
    """
    K3: if a record is written while the previous one is being read, the new one is read as well, within the pause.
    """
    async with pair(clock, 1) as (writer, looker, store, _):
        store.hold = asyncio.Event()
        await writer.refresh(0)
        await clock.advance(SOON)
        await writer.revoke(0)
        await clock.advance(SOON)
        store.hold.set()
        await clock.advance(LOOK_PAUSE + SOON)
        assert looker.peek(0) is None


@virtual
async def test_a_watch_that_begins_again_looks_at_all(clock):
    """K3, F6: where something may have been missed all keys are read, so many at a time, without a pause between."""
    keys = MOST_KEYS * 2 + 10
    async with pair(clock, keys) as (writer, looker, store, _):
        told = [changed for _, changed in store.inner._watchers]
        store.inner._watchers.clear()
        await writer.revoke(keys - 1)
        for changed in told:
            changed(None)
        await clock.advance(SOON)
        assert [len(batch) for batch in store.batches] == [MOST_KEYS, MOST_KEYS, 10]
        assert looker.peek(keys - 1) is None


@virtual
@pytest.mark.parametrize("hangs", [False, True])
async def test_a_close_while_looking(clock, hangs):
    """L1: a close ends within its bounds while a look is under way, and leaves no task and no flight."""
    async with pair(clock, 3) as (writer, looker, store, _):
        if hangs:
            store.hold = asyncio.Event()
        await asyncio.gather(*(writer.refresh(key) for key in range(3)))
        await clock.advance(0.0 if not hangs else SOON)
        begun = clock.time()
        await looker.aclose()
        assert clock.time() - begun < 1.0
        assert not [
            task for task in asyncio.all_tasks() if task.get_name() in {"evertoken:look", "evertoken:store:read"}
        ]


@virtual
async def test_all_tasks_are_cancelled_by_somebody(clock):
    """F5: a program that cancels all tasks also cancels the current looks. Their keys are looked at later."""
    async with pair(clock, 2) as (writer, looker, store, _):
        store.hold = asyncio.Event()
        await writer.refresh(0)
        await clock.advance(SOON)
        await writer.revoke(1)
        await clock.advance(0.0)
        store.hold.set()
        for task in asyncio.all_tasks():
            if task.get_name() == "evertoken:look":
                task.cancel()
        await clock.advance(LOOK_PAUSE + SOON)
        assert looker.peek(0) == writer.peek(0)
        assert looker.peek(1) is None


@virtual
@pytest.mark.parametrize(("woken", "expected"), [(True, True), (False, False)])
async def test_a_gate_says_whether_it_was_opened(clock, woken, expected):
    """K2: a member that waits for a lease knows a notice from the end of its wait."""
    gate = Gate()
    waiting = asyncio.ensure_future(gate.wait(clock, 1.0))
    await clock.advance(0.5)
    if woken:
        gate.wake()
    await clock.advance(1.0)
    assert await waiting is expected
    assert not gate


@virtual
async def test_waiting_for_a_peer_takes_no_lease(clock):
    """K2: members that waited for a peer's fetch read its token. Only members that fetch take the lease."""
    memory, taken = MemoryStore(clock=clock), 0
    source = Minting(clock)

    class Slow(Minting):
        async def fetch(self, request: object) -> Token:
            await asyncio.sleep(0.1)
            return await source.fetch(request)

    def counted(store: Counting) -> Counting:
        async def begin(*arguments: Any) -> Any:
            nonlocal taken
            begun = await memory.begin(*arguments)
            taken += hasattr(begun.lease, "fence")
            return begun

        store.begin = begin  # type: ignore[assignment]  # without the keyword
        return store

    managers = [TokenManager(Slow(clock), store=counted(Counting(memory)), namespace="", clock=clock) for _ in range(8)]
    for manager in managers:
        await manager.start()
    tokens = await asyncio.gather(*(manager.get() for manager in managers))
    assert len(set(tokens)) == source.issued == taken == 1
    for manager in managers:
        await manager.aclose()
