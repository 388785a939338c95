"""Signed out everywhere, and for good: no late answer brings a key back, and members that were not told stop soon."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.fleet.simulation import Server, Store, Worker, end, start
from tests.gated import virtual
from tests.machinery.scripted import ScriptedSource, down

from evertoken import GrantRejected, Token, TokenManager, TokenUnavailable, events
from evertoken._coordination import store_client
from evertoken.stores import MemoryStore


class Unwatched:
    """A store that cannot be watched."""

    def __init__(self, inner: MemoryStore) -> None:
        self.begin, self.mark, self.commit = inner.begin, inner.mark, inner.commit
        self.read, self.renew, self.abandon = inner.read, inner.renew, inner.abandon


@virtual
@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.parametrize("step", ["before fetch", "after fetch", "before commit"])
async def test_a_late_answer_does_not_undo_it(clock, monkeypatch, rotating, step):
    """K2, K3: a holder that was stopped while its peer signed the key out does not bring it back with its answer."""
    monkeypatch.setattr(store_client, "STORE_TIMEOUT", 200.0)
    store, server = Store(clock), Server(clock, rotating=rotating)
    one, two = (Worker(name, store, server, fetch_timeout=200.0) for name in ("one", "two"))
    await start([one])
    assert await one.use() is not None
    await clock.advance(1.0)
    one.stops_at = step
    await clock.advance(70.0)
    assert one.state == "stopped"
    await start([two])
    await two.manager.revoke()
    one.resume()
    await clock.advance(10.0)

    record = await store.record()
    assert record.revoked
    for worker in (one, two):
        assert worker.manager.peek() is None
        with pytest.raises(GrantRejected, match="signed out"):
            await worker.manager.get()
    await end([one, two])


@virtual
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
async def test_after_a_login_that_failed_a_peers_login_is_found(clock, shared):
    """K6, F4: a key that was signed out goes on looking for a login of a peer, also after its own login has failed."""
    store, source = Unwatched(MemoryStore(clock=clock)) if shared else None, ScriptedSource(clock)
    async with (
        TokenManager(source, store=store, namespace="", clock=clock) as one,
        TokenManager(ScriptedSource(clock), store=store, namespace="", clock=clock) as two,
    ):
        await one.get()
        await one.revoke()
        source.error = down()
        with pytest.raises(TokenUnavailable):
            await one.refresh()
        fetches = source.fetches
        # Without a store nobody else can sign it in.
        assert (one.snapshot().keys[None].next_attempt_at is not None) is shared
        login = Token("login", issued_at=clock.time(), expires_at=clock.time() + 9000.0)
        await two.put(login)
        await clock.advance(700.0)
        assert one.peek() == (login if shared else None)
        assert source.fetches == fetches


@virtual
async def test_without_a_watch_a_peer_stops_when_its_token_is_due(clock):
    """K3: where a store cannot be watched, a peer serves a key that was signed out until its token is due."""
    server, store = Server(clock, rotating=False), Unwatched(MemoryStore(clock=clock))
    told: list[events.Event] = []
    source = Worker("source", Store(clock), server)
    async with (
        TokenManager(source, store=store, namespace="", clock=clock) as one,
        TokenManager(source, store=store, namespace="", clock=clock, observers=[told.append]) as two,
    ):
        assert await one.get() == await two.get()
        await one.revoke()
        await clock.advance(49.0)
        assert two.peek() is None
        await clock.advance(600.0)
        with pytest.raises(GrantRejected, match="signed out"):
            await two.get()
    assert server.issued == 1
    # Once, however often it is looked at again.
    assert [event.by_peer for event in told if isinstance(event, events.TokenRevoked)] == [True]


@virtual
@pytest.mark.parametrize("operation", ["revoked", "refreshed"])
async def test_a_look_that_failed(clock, operation):
    """K3: a peer that was told and could not read the record looks again soon, until it can."""
    store, server = Store(clock), Server(clock, rotating=False)
    one, two = (Worker(name, store, server) for name in ("one", "two"))
    await start([one, two])
    first = await one.use()
    assert await two.use() == first
    read, read_many, failed = two.read, two.read_many, 0

    async def failing(key: str, /) -> None:
        nonlocal failed
        failed += 1
        raise ConnectionResetError("cut")

    two.read = two.read_many = failing
    await (one.manager.revoke() if operation == "revoked" else one.manager.refresh())
    await clock.advance(5.0)
    assert two.manager.peek() == first
    assert 2 <= failed <= 4
    two.read, two.read_many = read, read_many
    await clock.advance(5.0)
    assert two.manager.peek() == one.manager.peek() != first
    await end([one, two])


@virtual
async def test_while_a_peer_looks(clock):
    """K2: a record that is written while a peer reads its predecessor is read as well."""
    store, server = Store(clock), Server(clock, rotating=False, lifetime=600.0)
    one, two = (Worker(name, store, server) for name in ("one", "two"))
    await start([one, two])
    assert await one.use() == await two.use() is not None
    await clock.advance(1.0)
    read_many, reached, go = two.read_many, asyncio.Event(), asyncio.Event()

    async def slow(keys: Sequence[str], /) -> Any:
        found = await read_many(keys)
        reached.set()
        await go.wait()
        return found

    two.read_many = slow
    await one.manager.refresh()
    await reached.wait()
    two.read_many = read_many
    await one.manager.revoke()
    await clock.advance(0.1)
    go.set()
    await clock.advance(3.0)
    assert two.manager.peek() is None
    await end([one, two])


@virtual
async def test_in_a_store_that_was_flushed(clock):
    """K3: a key that is signed out after its store was flushed stays so, though peers remember later versions."""
    store, server = Store(clock), Server(clock, rotating=True)
    workers = [Worker(name, store, server) for name in ("one", "two")]
    await start(workers)
    assert all([await worker.use() for worker in workers])
    await workers[0].manager.refresh()
    await clock.advance(1.0)
    await store.flush_unheard()
    late = Worker("late", store, server)
    await start([late])
    await late.manager.revoke()
    await clock.advance(200.0)
    for worker in (*workers, late):
        assert worker.manager.peek() is None
        with pytest.raises(GrantRejected, match="signed out"):
            await worker.manager.get()
    record = await store.record()
    assert record.revoked
    await end([*workers, late])


@virtual
@pytest.mark.parametrize("what", ["down", "never answered"])
async def test_a_refresh_that_was_to_begin_anew_and_failed(clock, what):
    """K3: the key stays signed out for all, with every outcome of a refresh that was requested after the sign-out."""
    store, server = Store(clock), Server(clock, rotating=True)
    told: list[events.Event] = []
    one, two, three = (Worker(name, store, server, observers=[told.append]) for name in ("one", "two", "three"))
    await start([one, two, three])
    assert await two.use() is not None
    await one.manager.revoke()
    await clock.advance(0.1)
    server.down, server.latency = what == "down", 100.0
    with pytest.raises(TokenUnavailable) as raised:
        await two.manager.refresh()
    assert raised.value.__cause__ is not None
    server.down, server.latency = False, 0.3
    late = Worker("late", store, server)
    await start([late])
    await clock.advance(400.0)
    for worker in (one, two, three, late):
        with pytest.raises(GrantRejected, match="signed out"):
            await worker.manager.get()
    assert server.issued == 1
    record = await store.record()
    assert record.revoked
    assert (record.sent_at is not None) == (what == "never answered")
    assert [event.by_peer for event in told if isinstance(event, events.TokenRevoked)].count(True) == 2
    await end([one, two, three, late])


@virtual
async def test_a_refresh_that_knew_of_no_sign_out(clock):
    """K3: a member that requests a new token without knowing of a sign-out learns of it, and does not undo it."""
    store, server = Store(clock), Server(clock, rotating=True)
    one, two = (Worker(name, store, server) for name in ("one", "two"))
    await start([one, two])
    assert await one.use() == await two.use() is not None
    store.notices = False
    await one.manager.revoke()
    with pytest.raises(GrantRejected, match="signed out"):
        await two.manager.refresh()
    assert server.issued == 1
    server.good = "rt-0"
    token = await two.manager.refresh()
    assert await two.use() == token
    await end([one, two])


class Minting:
    """A source of one identity, whose tokens are numbered over all members."""

    identity, rotates = "one", False

    def __init__(self, clock) -> None:
        self.clock, self.issued = clock, 0

    async def fetch(self, _request):
        self.issued += 1
        now = self.clock.time()
        return Token(f"at-{self.issued}", issued_at=now, expires_at=now + 600.0)


@virtual
@pytest.mark.parametrize("refreshes", [0, 1, 4])
@pytest.mark.parametrize("pause", [0.0, 0.5, 2.0, 400.0])
async def test_a_login_of_another_process_after_its_sign_out(clock, refreshes, pause):
    """K6: a member that adopted a sign-out does not write it over the login that came after it."""
    store, source = MemoryStore(clock=clock), Minting(clock)
    async with TokenManager(source, store=store, clock=clock) as app:
        await app.get()
        for _ in range(refreshes):
            await app.refresh()
        await clock.advance(1.0)
        async with TokenManager(source, store=store, clock=clock) as operator:
            await operator.revoke()
            await clock.advance(pause)
            login = await operator.refresh()
            await clock.advance(5.0)
            assert await operator.get() == login
            assert await app.get() == login


@virtual
@pytest.mark.parametrize("delay", [0.3, 1.0, 1.1, 1.2, 2.05])
@pytest.mark.parametrize("blocked", [3.0, 3.1, 3.2])
@pytest.mark.parametrize("last", ["revoke", "put"])
async def test_the_later_decision_wins_where_both_wait(clock, delay, blocked, last):
    """
    K6: if a login and a sign-out wait for a dead member's lease, the later one wins, in either order of their writes.
    """
    store, source = MemoryStore(clock=clock), Minting(clock)
    async with (
        TokenManager(source, store=store, clock=clock) as one,
        TokenManager(source, store=store, clock=clock) as two,
    ):
        await one.get()
        await two.get()
        [name] = [key async for key in store.keys()]  # noqa: SIM118 - no dict
        await store.begin(name, "dead", blocked)
        now = clock.time()
        login = Token("login", issued_at=now, expires_at=now + 600.0)
        calls = [one.put(login), two.revoke()] if last == "revoke" else [two.revoke(), one.put(login)]
        first = asyncio.ensure_future(calls[0])
        await clock.advance(delay)
        second = asyncio.ensure_future(calls[1])
        await asyncio.gather(first, second, return_exceptions=True)
        await clock.advance(5.0)
        record = await store.read(name)
        assert record is not None
        assert record.revoked is (last == "revoke")
        if last == "revoke":
            assert one.peek() is two.peek() is None
