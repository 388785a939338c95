"""The fleet protocol: one fetch a lifetime, through crashes, stops and cuts, and no spent refresh token is reused."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.fleet.simulation import Server, Store, Worker, end, start
from tests.gated import virtual

from evertoken import GrantRejected, Token, TokenManager, events
from evertoken._coordination import store_client

STEPS = [
    "before begin",
    "after begin",
    "before fetch",
    "after fetch",
    "before commit",
    "after commit",
]


#: Also those that are not taken each time.
EVERYWHERE = [*STEPS, *(f"{when} {step}" for when in ("before", "after") for step in ("mark", "read", "abandon"))]


def fleet(clock, count, *, rotating=False, lifetime=60.0, **options):
    store, server = Store(clock), Server(clock, rotating=rotating, lifetime=lifetime)
    server.kept = store.kept
    return store, server, [Worker(f"w{number}", store, server, **options) for number in range(count)]


@virtual
@pytest.mark.parametrize("rotating", [False, True])
async def test_one_fetch_a_lifetime(clock, rotating):
    """K2: eight workers make one fetch a lifetime between them, and none of their callers ever waits for one."""
    _store, server, workers = fleet(clock, 8, rotating=rotating)
    await start(workers)
    assert len({(await worker.use()).access_token for worker in workers}) == 1
    for _ in range(600):
        await clock.advance(1.0)
        for worker in workers:
            assert worker.manager.peek() is not None
    assert server.issued <= 1 + 600.0 / (60.0 * 0.76)
    assert not server.replays
    await end(workers)


@virtual
async def test_waiters_get_what_the_peer_fetched(clock):
    """K2: a member that waits on a cold key gets the peer's token as soon as it is written, before the lease ends."""
    _store, server, workers = fleet(clock, 3)
    server.latency = 4.0
    await start(workers)
    begun = clock.monotonic()
    tokens = await asyncio.gather(*(worker.use() for worker in workers))
    assert len({token.access_token for token in tokens}) == 1
    assert clock.monotonic() - begun < 4.1
    await end(workers)


@virtual
async def test_a_peer_adopts_at_once(clock):
    """K2: a token that a peer fetched is adopted when it is written, before the one here is due."""
    _store, _server, (one, two) = fleet(clock, 2)
    await start([one, two])
    first = await one.use()
    assert await two.use() == first
    second = await one.manager.refresh()
    await clock.advance(0.1)
    assert two.manager.peek() == second != first
    assert two.manager.snapshot().adopted >= 1
    await end([one, two])


class PassedOn:
    """A store that passes all on to another."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)


@virtual
async def test_a_store_that_passes_on_is_watched(clock):
    """K2: a store around another, as one that measures, is watched like that."""
    _store, _server, (one, two) = fleet(clock, 2)
    async with (
        TokenManager(one, store=PassedOn(one), namespace="", clock=clock) as here,
        TokenManager(two, store=PassedOn(two), namespace="", clock=clock) as there,
    ):
        assert await here.get() == await there.get()
        second = await here.refresh()
        await clock.advance(0.1)
        assert there.peek() == second


@virtual
async def test_restart_with_a_valid_token(clock):
    """K2: a fleet that restarts while its token is valid makes no fetch, even where the token is due."""
    store, server, workers = fleet(clock, 3)
    await start(workers)
    token = await workers[0].use()
    await end(workers)
    again = [Worker(f"n{number}", store, server) for number in range(3)]
    await start(again)
    assert [await worker.use() for worker in again] == [token] * 3
    assert server.issued == 1
    await end(again)


@virtual
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("rotating", [False, True])
async def test_the_holder_is_killed(clock, step, rotating):
    """K2, K4: if the holder dies at any step, a peer takes over within the lease, and replays only the unknowable."""
    _store, server, (one, two) = fleet(clock, 2, rotating=rotating, on_ambiguous="hold" if rotating else None)
    await start([one])
    await one.use()
    await clock.advance(1.0)
    one.dies_at = (step, 1)
    await start([two])
    assert await two.use() is not None
    await clock.advance(130.0)
    if one.state != "dead":
        # It never came to this step, as the second was faster; then that is the holder.
        one.dies_at = None
        two.dies_at = (step, 1)
        await clock.advance(130.0)
        one, two = two, one
    assert one.state == "dead"
    assert not any(kept for _, kept in server.replays), "replayed though the answer was saved"
    if rotating and step in {"after fetch", "before commit"}:
        # The answer died with the holder: nobody can know, and the family is lost with it. All later requests are
        # probes of the rejected grant.
        assert len(set(server.replays)) <= 1
    else:
        assert not server.replays
        assert await two.use() is not None
    await end([one, two])


@virtual
@pytest.mark.parametrize("step", ["after fetch", "before commit", "before fetch"])
async def test_reject_never_replays(clock, step):
    """K4: with on_ambiguous="reject", no caller can make the same refresh token follow a lost answer."""
    _store, server, workers = fleet(clock, 3, rotating=True, on_ambiguous="reject")
    told: list[events.Event] = []
    await start(workers)
    await workers[0].use()
    await clock.advance(1.0)
    for worker in workers:
        worker.dies_at = (step, 1)
    await clock.advance(60.0)
    assert sum(worker.state == "dead" for worker in workers) == 1
    for worker in workers:
        worker.dies_at = None
    await clock.advance(400.0)
    assert not server.replays
    living = [worker for worker in workers if worker.state == "running"]
    for worker in living:
        with pytest.raises(GrantRejected, match="ambiguous"):
            await worker.manager.get()
    assert not told
    await end(workers)


@virtual
@pytest.mark.parametrize("rotating", [False, True])
async def test_a_stopped_holder_resumes(clock, monkeypatch, rotating):
    """K2: the late write of a holder that outlived its lease is refused, and it adopts the newer token."""
    monkeypatch.setattr(store_client, "STORE_TIMEOUT", 100.0)
    store, server, (one, two) = fleet(clock, 2, rotating=rotating, fetch_timeout=100.0)
    await start([one])
    await one.use()
    await clock.advance(1.0)
    one.stops_at = "before fetch" if rotating else "after fetch"
    await clock.advance(58.0)
    assert one.state == "stopped"
    await start([two])
    await clock.advance(30.0)
    newer = await two.use()
    assert newer is not None
    before = len(store.writes)
    one.resume()
    await clock.advance(1.0)
    assert one.manager.peek() == two.manager.peek() == newer
    assert len(store.writes) == before
    assert all(version.version < later.version for version, later in zip(store.writes, store.writes[1:], strict=False))
    if not rotating:
        assert not server.replays
    await end([one, two])


@virtual
async def test_a_resumed_holder_saves_what_only_it_knows(clock, monkeypatch):
    """K1: a holder that outlived its lease while nobody refreshed keeps its token, the newest, under a new lease."""
    monkeypatch.setattr(store_client, "STORE_TIMEOUT", 100.0)
    store, server, (one,) = fleet(clock, 1, rotating=True, fetch_timeout=100.0)
    await start([one])
    await one.use()
    await clock.advance(1.0)
    one.stops_at = "after fetch"
    await clock.advance(58.0)
    one.resume()
    await clock.advance(2.0)
    record = await store.record()
    assert record.token is not None
    assert record.token.refresh_token == server.good
    assert not server.replays
    await end([one])


@virtual
async def test_store_down_and_minting(clock):
    """K3: with the store down, each worker mints its own; once it is back, one token is shared again."""
    store, server, workers = fleet(clock, 3)
    await start(workers)
    await workers[0].use()
    store.down = True
    for _ in range(200):
        await clock.advance(1.0)
        assert all([await worker.use() for worker in workers])
    store.down = False
    await clock.advance(70.0)
    issued = server.issued
    for _ in range(120):
        await clock.advance(1.0)
        assert all([await worker.use() for worker in workers])
    assert server.issued - issued <= 3
    assert len({worker.manager.peek().access_token for worker in workers}) == 1
    await end(workers)


@virtual
async def test_store_down_and_rotating(clock):
    """K3: with the store down nobody presents a refresh token that rotates; the valid token serves."""
    store, server, workers = fleet(clock, 3, rotating=True)
    await start(workers)
    assert all([await worker.use() for worker in workers])
    store.down = True
    issued = server.issued
    for _ in range(50):
        await clock.advance(1.0)
        assert all([await worker.use() for worker in workers])
    assert server.issued == issued
    store.down = False
    await clock.advance(70.0)
    assert all([await worker.use() for worker in workers])
    assert not server.replays
    await end(workers)


@virtual
@pytest.mark.parametrize("notices", [True, False])
async def test_flushed(clock, notices):
    """K3: a flushed store is filled from memory, newest first, and no spent refresh token comes back from the dead."""
    store, server, workers = fleet(clock, 3, rotating=True)
    await start(workers)
    assert all([await worker.use() for worker in workers])
    store.notices = notices
    await workers[0].manager.refresh()
    store.notices = True
    store.flush()
    await clock.advance(5.0)
    record = await store.record()
    assert record.token is not None
    assert record.token.refresh_token == server.good
    await clock.advance(200.0)
    assert not server.replays
    assert all([await worker.use() for worker in workers])
    await end(workers)


@virtual
async def test_a_login_after_a_flush(clock):
    """K3: who logs in where the store was flushed is not overwritten by peers that remember later versions."""
    store, server, workers = fleet(clock, 3, rotating=True)
    await start(workers)
    assert all([await worker.use() for worker in workers])
    await workers[0].manager.refresh()
    await clock.advance(1.0)
    await store.flush_unheard()
    late = Worker("late", store, server)
    await start([late])
    now, issued = clock.time(), server.issued
    server.good = "rt-login"
    login = Token("login", issued_at=now, expires_at=now + 60.0, refresh_token="rt-login")
    await late.manager.put(login)
    await clock.advance(1.0)
    assert [worker.manager.peek() for worker in (*workers, late)] == [login] * 4
    # The running flight did not refresh the token that was put after its start.
    assert server.issued == issued
    await clock.advance(200.0)
    assert all([await worker.use() for worker in (*workers, late)])
    assert not server.replays
    await end([*workers, late])


@virtual
async def test_unpersisted(clock):
    """K1: a token that the store did not keep is served, marked, and offered again; it is never fetched again."""
    store, server, (one, two) = fleet(clock, 2, rotating=True)
    told: list[events.Event] = []
    one.manager._life.observers._observers = (told.append,)
    await start([one])
    await one.use()

    write = store.call

    async def refusing(operation, *args):
        if operation == "commit":
            raise OSError("disk full")
        return await write(operation, *args)

    store.call = refusing
    token = await one.manager.refresh()
    assert one.manager.peek() is token
    assert not one.manager.snapshot().keys[None].kept
    assert [type(event) for event in told if isinstance(event, events.TokenUnpersisted)] == [events.TokenUnpersisted]
    issued = server.issued
    await clock.advance(12.0)
    store.call = write
    await clock.advance(8.0)
    assert one.manager.snapshot().keys[None].kept
    assert server.issued == issued
    await start([two])
    assert await two.use() == token
    assert not server.replays
    await end([one, two])


@virtual
async def test_expired_while_it_was_being_kept(clock):
    """R3, K3: if an unkept token expires while it is offered again, callers get the next token, and no failure."""
    store, server, (one,) = fleet(clock, 1, lifetime=12.0)
    await start([one])
    await one.use()
    call, slow = store.call, False

    async def failing(operation, *args):
        if operation == "commit" and not slow:
            raise OSError("disk full")
        if operation == "commit":
            await asyncio.sleep(4.5)
        return await call(operation, *args)

    store.call = failing
    token = await one.manager.refresh()
    assert not one.manager.snapshot().keys[None].kept
    slow = True
    while clock.time() < token.expires_at:
        await clock.advance(0.1)
    assert await one.use() not in {token, None}, one.errors
    assert server.issued == 3
    await end([one])


@virtual
async def test_signed_out_everywhere(clock):
    """K3: revoke() takes the token out of service at every peer at once, and get() says so until somebody logs in."""
    store, server, workers = fleet(clock, 3)
    await start(workers)
    assert all([await worker.use() for worker in workers])
    await workers[0].manager.revoke()
    await clock.advance(0.1)
    for worker in workers:
        assert worker.manager.peek() is None
        with pytest.raises(GrantRejected, match="signed out"):
            await worker.manager.get()
    late = Worker("late", store, server)
    await start([late])
    with pytest.raises(GrantRejected, match="signed out"):
        await late.manager.get()
    await clock.advance(400.0)
    assert server.issued == 1
    now = clock.time()
    login = Token("login", issued_at=now, expires_at=now + 60.0)
    await workers[1].manager.put(login)
    await clock.advance(0.1)
    assert [worker.manager.peek() for worker in (*workers, late)] == [login] * 4
    await end([*workers, late])


@virtual
async def test_refresh_after_signing_out(clock):
    """K3: refresh() begins anew where a key was signed out, and peers follow."""
    _store, _server, (one, two) = fleet(clock, 2)
    await start([one, two])
    await two.use()
    await one.manager.revoke()
    await clock.advance(0.1)
    token = await two.manager.refresh()
    await clock.advance(0.1)
    assert one.manager.peek() == two.manager.peek() == token
    await end([one, two])


@pytest.mark.asyncio(loop_factories=["virtual"])
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("habit", ["mint", "hold", "reject"])
async def test_random_lives(clock, monkeypatch, seed, habit):
    """
    K1-K4: members die, stop or are cut off in any order: each fence has one holder, and no saved token is replayed.
    """
    draw = random.Random(f"{seed} {habit}")
    # The jitter of each worker, which has to be the same when a life is lived again.
    monkeypatch.setattr("os.urandom", draw.randbytes)
    rotating = habit != "mint"
    store, server, workers = fleet(
        clock, 4, rotating=rotating, lifetime=draw.choice([8.0, 60.0]), on_ambiguous=habit if rotating else None
    )
    await start(workers)
    for _ in range(120):
        running = [worker for worker in workers if worker.state != "dead"]
        if not running:
            break
        worker = draw.choice(running)
        match draw.randrange(12):
            case 0 if len(running) > 2:
                worker.dies_at = (draw.choice(EVERYWHERE), draw.randint(1, 3))
            case 1:
                worker.stops_at = draw.choice(EVERYWHERE)
            case 2:
                worker.resume()
            case 3:
                store.down = not store.down
            case 4:
                server.down = draw.random() < 0.3
            case 5:
                store.notices = not store.notices
            case 6 if len(workers) < 8:
                new = Worker(f"w{len(workers)}", store, server, on_ambiguous=worker.on_ambiguous)
                workers.append(new)
                await start([new])
            case 7 if not rotating:
                store.flush()
            case 8:
                server.latency = draw.choice([0.0, 0.3, 3.0])
            case _:
                pass
        if draw.random() < 0.3:
            asking = asyncio.ensure_future(worker.use())
            await asyncio.sleep(0)
            if draw.random() < 0.5:
                asking.cancel()
        await clock.advance(draw.choice([0.0, 0.1, 1.0, 7.0, 20.0]))
        for spent, kept in server.replays:
            assert not kept, f"{spent} was presented again though its successor was saved"
        if habit == "reject":
            assert not server.replays
    store.down, server.down, store.notices = False, False, True
    for worker in workers:
        worker.resume()
        worker.dies_at = worker.stops_at = None
    await clock.advance(700.0)
    living = [worker for worker in workers if worker.state == "running"]
    tokens = [await worker.use() for worker in living]
    if habit == "mint" or (habit == "hold" and not server.replays):
        assert all(tokens), [(worker.name, worker.errors[-1:], worker.manager.snapshot()) for worker in living]
    await end(workers)
