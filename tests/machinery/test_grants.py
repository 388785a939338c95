"""The life of grants in a store: put, imported, kept alive without being opened, told of on a status page."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from typing import Any

import pytest
from tests.gated import virtual
from tests.machinery.scripted import Recorder

from evertoken import (
    FetchRequest,
    Grant,
    GrantRejected,
    KeepAlivePolicy,
    ManagerClosed,
    Token,
    TokenError,
    TokenManager,
    TransientRefreshError,
)
from evertoken._model.events import FetchStarted, GrantExpiring, KeyEvicted, KeyOpened, RefreshFailed, RefreshRejected
from evertoken._model.protocols import Lease
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])

DAY = 86_400.0
#: After so long a grant that nobody uses dies.
IDLE = DAY / 4.0


class Provider:
    """Rotates refresh tokens, rejects those of the dead, and knows when each grant was used."""

    def __init__(self, clock, *, rotates=True):
        self.clock = clock
        self.rotates = rotates
        self.used = {}
        self.presented = []
        self.dead = set()
        self.down = False
        self.code = "invalid_grant"
        self.extra = {}
        self.idle_lifetime = None
        #: Called when a refresh token was spent, before the answer is there.
        self.after = lambda: None

    def source(self, key):
        return Source(self, key)

    def times(self, key):
        return list(self.used.get(key, []))


class Source:
    identity = "provider"

    def __init__(self, provider, key):
        self.provider, self.key = provider, key
        self.rotates = provider.rotates
        self.idle_lifetime = provider.idle_lifetime

    async def fetch(self, request: FetchRequest, /):
        provider, current = self.provider, request.current
        if current is None or current.refresh_token is None:
            raise GrantRejected("login_required")
        if provider.down:
            raise TransientRefreshError("down")
        request.sending()
        await asyncio.sleep(0.01)
        provider.used.setdefault(self.key, []).append(provider.clock.time())
        if self.key in provider.dead:
            raise GrantRejected(provider.code)
        provider.presented.append(current.refresh_token)
        provider.after()
        assert not provider.rotates or provider.presented.count(current.refresh_token) == 1, "presented twice"
        following = f"{self.key}-{len(provider.used[self.key])}" if provider.rotates else current.refresh_token
        return {"access_token": f"a-{self.key}", "expires_in": 3600, "refresh_token": following, **provider.extra}


@pytest.fixture
def provider(clock):
    return Provider(clock)


def manager(provider, store, **options):
    return TokenManager(source_for=provider.source, store=store, clock=provider.clock, **options)


def grants(count, **fields):
    return ((key, Grant(f"first-{key}", **fields)) for key in range(count))


# Its status


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
async def test_the_status_of_a_key_in_an_outage(clock, provider, shared):
    """L2: a key counts as failing once its token has expired, and no earlier, or while it has none."""
    async with manager(provider, MemoryStore(clock=clock) if shared else None) as tokens:
        await tokens.put(Token("a", issued_at=clock.time(), expires_at=clock.time() + 600.0, refresh_token="r"), "k")
        await tokens.put(Grant("g"), "new")
        provider.down = True
        for key in ("k", "new"):
            with pytest.raises(TokenError):
                await tokens.refresh(key)
        assert (await tokens.status("k")).status == "connected"
        new = await tokens.status("new")
        assert (new.status, new.since) == ("failing", None)
        assert "down" in str(new.reason)
        expired_at = clock.time() + 600.0
        await clock.advance(700.0)
        failing = await tokens.status("k")
        assert (failing.status, failing.since) == ("failing", pytest.approx(expired_at, abs=1.0))
        assert "down" in str(failing.reason)


# A grant that is put


@virtual
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("before", ["nothing", "valid", "signed out", "rejected"])
async def test_a_grant_that_is_put_is_presented_next(clock, provider, shared, before):
    """K6: a refresh token alone is a new login, after any earlier state, with a store and without."""
    store = MemoryStore(clock=clock) if shared else None
    async with manager(provider, store) as tokens:
        if before != "nothing":
            await tokens.put(Grant("old"), "k")
            await tokens.get("k")
        if before == "signed out":
            await tokens.revoke("k")
        if before == "rejected":
            provider.dead.add("k")
            with contextlib.suppress(TokenError):
                await tokens.refresh("k")
            assert (await tokens.status("k")).status == "needs_reconnect"
            provider.dead.clear()
        await tokens.put(Grant("new", scope="a"), "k")
        token = await tokens.get("k")
        assert (token.access_token, token.scope) == ("a-k", "a")
        assert provider.presented[-1] == "new"
        assert (await tokens.status("k")).status == "connected"
    if store is not None:
        async with manager(provider, store) as tokens:
            assert await tokens.get("k") == token


@virtual
async def test_a_grant_that_is_put_while_the_old_one_is_refreshed_wins(clock, provider):
    """K6: the answer to a refresh of the login before does not come back over the new one."""
    async with manager(provider, MemoryStore(clock=clock)) as tokens:
        await tokens.put(Grant("old"), "k")
        await tokens.get("k")
        refreshing = asyncio.ensure_future(tokens.refresh("k"))
        await asyncio.sleep(0.005)
        await tokens.put(Grant("new"), "k")
        await asyncio.gather(refreshing, return_exceptions=True)
        await clock.advance(10.0)
        await tokens.get("k")
        assert provider.presented[-1] == "new"


# A grant to begin with


@virtual
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("keyed", ["one", "mapping", "source_for"])
@pytest.mark.parametrize("kind", ["grant", "token"])
async def test_an_initial_token_is_used(clock, provider, shared, keyed, kind):
    """K6: what the configuration brings is in service, or presented, from the first get() on, and is kept."""
    store = MemoryStore(clock=clock) if shared else None
    now = clock.time()
    given = Token("given", issued_at=now, expires_at=now + 600.0, refresh_token="r") if kind == "token" else Grant("r")
    key = None if keyed == "one" else "k"
    options = {"store": store, "clock": clock, "initial": given if key is None else {"k": given}}
    source = provider.source(key)
    tokens = (
        TokenManager(source_for=provider.source, **options)
        if keyed == "source_for"
        else TokenManager(source if key is None else {"k": source}, **options)
    )
    async with tokens:
        assert (await tokens.get(key)).access_token == ("given" if kind == "token" else f"a-{key}")
        await clock.advance(1.0)
        assert provider.presented == ([] if kind == "token" else ["r"])
        if store is not None:
            assert len(store) == 1
        await clock.advance(600.0)
        await tokens.get(key)
    assert provider.presented[0] == "r"


@virtual
async def test_a_record_that_descends_from_the_initial_token_wins(clock, provider):
    """K1, K6: the refresh token of the configuration is spent; after a restart the one of the store is presented."""
    store = MemoryStore(clock=clock)
    options = {"initial": {"k": Grant("first")}}
    for _ in range(3):
        async with manager(provider, store, **options) as tokens:
            await tokens.get("k")
            await clock.advance(4000.0)
            await tokens.refresh("k")
    assert provider.presented[0] == "first"
    assert provider.presented.count("first") == 1
    assert len(set(provider.presented)) == len(provider.presented)


@virtual
async def test_another_initial_token_is_a_new_login(clock, provider):
    """K6: the configuration brings another refresh token than the one the record descends from: it is presented."""
    store = MemoryStore(clock=clock)
    async with manager(provider, store, initial={"k": Grant("first")}) as tokens:
        await tokens.get("k")
    for _ in range(2):
        async with manager(provider, store, initial={"k": Grant("second")}) as tokens:
            await tokens.refresh("k")
    assert provider.presented[:2] == ["first", "second"]
    assert provider.presented.count("second") == 1


@virtual
async def test_a_sign_out_outlives_an_initial_token(clock, provider):
    """K6: a restart with the same configuration does not sign a customer in again."""
    store = MemoryStore(clock=clock)
    for at in range(2):
        async with manager(provider, store, initial={"k": Grant("first")}) as tokens:
            if at == 0:
                await tokens.get("k")
                await tokens.revoke("k")
            with pytest.raises(GrantRejected):
                await tokens.get("k")
    assert provider.presented == ["first"]


@pytest.mark.parametrize(
    ("keyed", "initial", "error"),
    [
        (False, {"k": Grant("secret")}, TypeError),
        (True, Grant("secret"), TypeError),
        (True, {"other": Grant("secret")}, ValueError),
        (True, {"k": "secret"}, TypeError),
        (False, "secret", TypeError),
    ],
)
def test_an_initial_token_that_fits_nothing(keyed, initial, error):
    """S1: the message names the mistake, without the secret."""

    async def login():
        return "token", 3600

    with pytest.raises(error, match="initial") as caught:
        TokenManager({"k": login} if keyed else login, initial=initial)
    assert "secret" not in str(caught.value)


# Import


async def asynchronous(pairs):
    for pair in pairs:
        await asyncio.sleep(0)
        yield pair


@virtual
@pytest.mark.parametrize("count", [0, 1, 499, 1203])
@pytest.mark.parametrize("how", ["async", "iterator", "mapping"])
async def test_an_import_opens_no_key(clock, provider, count, how):
    """L2: any number of grants of any iterable is written, no key is opened, and a second import keeps them."""
    store, recorder = MemoryStore(clock=clock), Recorder()
    async with manager(provider, store, observers=[recorder]) as tokens:
        given = {"async": asynchronous(grants(count)), "iterator": grants(count), "mapping": dict(grants(count))}[how]
        result = await tokens.import_grants(given)
        assert (result.imported, result.kept, result.failed) == (count, 0, ())
        again = await tokens.import_grants(grants(count))
        assert (again.imported, again.kept) == (0, count)
        assert not tokens.snapshot().keys
        assert not recorder.of(KeyOpened)
        assert provider.presented == []
        if count:
            assert (await tokens.status(0)).status == "connected"
            await tokens.get(count - 1)
            assert provider.presented == [f"first-{count - 1}"]


@virtual
@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("existing", ["keep", "replace"])
@pytest.mark.parametrize("open_", [True, False])
@pytest.mark.parametrize("before", ["nothing", "token", "signed out"])
async def test_what_an_import_does_to_what_is_there(clock, provider, before, open_, existing, many):
    """K6: it is kept, a sign-out included, or replaced by a new login, whether the key is open or not."""
    store = MemoryStore(clock=clock)
    shared = store if many else OneByOne(store)
    async with manager(provider, shared) as tokens:
        if before != "nothing":
            await tokens.put(Grant("old"), "k")
            await tokens.get("k")
        if before == "signed out":
            await tokens.revoke("k")
    async with manager(provider, shared) as tokens:
        if open_:
            with contextlib.suppress(TokenError):
                await tokens.get("k")
        result = await tokens.import_grants([("k", Grant("new"))], existing=existing)
        replaced = before == "nothing" or existing == "replace"
        assert (result.imported, result.kept, result.failed) == ((1, 0, ()) if replaced else (0, 1, ()))
        await clock.advance(400.0)
        with contextlib.suppress(TokenError):
            await tokens.refresh("k") if before != "signed out" else await tokens.get("k")
        assert ("new" in provider.presented) is replaced
        assert ((await tokens.status("k")).status == "signed_out") is (before == "signed out" and not replaced)


class OneByOne:
    """A store that takes no records at once, may be down, and has leases that somebody holds."""

    def __init__(self, inner):
        self.inner = inner
        self.down = False

    def __getattr__(self, name):
        if name == "add_many":
            raise AttributeError(name)
        found: Any = getattr(self.inner, name)
        if name in {"watch", "keys"} or not callable(found):
            return found

        async def call(*arguments):
            if self.down:
                raise ConnectionError("down")
            return await found(*arguments)

        return call


@plain
async def test_each_failure_of_an_import_is_told_with_its_key(clock, provider):
    """S1: a mistake in one row costs that row; nothing that is told is secret."""

    def source_for(key):
        if key == "unmade":
            raise RuntimeError("no such tenant")
        return provider.source(key)

    rows = [
        ("good", Grant("secret-1")),
        ("wrong", "secret-2"),
        (b"bytes", Grant("secret-3")),
        ("\ud800", Grant("secret-4")),
        ("unmade", Grant("secret-5")),
        (None, Grant("secret-6")),
        (["list"], Grant("secret-7")),
        ("good too", Token("secret-8", issued_at=0.0)),
    ]
    async with TokenManager(source_for=source_for, store=MemoryStore(clock=clock), clock=clock) as tokens:
        result = await tokens.import_grants(rows)
    assert result.imported == 2
    assert [key for key, _ in result.failed] == ["wrong", b"bytes", "\ud800", "unmade", None, ["list"]]
    assert all(reason for _, reason in result.failed)
    assert "secret" not in repr(result.failed)


@plain
async def test_an_import_into_a_store_that_is_down_stops(clock, provider):
    """K3: the rest is not tried against a store that is down, and can be imported again."""
    store = OneByOne(MemoryStore(clock=clock))
    async with manager(provider, store) as tokens:
        await tokens.import_grants(grants(3))
        store.down = True
        with pytest.raises(TransientRefreshError, match="in a row"):
            await tokens.import_grants(grants(5000))
        store.down = False
        result = await tokens.import_grants(grants(5000))
        assert (result.imported, result.kept) == (4997, 3)


@plain
async def test_an_import_waits_for_the_lease_of_a_fetch(clock, provider):
    """K2, K6: a key that is being refreshed elsewhere is written afterwards; its refresh token is presented once."""
    store = MemoryStore(clock=clock)
    async with manager(provider, store) as tokens, manager(provider, store) as peer:
        await peer.put(Grant("old"), "k")
        refreshing = asyncio.ensure_future(peer.refresh("k"))
        await asyncio.sleep(0.005)
        result = await tokens.import_grants([("k", Grant("new"))], existing="replace")
        assert result.imported == 1
        await asyncio.gather(refreshing, return_exceptions=True)
        await clock.advance(5.0)
        await tokens.get("k")
        await peer.get("k")
    assert provider.presented[-1] == "new"


@plain
async def test_an_import_into_an_empty_store_costs_few_steps(clock, provider):
    """K3: a store that can write many records at once is asked once for many grants, and takes no lease for any."""
    steps = Counter()

    class Counting(MemoryStore):  # type: ignore[misc]  # final for users
        async def add_many(self, records, /):
            steps["add_many"] += 1
            return await super().add_many(records)

        async def begin(self, *arguments, **named):
            steps["begin"] += 1
            return await super().begin(*arguments, **named)

    async with manager(provider, Counting(clock=clock)) as tokens:
        result = await tokens.import_grants(grants(1000))
    assert result.imported == 1000
    assert 1 <= steps["add_many"] <= 10
    assert steps["begin"] == 0


@plain
async def test_an_import_goes_on_soon_after_the_lease_is_free(clock, provider):
    """K2: an import that waits for a lease looks at it four times a second, and not only when it would expire."""
    store = MemoryStore(clock=clock)
    async with manager(provider, store) as tokens:
        await tokens.import_grants(grants(1))
        (name,) = [one async for one in store.keys()]  # noqa: SIM118 - it is no mapping
        held = (await store.begin(name, "somebody", 9.0)).lease
        assert isinstance(held, Lease)
        importing = asyncio.ensure_future(tokens.import_grants([(0, Grant("new"))], existing="replace"))
        await clock.advance(0.9)
        assert not importing.done()
        await store.abandon(held)
        await clock.advance(0.3)
        assert importing.done()
        assert (await importing).imported == 1


@plain
@pytest.mark.parametrize("by", ["who imported it", "a peer"])
async def test_a_sign_out_at_the_instant_of_the_import_holds(clock, provider, by):
    """K6: on a coarse clock, the sign-out and the login have the same instant. The later call wins."""
    store = MemoryStore(clock=clock)
    async with manager(provider, store) as tokens, manager(provider, store) as peer:
        await tokens.import_grants(grants(1))
        await (tokens if by == "who imported it" else peer).revoke(0)
        for one in (tokens, peer):
            with pytest.raises(GrantRejected):
                await one.get(0)
            assert (await one.status(0)).status == "signed_out"
    async with manager(provider, store, keep_alive=IDLE) as tokens:
        await clock.advance(2.0 * IDLE)
        assert (await tokens.status(0)).status == "signed_out"
    assert provider.presented == []


@plain
@pytest.mark.parametrize(
    ("shared", "existing", "error"), [(False, "keep", "needs a store"), (True, "update", "existing must be")]
)
async def test_an_import_that_cannot_be(clock, provider, shared, existing, error):
    """L2: it names the missing part."""
    async with manager(provider, MemoryStore(clock=clock) if shared else None) as tokens:
        with pytest.raises(ValueError, match=error):
            await tokens.import_grants(grants(1), existing=existing)
    if shared:
        with pytest.raises(ManagerClosed):
            await tokens.import_grants(grants(1))


# Keep alive


@plain
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(
    ("policy", "extra", "idle"),
    [
        (IDLE, {}, None),
        (KeepAlivePolicy(idle=IDLE), {}, None),
        (KeepAlivePolicy(), {}, IDLE),
        (KeepAlivePolicy(), {"refresh_expires_in": IDLE}, IDLE),
        # A setting of the manager overrides the known behaviour of the provider.
        (IDLE, {}, 30.0 * IDLE),
    ],
)
async def test_grants_that_nobody_uses_are_kept_alive(clock, provider, members, policy, extra, idle):
    """K2: each grant is used before it dies of idleness, once, by one member, and no key stays open."""
    provider.extra, provider.idle_lifetime = extra, idle
    store, count = MemoryStore(clock=clock), 40
    async with contextlib.AsyncExitStack() as stack:
        fleet = [await stack.enter_async_context(manager(provider, store, keep_alive=policy)) for _ in range(members)]
        await fleet[0].import_grants(grants(count))
        began = clock.time()
        for _ in range(30):
            await clock.advance(IDLE / 10.0)
            assert all(tokens.health().ready for tokens in fleet)
        while any(tokens.snapshot().keys for tokens in fleet):
            await clock.advance(0.5)
            assert clock.time() < began + 3.1 * IDLE
        for key in range(count):
            times = [began, *provider.times(key)]
            gaps = [(later - before) / IDLE for before, later in itertools.pairwise(times)]
            assert 0.69 < min(gaps) <= max(gaps) < 0.9
            assert len(gaps) in {3, 4}
        # They spread out: no moment has all of them.
        assert max(Counter(round(provider.times(key)[0] / IDLE * 100.0) for key in range(count)).values()) < count // 2


@plain
async def test_a_dead_grant_is_told_once_and_not_asked_for_again(clock, provider):
    """F4: one loud event each; a restart, and a peer, know from the record that it is dead."""
    store, recorder = MemoryStore(clock=clock), Recorder()
    provider.dead.update({3, 4})
    for _ in range(2):
        async with manager(provider, store, keep_alive=IDLE, observers=[recorder]) as tokens:
            await tokens.import_grants(grants(10))
            await clock.advance(2.5 * IDLE)
            for key in range(10):
                status = await tokens.status(key)
                assert status.status == ("needs_reconnect" if key in provider.dead else "connected")
            assert (await tokens.status(3)).since == pytest.approx(provider.times(3)[0], abs=1.0)
            assert tokens.health().ready
            assert not tokens.health().rejected
    assert sorted(event.key for event in recorder.of(RefreshRejected)) == [3, 4]
    assert len(provider.times(3)) == len(provider.times(4)) == 1
    async with manager(provider, store, keep_alive=IDLE) as tokens:
        provider.dead.clear()
        await tokens.put(Grant("again"), 3)
        await tokens.get(3)
        assert (await tokens.status(3)).status == "connected"
        await tokens.forget(3)
        await clock.advance(3.0 * IDLE)
        assert len(provider.times(3)) > 3


@plain
@pytest.mark.parametrize("code", ["invalid_client", "down"])
async def test_trouble_with_the_provider_ends_a_pass(clock, provider, code):
    """F8: a wrong secret, or an outage, is not tried with every grant, kills none, and is over when it is over."""
    store, recorder = MemoryStore(clock=clock), Recorder()
    async with manager(provider, store, keep_alive=IDLE, observers=[recorder]) as tokens:
        await tokens.import_grants(grants(300, issued_at=clock.time() - 0.95 * IDLE))
        if code == "down":
            provider.down = True
        else:
            provider.code = code
            provider.dead.update(range(300))
        await clock.advance(DAY)
        assert len(recorder.of(RefreshFailed)) + len(recorder.of(RefreshRejected)) <= 5 * 16
        provider.down = False
        provider.dead.clear()
        await clock.advance(DAY)
        assert {(await tokens.status(key)).status for key in range(300)} == {"connected"}
        assert all(provider.times(key) for key in range(300))


@plain
@pytest.mark.parametrize("use", ["get", "peek", "subscribe", "nothing"])
async def test_a_key_that_somebody_opens_meanwhile_stays_open(clock, provider, use):
    """K2, R3: a caller joins the refresh that keeps a grant alive, and the key is then his."""
    store = MemoryStore(clock=clock)
    async with manager(provider, store, keep_alive=IDLE, idle_after=None) as tokens:
        await tokens.import_grants(grants(1, issued_at=clock.time() - 0.95 * IDLE))
        while not tokens.snapshot().keys:
            await asyncio.sleep(0.002)
        readers = [tokens.subscribe(0)] if use == "subscribe" else []
        if use == "get":
            assert (await tokens.get(0)).access_token == "a-0"
        elif use == "peek":
            await asyncio.sleep(0.002)
            tokens.peek(0)
        await clock.advance(1.0)
        assert list(tokens.snapshot().keys) == ([] if use == "nothing" else [0])
        assert provider.presented == ["first-0"]
        del readers


@plain
async def test_an_answer_that_the_store_did_not_keep_is_not_lost(clock, provider):
    """K1: the store fails right after the refresh: the key stays open until the new refresh token is kept."""
    store = OneByOne(MemoryStore(clock=clock))
    async with manager(provider, store, keep_alive=IDLE) as tokens:
        await tokens.import_grants(grants(1, issued_at=clock.time() - 0.95 * IDLE))
        provider.after = lambda: setattr(store, "down", True)
        await clock.advance(80.0)
        provider.after = lambda: None
        assert not tokens.snapshot(0).kept
        store.down = False
        await clock.advance(20.0)
        assert tokens.snapshot(0).kept
    async with manager(provider, store) as tokens:
        await tokens.get(0)
        await tokens.refresh(0)
    assert provider.presented == ["first-0", "0-1"]


@plain
async def test_only_what_is_ours_is_touched(clock, provider):
    """K5: another namespace, another identity, a key without a source, and an invalid key stay as they are."""
    store = MemoryStore(clock=clock)

    class Other(Source):
        identity = "another"

    def ours(key):
        if key == 2:
            raise LookupError("gone")
        return provider.source(key)

    old = {"issued_at": clock.time() - 0.95 * IDLE}
    async with manager(provider, store, namespace="other") as tokens:
        await tokens.import_grants(grants(3, **old))
    async with TokenManager(source_for=lambda key: Other(provider, key), store=store, clock=clock) as tokens:
        await tokens.import_grants([(7, Grant("theirs", **old))])
    async with manager(provider, store) as tokens:
        await tokens.import_grants(grants(3, **old))
    await store.add_many([_record("no JSON"), _record("[1]"), _record('["",{"a":1}]')])
    async with TokenManager(source_for=ours, store=store, clock=clock, keep_alive=IDLE) as tokens:
        await clock.advance(DAY)
        assert sorted(provider.used) == [0, 1]
        assert not tokens.snapshot().keys


def _record(name):
    from evertoken import Record  # noqa: PLC0415 - for this one

    return Record(name, 1, Token("", issued_at=0.0, expires_at=0.0, refresh_token="r"))


@plain
async def test_a_grant_with_a_fixed_end_is_announced(clock, provider):
    """L2: no refresh puts its death off, so it is not refreshed for that, and is told once."""
    store, recorder = MemoryStore(clock=clock), Recorder()
    now = clock.time()
    async with manager(provider, store, keep_alive=KeepAlivePolicy(), observers=[recorder]) as tokens:
        held = Token(
            "a",
            issued_at=now,
            expires_at=now + 3600.0,
            refresh_token="r",
            extra={"refresh_token_expires_at": now + 10.0 * DAY, "refresh_token_issued_at": now - 20.0 * DAY},
        )
        await tokens.import_grants([("k", held)])
        await clock.advance(9.0 * DAY)
        assert [event.key for event in recorder.of(GrantExpiring)] == ["k"]
        assert (await tokens.status("k")).status == "expiring"
        assert provider.presented == []


@plain
async def test_no_event_of_opening_tells_of_keeping_alive(clock, provider):
    """L2: the reason of the fetch says why it was made."""
    store, recorder = MemoryStore(clock=clock), Recorder()
    async with manager(provider, store, keep_alive=IDLE, observers=[recorder]) as tokens:
        await tokens.import_grants(grants(5))
        await clock.advance(IDLE)
    assert [event.reason for event in recorder.of(FetchStarted)] == ["keep_alive"] * 5
    assert not recorder.of(KeyOpened)
    assert not recorder.of(KeyEvicted)


@pytest.mark.parametrize(
    ("keep_alive", "listed", "error"),
    [
        (0.0, True, "keep_alive"),
        (-5, True, "keep_alive"),
        ("30d", True, "keep_alive"),
        (DAY, False, "lists its keys"),
        (DAY, None, "lists its keys"),
    ],
)
def test_keep_alive_that_cannot_be(provider, keep_alive, listed, error):
    """L2: it needs a number of seconds, or a policy, and a store that can be gone through."""
    store: Any = MemoryStore() if listed else None if listed is None else Unlisted()
    with pytest.raises(ValueError, match=error):
        TokenManager(source_for=provider.source, store=store, keep_alive=keep_alive)


class Unlisted:
    async def read(self, key): ...
    async def begin(self, key, owner, ttl): ...
    async def mark(self, record, lease): ...
    async def commit(self, record, lease): ...
    async def abandon(self, lease): ...
    async def renew(self, lease, ttl): ...


@plain
async def test_a_month_of_ten_thousand_grants(clock, provider):
    """F6, K2: 10,000 imported, 200 dead, 50 signed out: each used as its idle deadline needs; the figures are right."""
    store, recorder = MemoryStore(clock=clock), Recorder()
    count, dead, out = 10_000, set(range(200)), set(range(200, 250))
    provider.dead = dead
    async with manager(provider, store, keep_alive=30.0 * DAY, observers=[recorder]) as tokens:
        assert (await tokens.import_grants(grants(count))).imported == count
        for key in out:
            await tokens.revoke(key)
            await tokens.forget(key)
        for _ in range(30):
            await clock.advance(DAY)
            health = tokens.health()
            assert health.alive
            assert health.ready
            assert not health.degraded
        assert {len(provider.times(key)) for key in range(count) if key not in out} == {1}
        assert not out & set(provider.used)
        figures = Counter([(await tokens.status(key)).status for key in range(count)])
        assert figures == {"connected": count - 250, "needs_reconnect": 200, "signed_out": 50}
        assert sorted(event.key for event in recorder.of(RefreshRejected)) == sorted(dead)
        assert len(tokens.snapshot().keys) <= len(out)


@plain
async def test_a_close_ends_a_pass_that_hangs(clock, provider):
    """L1: a pass over the grants of a store that does not answer ends with the manager, and leaves no task behind."""

    class Hanging(MemoryStore):  # type: ignore[misc]  # final for users
        async def keys(self):
            await asyncio.Event().wait()
            yield ""

    before = asyncio.all_tasks()
    async with manager(provider, Hanging(clock=clock), keep_alive=IDLE):
        for _ in range(600):
            await clock.advance(1.0)
            if "evertoken:keep-alive" in {task.get_name() for task in asyncio.all_tasks()}:
                break
        else:
            pytest.fail("no pass has begun")
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
