"""HookStore: a program keeps its tokens where it always did, through two functions."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from evertoken import Begun, Held, Lease, Record, Token, TokenManager
from evertoken.events import StoreFailed
from evertoken.sources import RefreshToken
from evertoken.stores import HookStore, UnreadableRecord
from evertoken.testing import ManualClock, TokenServer
from evertoken.testing.conformance import StoreConformance


class Kept(dict[Any, str]):
    """The storage of a program, as text. It may fail, and counts its calls."""

    failing = 0
    passing = 0

    def load(self, key: Any) -> Any:
        return json.loads(self[key]) if key in self else None

    async def aload(self, key: Any) -> Any:
        await asyncio.sleep(0)
        return self.load(key)

    def save(self, key: Any, data: dict[str, Any]) -> None:
        if self.passing:
            self.passing -= 1
        elif self.failing:
            self.failing -= 1
            raise OSError("the disk is full")
        self[key] = json.dumps(data)

    async def asave(self, key: Any, data: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.save(key, data)


class TestHooks(StoreConformance):
    """Async functions, and all that they are given is kept."""

    @pytest.fixture(autouse=True)
    def place(self) -> None:
        kept = Kept()
        self.store = HookStore(kept.aload, kept.asave)

    async def make(self) -> HookStore:
        return self.store

    async def set_lease(self, key: str, seconds: float) -> None:
        known = self.store._keys[key]
        known.ends_at = self.store._clock.monotonic() + seconds


class TestPlainHooks(TestHooks):
    """Plain functions, in threads."""

    @pytest.fixture(autouse=True)
    def place(self) -> None:
        kept = Kept()
        self.store = HookStore(kept.load, kept.save)


NAME = '["app",null]'


async def login(server: TokenServer, store: HookStore, **options: Any) -> TokenManager[Any, None]:
    return TokenManager(server.refresh_token(), store=store, namespace="app", **options)


async def test_a_token_is_saved_before_it_is_used():
    """K1: by the time a caller has a token it is kept, with its refresh token, in fields that a program can read."""
    kept = Kept()
    async with TokenServer(lifetime=60.0, rotate=True) as server:
        async with await login(server, HookStore(kept.load, kept.save)) as tokens:
            token = await tokens.get()
            data = json.loads(kept[None])
            assert (data["access_token"], data["refresh_token"]) == (token.access_token, token.refresh_token)
            assert data["expires_at"] == token.expires_at
            assert data["token_type"] == "Bearer"
            assert token.access_token not in json.dumps(data["evertoken"])
            assert token.refresh_token not in json.dumps(data["evertoken"])
        async with await login(server, HookStore(kept.aload, kept.asave)) as tokens:
            assert await tokens.get() == token
        assert server.stats.token_requests == 1


async def test_a_save_that_fails_loses_nothing():
    """K1: a rotated refresh token that could not be saved is offered until it is, and is the next one presented."""
    kept, failures = Kept(), []

    def observe(event: object) -> None:
        if isinstance(event, StoreFailed):
            failures.append(event)

    async with TokenServer(lifetime=3600.0, rotate=True, reuse_revokes_family=True) as server:
        async with await login(server, HookStore(kept.load, kept.save), observers=[observe]) as tokens:
            await tokens.get()
            # The mark is kept, and the answer is not.
            kept.passing, kept.failing = 1, 20
            newer = await tokens.refresh()
            assert json.loads(kept[None])["access_token"] != newer.access_token
            assert "the disk is full" in failures[0].error
            kept.failing = 0
            async with asyncio.timeout(20.0):
                while json.loads(kept[None])["access_token"] != newer.access_token:
                    await asyncio.sleep(0.02)
            assert (await tokens.refresh()) != newer
        assert server.stats.replays == 0


async def test_what_a_program_had_before_is_a_grant():
    """K6: a token as a program kept it until now, in plain fields or as a Token, is served and then refreshed."""
    async with TokenServer(lifetime=60.0) as server:
        for known in (
            {"access_token": "old", "refresh_token": server.issue_grant(), "expires_at": 4e9, "expires_in": 5},
            Token("old", refresh_token=server.issue_grant(), issued_at=1.0, expires_at=4e9),
            {"refresh_token": server.issue_grant()},
        ):
            saved: list[dict[str, Any]] = []

            def save(key: Any, data: dict[str, Any], saved: Any = saved) -> None:
                saved.append(data)

            def load(key: Any, known: Any = known, saved: Any = saved) -> Any:
                # A program that keeps the fields which it knows, and drops the rest.
                return {name: saved[-1][name] for name in ("access_token", "refresh_token")} if saved else known

            manager = TokenManager({7: RefreshToken(server.oauth_client())}, store=HookStore(load, save), namespace="a")
            async with manager as tokens:
                token = await tokens.get(7)
                if not isinstance(known, dict) or "access_token" in known:
                    assert token.access_token == "old"
                    token = await tokens.refresh(7)
                assert saved[-1]["access_token"] == token.access_token != "old"


async def test_a_program_logs_in_and_out_meanwhile():
    """K6: other tokens in the place are a login, which is adopted in the time that is set; empty ones a sign-out."""
    kept = Kept()
    async with TokenServer(lifetime=3600.0) as server:
        async with await login(server, HookStore(kept.load, kept.save), check_every=0.05) as tokens:
            await tokens.get()
            data = json.loads(kept[None])
            kept[None] = json.dumps({**data, "access_token": "of-a-login", "refresh_token": server.issue_grant()})
            async with asyncio.timeout(20.0):
                while tokens.peek() is None or tokens.peek().access_token != "of-a-login":
                    await asyncio.sleep(0.02)
            kept[None] = json.dumps({**json.loads(kept[None]), "access_token": None, "refresh_token": ""})
            async with asyncio.timeout(20.0):
                while tokens.peek() is not None:
                    await asyncio.sleep(0.02)


async def test_two_see_the_same_login():
    """K2: processes that notice a login each by themselves say the same of it, so that neither displaces the other."""
    kept = Kept()
    one, other = (HookStore(kept.load, kept.save, lock=lambda _: contextlib.nullcontext()) for _ in range(2))
    lease = (await one.begin(NAME, "me", 10.0)).lease
    assert await one.commit(Record(NAME, 4, Token("t", issued_at=1.0), since=50.0, generation=2), lease)
    kept[None] = json.dumps({**json.loads(kept[None]), "access_token": "of-a-login"})
    first, second = await one.read(NAME), await other.read(NAME)
    assert (first.since, first.generation, first.version) == (second.since, second.generation, second.version)
    assert first.since > 50.0
    lease = (await one.begin(NAME, "me", 10.0)).lease
    kept[None] = json.dumps({**json.loads(kept[None]), "access_token": "of-a-later-login"})
    assert not await one.commit(Record(NAME, 9, Token("fetched", issued_at=1.0), since=first.since), lease)
    assert json.loads(kept[None])["access_token"] == "of-a-later-login"


class Lock:
    """A lock of the program's, with the name of its holder."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.taken: list[Any] = []

    @contextlib.asynccontextmanager
    async def __call__(self, key: Any) -> Any:
        async with self.lock:
            self.taken.append(key)
            yield


async def test_a_lock_is_held_from_the_load_to_the_save():
    """K2: with a lock of the program's two processes fetch by turns; a holder that does not come back loses it."""
    kept, lock, clock = Kept(), Lock(), ManualClock()
    one, other = (HookStore(kept.load, kept.save, lock=lock, clock=clock) for _ in range(2))
    begun = await one.begin(NAME, "one", 10.0)
    waiting = asyncio.ensure_future(other.begin(NAME, "other", 10.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert await one.commit(Record(NAME, 1, Token("t", issued_at=1.0)), begun.lease)
    found: Begun = await waiting
    assert found.record is not None
    assert found.record.token.access_token == "t"
    # It is renewed once, and then nobody hears of it any more.
    await clock.advance(8.0)
    assert await other.renew(found.lease, 10.0)
    waiting = asyncio.ensure_future(one.begin(NAME, "one", 10.0))
    await clock.advance(3.0)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await clock.advance(8.0)
    assert isinstance((await waiting).lease, Lease)
    await one.abandon((await one.begin(NAME, "one", 10.0)).lease)
    assert not lock.lock.locked()


async def test_leases_are_of_one_process():
    """K2: without a lock a lease holds for those who use this store object, and another one knows nothing of it."""
    kept = Kept()
    store = HookStore(kept.load, kept.save)
    assert isinstance((await store.begin(NAME, "me", 10.0)).lease, Lease)
    assert isinstance((await store.begin(NAME, "other", 10.0)).lease, Held)
    assert isinstance((await HookStore(kept.load, kept.save).begin(NAME, "other", 10.0)).lease, Lease)


async def test_a_place_has_one_owner():
    """K5: a manager of another namespace or identity is refused, and overwrites nothing."""
    kept = Kept()
    store = HookStore(kept.load, kept.save)
    lease = (await store.begin(NAME, "me", 10.0)).lease
    assert await store.commit(Record(NAME, 1, Token("t", issued_at=1.0)), lease)
    for name in ('["web",null]', '["app",null,"0123"]'):
        with pytest.raises(UnreadableRecord, match="another namespace or identity"):
            await store.begin(name, "me", 10.0)


async def test_what_is_wrong_with_hooks(caplog):
    """L1: objects that are not functions, and wrong results of functions, are named in the error."""
    for wrong in ({"load": 5, "save": print}, {"load": print, "save": None}, {"load": print, "save": print, "lock": 5}):
        with pytest.raises(TypeError, match="must be a function"):
            HookStore(**wrong)
    with pytest.raises(TypeError, match="load must return a mapping, a Token or None, not str"):
        await HookStore(lambda key: "text", print).read(NAME)
    with pytest.raises(ValueError, match="expires_at must be a date and time or a number of epoch seconds, not a str"):
        await HookStore(lambda key: {"access_token": "t", "expires_at": "soon"}, print).read(NAME)
    broken = {"access_token": "t", "evertoken": {"format": 1, "key": NAME}}
    found = await HookStore(lambda key: broken, print).read(NAME)
    assert found.token.access_token == "t"
    assert "counts as missing" in caplog.text
    with pytest.raises(UnreadableRecord, match="format 99"):
        await HookStore(lambda key: {**broken, "evertoken": {"format": 99, "key": NAME, "version": 1}}, print).read(
            NAME
        )


async def test_a_hook_that_fails_shows_no_token():
    """S1: what a function of the program's raises comes out without the frames that hold the token."""

    def save(key: Any, data: Any) -> None:
        raise OSError("no room")

    store = HookStore(lambda key: None, save)
    lease = (await store.begin(NAME, "me", 10.0)).lease
    with pytest.raises(OSError, match="no room") as caught:
        await store.commit(Record(NAME, 1, Token("planted-secret-1", issued_at=1.0)), lease)
    frames, trace = [], caught.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    assert not any("planted-secret-1" in repr(frame.f_locals) for frame in frames[1:])
