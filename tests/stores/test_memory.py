"""The store in memory: what a store promises, and managers that share one."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from tests.gated import virtual

from evertoken import (
    FetchRequest,
    Held,
    Record,
    RefreshPolicy,
    Token,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
    events,
)
from evertoken._model.protocols import Lease
from evertoken.stores import MemoryStore

UNJITTERED = RefreshPolicy(jitter=0.0)
KEY = '["",null]'


def a_token(
    value: str = "token", *, at: float = 0.0, lifetime: float = 100.0, refresh_token: str | None = None
) -> Token:
    return Token(value, issued_at=at, expires_at=at + lifetime, refresh_token=refresh_token)


class Server:
    """Issues tokens to all managers; with *rotating* each refresh token is good once, and reuse is remembered."""

    def __init__(self, clock: Any, *, rotating: bool = False, latency: float = 0.3) -> None:
        self.clock = clock
        self.rotating = rotating
        self.latency = latency
        self.fetches = 0
        self.good = "rt-0"
        self.reused: list[str] = []
        self.at: list[float] = []

    def source(self) -> Source:
        return Source(self)


class Source:
    """One manager's view of the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.rotates = server.rotating

    async def fetch(self, request: FetchRequest, /) -> Token:
        server = self.server
        started = server.clock.time()
        server.at.append(started)
        presented = "rt-0" if request.current is None else request.current.refresh_token or "rt-0"
        request.sending()
        if server.rotating and presented != server.good:
            server.reused.append(presented)
        server.fetches += 1
        number = server.fetches
        if server.rotating:
            server.good = f"rt-{number}"
        await asyncio.sleep(server.latency)
        return a_token(f"at-{number}", at=started, refresh_token=f"rt-{number}" if server.rotating else None)


class Faulty:
    """A store that raises or hangs at will before it does what the store behind it does."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.fault: str | None = None
        self.operations: set[str] = {"read", "begin", "mark", "commit", "abandon", "renew"}

    async def _pass(self, operation: str, *args: Any) -> Any:
        if operation in self.operations:
            if self.fault == "raises":
                raise ConnectionError("the store is down")
            if self.fault == "hangs":
                await asyncio.Event().wait()
            if self.fault == "cancels":
                raise asyncio.CancelledError
        return await getattr(self.store, operation)(*args)

    async def read(self, key: str, /) -> Any:
        return await self._pass("read", key)

    async def begin(self, key: str, owner: str, ttl: float, /) -> Any:
        return await self._pass("begin", key, owner, ttl)

    async def mark(self, record: Record, lease: Lease, /) -> Any:
        return await self._pass("mark", record, lease)

    async def commit(self, record: Record, lease: Lease, /) -> Any:
        return await self._pass("commit", record, lease)

    async def abandon(self, lease: Lease, /) -> Any:
        return await self._pass("abandon", lease)

    async def renew(self, lease: Lease, ttl: float, /) -> Any:
        return await self._pass("renew", lease, ttl)


# The store by itself


async def lease_of(store: MemoryStore, owner: str = "me", ttl: float = 10.0, key: str = "k") -> Lease:
    lease = (await store.begin(key, owner, ttl)).lease
    assert isinstance(lease, Lease)
    return lease


async def held_from(store: MemoryStore, owner: str = "other") -> Held:
    held = (await store.begin("k", owner, 10.0)).lease
    assert isinstance(held, Held)
    return held


@virtual
async def test_begin_and_commit(clock):
    """K1, K2: a lease comes with the record. A write with the newest lease is read back. Keys are separate."""
    store = MemoryStore(clock=clock)
    assert await store.read("k") is None
    begun = await store.begin("k", "me", 10.0)
    assert isinstance(begun.lease, Lease)
    assert begun.record is None
    marked = Record("k", 1, a_token(), 5.0, "me", since=4.0, origins=("a", "b"))
    assert await store.mark(marked, begun.lease)
    begun_elsewhere = await store.begin("k", "other", 10.0)
    assert isinstance(begun_elsewhere.lease, Held)
    assert begun_elsewhere.record is marked
    assert await store.commit(record := Record("k", 2, a_token()), begun.lease)
    assert (await store.begin("k", "other", 10.0)).record is record
    assert await store.read("k") is record
    assert await store.read("other") is None
    assert (len(store), repr(store)) == (1, "MemoryStore(1 records)")


@virtual
@pytest.mark.parametrize("write", ["mark", "commit"])
@pytest.mark.parametrize("version", [0, -1, 6, 7])
async def test_only_a_later_version(clock, version, write):
    """K2: a write whose version is not above the stored one is refused and changes nothing, the lease neither."""
    store = MemoryStore(clock=clock)
    lease = await lease_of(store)
    first = Record("k", 7, a_token())
    assert await store.mark(first, lease)
    assert not await getattr(store, write)(Record("k", version, a_token("x")), lease)
    assert await store.read("k") is first
    await held_from(store)
    assert await store.commit(Record("k", 8, None, 5.0), lease)
    await lease_of(store, "other")


@virtual
@pytest.mark.parametrize("write", ["mark", "commit"])
async def test_a_late_write_is_refused(clock, write):
    """K2: a holder that outlived its lease cannot overwrite once another has it, nor with another key's."""
    store = MemoryStore(clock=clock)
    old = await lease_of(store, ttl=1.0)
    await clock.advance(1.5)
    new = await lease_of(store, "other")
    assert new.fence > old.fence
    assert not await getattr(store, write)(Record("k", 1, a_token("late")), old)
    assert await store.read("k") is None
    await held_from(store, "me")
    assert not await getattr(store, write)(Record("other", 1, a_token()), new)
    assert await store.commit(Record("k", 1, a_token("new")), new)
    assert not await getattr(store, write)(Record("k", 2, a_token("late")), old)


@virtual
async def test_lease(clock):
    """K2: a lease is one owner's until it ends; the others are told for how long."""
    store = MemoryStore(clock=clock)
    lease = await lease_of(store, ttl=10.0)
    await clock.advance(4.0)
    assert (await held_from(store)).remaining == pytest.approx(6.0)
    await lease_of(store, "other", 1.0, key="another key")
    await clock.advance(6.0)
    taken = await lease_of(store, "other")
    assert taken.fence == lease.fence + 1


@virtual
async def test_its_owner_begins_again(clock):
    """K2, K4: an owner gets its lease anew at once, and the older one writes, renews and ends nothing."""
    store = MemoryStore(clock=clock)
    old = await lease_of(store)
    await clock.advance(4.0)
    new = await lease_of(store)
    assert new.fence == old.fence + 1
    assert (await held_from(store)).remaining == pytest.approx(10.0)
    assert not await store.commit(Record("k", 1, a_token()), old)
    assert not await store.renew(old, 10.0)
    await store.abandon(old)
    await held_from(store)
    assert await store.commit(Record("k", 1, a_token()), new)


@virtual
@pytest.mark.parametrize("ttl", [10.1, 60.0, 1e9])
async def test_a_lease_beyond_bounds_is_free(clock, ttl):
    """K2, T2: a lease beyond the longest allowed time counts as free, also for those who ask for its holder."""
    store = MemoryStore(clock=clock)
    first = await lease_of(store, ttl=ttl)
    assert await store.holder("k") is None
    second = await lease_of(store, "other")
    assert second.fence > first.fence
    assert await store.holder("k") == ("other", pytest.approx(10.0))


@virtual
async def test_a_step_of_the_wall_clock_ends_no_lease(clock):
    """K2, T2: leases are counted by the clock that nobody sets."""
    store = MemoryStore(clock=clock)
    await lease_of(store, ttl=10.0)
    clock.step(7200.0)
    await held_from(store)
    clock.step(-14_400.0)
    await clock.advance(10.0)
    await lease_of(store, "other")


@virtual
async def test_renew(clock):
    """K2: a held lease can be renewed; one that ended, was given back or taken cannot."""
    store = MemoryStore(clock=clock)
    lease = await lease_of(store, ttl=10.0)
    await clock.advance(8.0)
    assert await store.renew(lease, 10.0)
    await clock.advance(8.0)
    await held_from(store)
    assert not await store.renew(Lease("k", "other", lease.fence), 10.0)
    await clock.advance(2.0)
    assert not await store.renew(lease, 10.0)
    again = await lease_of(store)
    assert not await store.renew(lease, 10.0)
    await store.abandon(again)
    assert not await store.renew(again, 10.0)


@virtual
async def test_abandon(clock):
    """K2: only its owner can return a lease. A second, late or unfounded return does nothing."""
    store = MemoryStore(clock=clock)
    lease = await lease_of(store, ttl=1.0)
    for stranger in (Lease("k", "other", lease.fence), Lease("k", "me", lease.fence - 1), Lease("x", "me", 1)):
        await store.abandon(stranger)
    await held_from(store)
    await clock.advance(1.0)
    new = await lease_of(store, "other")
    await store.abandon(lease)
    await held_from(store, "third")
    await store.abandon(new)
    await store.abandon(new)
    third = await lease_of(store, "third")
    assert third.fence > new.fence


class Slow(dict[str, Any]):
    """A dict that lets other threads run between a look and what follows from it."""

    def get(self, key: str, default: Any = None, /) -> Any:
        found = super().get(key, default)
        time.sleep(0.001)
        return found


async def test_threads_share_one():
    """U5, K2: of loops in several threads that ask at once, one gets each lease."""
    store = MemoryStore()
    store._leases = Slow()
    start = threading.Barrier(4)

    async def work(owner: str) -> list[Lease]:
        start.wait()
        begun = [(await store.begin(f"k{number}", owner, 10.0)).lease for number in range(20)]
        return [lease for lease in begun if isinstance(lease, Lease)]

    got = await asyncio.gather(*(asyncio.to_thread(asyncio.run, work(f"owner-{number}")) for number in range(4)))
    keys = [lease.key for leases in got for lease in leases]
    assert sorted(keys) == sorted(f"k{number}" for number in range(20))


async def test_a_watcher_whose_loop_is_closed():
    """U5: a loop that ended without its watch being cancelled keeps no write from being done, nor from being told."""
    store = MemoryStore()
    loop = asyncio.new_event_loop()
    store._watchers.append((loop, lambda _: None))
    loop.close()
    seen: list[str | None] = []
    watching = asyncio.ensure_future(store.watch(seen.append))
    await asyncio.sleep(0)
    assert await store.commit(Record("k", 1, a_token()), await lease_of(store))
    await asyncio.sleep(0)
    assert seen == [None, "k"]
    watching.cancel()
    await asyncio.wait([watching])


# Managers that share one


@virtual
@pytest.mark.parametrize("members", [2, 10])
@pytest.mark.parametrize("rotating", [False, True])
async def test_one_fetch_a_lifetime(clock, members, rotating):
    """K1, K2: a fleet on one store makes one fetch a lifetime over 20 lifetimes, and spends no refresh token twice."""
    store, server = MemoryStore(clock=clock), Server(clock, rotating=rotating)
    told: list[Any] = []
    managers = [
        TokenManager(
            server.source(), store=store, namespace="", clock=clock, policy=UNJITTERED, observers=[told.append]
        )
        for _ in range(members)
    ]
    async with asyncio.timeout(10_000):
        for manager in managers:
            await manager.start()
        for lifetime in range(20):
            values = {(await manager.get()).access_token for manager in managers}
            assert values == {f"at-{lifetime + 1}"}
            await clock.advance(81.0)
            assert server.fetches in {lifetime + 1, lifetime + 2}
            await clock.advance(2.0)
            assert server.fetches == lifetime + 2
        for manager in managers:
            await manager.aclose()
    assert server.reused == []
    adopted = [event for event in told if isinstance(event, events.TokenAdopted)]
    assert len(adopted) == 21 * (members - 1)
    assert not [event for event in told if isinstance(event, events.RefreshFailed | events.StoreFailed)]


@virtual
async def test_jittered_members(clock):
    """K2, F2: members that refresh at different moments still make one fetch a lifetime. The first member makes it."""
    store, server = MemoryStore(clock=clock), Server(clock, rotating=True)
    managers = [
        TokenManager(
            server.source(),
            store=store,
            namespace="",
            clock=clock,
            policy=RefreshPolicy(jitter=share / 10.0, lead_fraction=0.3),
        )
        for share in range(6)
    ]
    for manager in managers:
        await manager.start()
    for _ in range(2000):
        await clock.advance(1.0)
        tokens = [manager.peek() for manager in managers]
        assert all(token is None or token.valid_at(clock.time()) for token in tokens)
        assert clock.time() < server.at[0] + 5 or None not in tokens
    for manager in managers:
        await manager.aclose()
    assert server.reused == []
    assert server.fetches <= 2000 / (100.0 * 0.55) + 2


@virtual
async def test_made_anew(clock):
    """K2: a manager made anew while the kept token is fresh makes no fetch at all."""
    store, server = MemoryStore(clock=clock), Server(clock, rotating=True)
    async with TokenManager(server.source(), store=store, namespace="", clock=clock) as manager:
        first = await manager.get()
    for _ in range(5):
        async with TokenManager(server.source(), store=store, namespace="", clock=clock, start="require") as manager:
            assert (await manager.get()).access_token == first.access_token
    assert server.fetches == 1


@virtual
async def test_made_anew_late(clock):
    """K1: a manager made anew after the kept token died presents the kept refresh token, not the first one."""
    store, server = MemoryStore(clock=clock), Server(clock, rotating=True)
    async with TokenManager(server.source(), store=store, namespace="", clock=clock) as manager:
        await manager.get()
        await manager.refresh()
    await clock.advance(500.0)
    async with TokenManager(server.source(), store=store, namespace="", clock=clock) as manager:
        assert (await manager.get()).access_token == "at-3"
    assert server.reused == []


@virtual
async def test_namespaces(clock):
    """K2: managers of two namespaces share nothing; those of one share key by key."""
    store, server = MemoryStore(clock=clock), Server(clock)
    sources = {"a": server.source(), ("b", 1): server.source()}
    async with (
        TokenManager(sources, store=store, clock=clock, namespace="one") as one,
        TokenManager(sources, store=store, clock=clock, namespace="two") as two,
    ):
        values = {(await manager.get(key)).access_token for manager in (one, two) for key in sources}
    assert len(values) == 4
    assert len(store) == 4


@virtual
async def test_a_refused_token_is_replaced_once_for_all(clock):
    """K2, U1: a token that every member sees refused is replaced by one fetch; the others adopt its token."""
    store, server = MemoryStore(clock=clock), Server(clock, rotating=True)
    managers = [TokenManager(server.source(), store=store, namespace="", clock=clock) for _ in range(5)]
    for manager in managers:
        await manager.start()
    tokens = [await manager.get() for manager in managers]
    others = await asyncio.gather(*(manager.refused(token) for manager, token in zip(managers, tokens, strict=True)))
    assert {None if other is None else other.access_token for other in others} == {"at-2"}
    for manager in managers:
        await manager.aclose()
    assert (server.fetches, server.reused) == (2, [])


@virtual
@pytest.mark.parametrize("rotating", [False, True])
async def test_a_holder_that_dies(clock, rotating):
    """K2: a lease whose holder died is taken over once it ends; until then nobody fetches, and the next get() waits."""
    store, server = MemoryStore(clock=clock), Server(clock, rotating=rotating)
    await store.begin(KEY, "the dead", 10.0)
    died = clock.time()
    async with TokenManager(server.source(), store=store, namespace="", clock=clock) as one:
        async with TokenManager(server.source(), store=store, namespace="", clock=clock) as other:
            values = await asyncio.gather(one.get(), other.get())
    assert {token.access_token for token in values} == {"at-1"}
    assert server.fetches == 1
    assert died + 10.0 <= server.at[0] < died + 11.0


@virtual
async def test_a_holder_whose_lease_is_long(clock):
    """K2, R4: where a dead holder's lease outlasts a fetch's time, callers are told, and recovery comes by itself."""
    store, server = MemoryStore(clock=clock), Server(clock)
    await store.begin(KEY, "the dead", 10.0)
    async with TokenManager(server.source(), store=store, namespace="", clock=clock, fetch_timeout=5.0) as manager:
        with pytest.raises(TokenUnavailable, match="holds the lease"):
            await manager.get()
        assert server.fetches == 0
        assert (await manager.get(timeout=120.0)).access_token == "at-1"


@virtual
async def test_a_flight_that_is_cancelled_gives_its_lease_back(clock):
    """K2: a manager closed in mid-fetch releases its lease; its peer fetches at once."""
    store, server = MemoryStore(clock=clock), Server(clock, latency=20.0)
    one = TokenManager(server.source(), store=store, namespace="", clock=clock, close_grace=0.0)
    await one.start()
    await clock.advance(1.0)
    assert server.fetches == 1
    await one.aclose()
    begun = clock.time()
    async with TokenManager(server.source(), store=store, namespace="", clock=clock) as two:
        await two.get()
    assert clock.time() - begun < 21.0


@virtual
async def test_a_late_answer_does_not_overwrite(clock):
    """K2: what a fetch brought whose lease was taken meanwhile is not kept over what the peer wrote, and not served."""
    store, server = MemoryStore(clock=clock), Server(clock, latency=10.0)
    told: list[Any] = []
    async with TokenManager(
        server.source(), store=store, namespace="", clock=clock, observers=[told.append]
    ) as manager:
        await clock.advance(1.0)
        # As if its lease had run out: a peer has it, and wrote.
        newest, _ = store._leases[KEY]
        store._leases[KEY] = newest, 0.0
        lease = await lease_of(store, "peer", 1.0, key=KEY)
        peers = a_token("of-the-peer", at=clock.time())
        assert await store.commit(Record(KEY, 1, peers, since=clock.time()), lease)
        assert (await manager.get(timeout=60.0)).access_token == "of-the-peer"
    record = await store.read(KEY)
    assert record is not None
    assert record.token is peers
    assert [event for event in told if isinstance(event, events.TokenAdopted)]
    assert not [event for event in told if isinstance(event, events.RefreshFailed | events.StoreFailed)]


# The store in trouble


@virtual
@pytest.mark.parametrize("fault", ["raises", "hangs", "cancels"])
async def test_store_down_and_tokens_that_are_minted(clock, fault):
    """K3: with the store down, each member still fetches tokens that may be minted freely, for itself."""
    store, server = Faulty(MemoryStore(clock=clock)), Server(clock)
    store.fault = fault
    told: list[Any] = []
    async with TokenManager(
        server.source(), store=store, namespace="", clock=clock, observers=[told.append]
    ) as manager:
        assert (await manager.get()).access_token == "at-1"
        for _ in range(300):
            await clock.advance(1.0)
            assert manager.peek() is not None
        assert manager.snapshot().keys[None].kept is False
        assert [event for event in told if isinstance(event, events.StoreFailed)]
        store.fault = None
        await clock.advance(100.0)
        assert manager.snapshot().keys[None].kept
        record = await store.read(KEY)
        assert record is not None
        assert record.token is not None
        assert record.token.access_token == (await manager.get()).access_token


@virtual
@pytest.mark.parametrize("fault", ["raises", "hangs", "cancels"])
async def test_store_down_and_tokens_that_rotate(clock, fault):
    """K3: with the store down, a rotating refresh token is not presented; the valid token stays in service."""
    store, server = Faulty(MemoryStore(clock=clock)), Server(clock, rotating=True)
    async with TokenManager(server.source(), store=store, namespace="", clock=clock) as manager:
        token = await manager.get()
        store.fault = fault
        while clock.time() < server.at[0] + 99.0:
            assert await manager.get() is token
            await clock.advance(1.0)
        assert server.fetches == 1
        await clock.advance(2.0)
        with pytest.raises(TokenUnavailable, match="the store is down"):
            await manager.get()
        assert server.fetches == 1
        store.fault = None
        assert (await manager.get(timeout=120.0)).access_token == "at-2"
    assert server.reused == []


@virtual
@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.parametrize("operation", ["read", "begin", "mark", "commit", "abandon"])
@pytest.mark.parametrize("fault", ["raises", "hangs"])
async def test_store_down_at_one_step(clock, rotating, operation, fault):
    """K3: a store that fails at one step alone costs no valid token, and no refresh token is spent twice."""
    store, server = Faulty(MemoryStore(clock=clock)), Server(clock, rotating=rotating)
    store.operations = {operation}
    async with TokenManager(server.source(), store=store, namespace="", clock=clock) as manager:
        token = await manager.get()
        store.fault = fault
        while clock.time() < server.at[0] + 99.0:
            assert (await manager.get()).valid_at(clock.time())
            await clock.advance(1.0)
        assert manager.health().alive
        store.fault = None
        await clock.advance(120.0)
        assert (await manager.get(timeout=120.0)).access_token != token.access_token
    assert server.reused == []


@virtual
async def test_the_longer_lived_token_stays_in_service(clock):
    """K3, F3: a token minted while the store was down stays, though an older record is found later."""
    store, server = Faulty(MemoryStore(clock=clock)), Server(clock, latency=0.0)
    source = server.source()
    async with TokenManager(source, store=store, namespace="", clock=clock, policy=UNJITTERED) as manager:
        await manager.get()
        await clock.advance(1.0)
        # A peer writes a newer record, and then the store is gone before this manager has seen it.
        lease = (await store.begin(KEY, "peer", 1.0)).lease
        assert isinstance(lease, Lease)
        assert await store.commit(Record(KEY, 2, a_token("peer", at=clock.time(), lifetime=90.0)), lease)
        store.fault = "raises"
        await clock.advance(81.0)
        minted = await manager.get()
        assert minted.access_token == "at-2"
        store.fault = None

        async def failing(request: FetchRequest, /) -> Token:
            raise TransientRefreshError("the endpoint is down")

        source.fetch = failing
        while clock.time() < minted.issued_at + 98.0:
            assert await manager.get() is minted
            await clock.advance(1.0)
