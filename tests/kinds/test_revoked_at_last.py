"""K6: a key that was signed out while its server could not be told is told of by the next `revoke()`."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from evertoken import Grant, GrantRejected, Token, TokenManager, TransientRefreshError
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])


class Source:
    """A source whose server does not answer to revocations for a time, in the way that *fate* names."""

    rotates = True
    identity = "source"

    def __init__(self, fate):
        self.fate = fate
        self.told = []
        self.fetches = 0

    async def fetch(self, request):
        self.fetches += 1
        return {"access_token": f"a{self.fetches}", "refresh_token": f"r{self.fetches}", "expires_in": 3600}

    async def revoke(self, token):
        if self.fate == "refused":
            raise ConnectionError
        if self.fate == "transient":
            raise TransientRefreshError("503")
        if self.fate in {"hangs", "cancelled"}:
            await asyncio.sleep(1e6)
        if self.fate == "rejected":
            raise GrantRejected("invalid_client")
        self.told.append(token.refresh_token)


async def nothing(clock, tokens):
    pass


async def ask(clock, tokens):
    with pytest.raises(GrantRejected):
        await tokens.get("k")


async def wait(clock, tokens):
    await clock.advance(7200.0)


async def log_in(clock, tokens):
    await tokens.put(
        Token("a-new", issued_at=clock.time(), expires_at=clock.time() + 3600.0, refresh_token="r-new"), "k"
    )


async def import_one(clock, tokens):
    await tokens.put(Grant("r-new"), "k")


@plain
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "with a store"])
@pytest.mark.parametrize("between", [nothing, ask, wait, log_in, import_one])
@pytest.mark.parametrize("fate", ["refused", "transient", "hangs", "cancelled", "rejected"])
async def test_the_next_revoke_tells_the_server(clock, fate, between, shared):
    """K6: what the server was not told, the next revoke() tells it, once; a refusal by the server is its last word."""
    source = Source(fate)
    store = MemoryStore(clock=clock) if shared else None
    async with TokenManager({"k": source}, clock=clock, store=store, namespace="", fetch_timeout=5.0) as tokens:
        await tokens.get("k")
        for _ in range(2):
            if fate == "cancelled":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(tokens.revoke("k"), 1.0)
            else:
                with pytest.raises((TransientRefreshError, GrantRejected)):
                    await tokens.revoke("k")
            if fate == "rejected":
                break
        assert source.told == []
        await between(clock, tokens)
        source.fate = None
        await tokens.revoke("k")
        new = ["r-new"] if between in {log_in, import_one} else []
        assert source.told == (new if fate == "rejected" else ["r1", *new])
        await tokens.revoke("k")
        assert len(source.told) == len(set(source.told))
        await ask(clock, tokens)


@plain
async def test_each_provider_hears_of_its_own_tokens(clock):
    """K5: a token goes to the source that gave it, also if the key has another source by now."""
    one, other = Source("transient"), Source(None)
    current = one
    async with TokenManager(source_for=lambda key: current, clock=clock) as tokens:
        await tokens.get("k")
        with pytest.raises(TransientRefreshError):
            await tokens.revoke("k")
        current = other
        other.identity = "other"
        other.fetches = 10
        await tokens.forget("k")
        await tokens.refresh("k")
        with pytest.raises(TransientRefreshError):
            await tokens.revoke("k")
        assert (one.told, other.told) == ([], ["r11"])
        one.fate = None
        await tokens.revoke("k")
        assert (one.told, other.told) == (["r1"], ["r11"])


@plain
async def test_calls_that_overlap_lose_no_token(clock):
    """K6: whichever of several calls ends last, a token of which the server was not told is told later."""
    source = Source(None)
    gates = [asyncio.Event() for _ in range(3)]
    answers = iter([None, None, TransientRefreshError("503")])
    calls = iter(gates)

    async def revoke(token):
        await next(calls).wait()
        failure = next(answers)
        if failure is not None:
            raise failure
        source.told.append(token.refresh_token)

    source.revoke = revoke
    async with TokenManager({"k": source}, clock=clock) as tokens:
        await tokens.get("k")
        first, second = (asyncio.ensure_future(tokens.revoke("k")) for _ in range(2))
        await clock.advance(0.1)
        gates[0].set()
        await first
        await log_in(clock, tokens)
        third = asyncio.ensure_future(tokens.revoke("k"))
        await clock.advance(0.1)
        gates[1].set()
        await second
        gates[2].set()
        with pytest.raises(TransientRefreshError):
            await third
        del source.revoke
        await tokens.revoke("k")
    assert source.told[-1] == "r-new"


class Slow:
    """A store in memory whose commits take two seconds."""

    def __init__(self, store):
        self._store = store
        self.slow = False

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def commit(self, record, lease):
        if self.slow:
            await asyncio.sleep(2.0)
        return await self._store.commit(record, lease)


@plain
@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("known", ["in memory", "in the store", "answered"])
async def test_a_call_that_is_cancelled_goes_on(clock, known, after):
    """K6: a sign-out whose caller is cancelled goes on, and its server is told of all tokens, wherever they were."""
    source, store = Source(None), Slow(MemoryStore(clock=clock))
    options = {"store": store, "clock": clock, "namespace": "", "start": "lazy"}
    first, tokens = (TokenManager({"k": source}, **options) for _ in range(2))
    async with first:
        await first.get("k")
    async with tokens:
        if known != "in the store":
            await tokens.get("k")
        store.slow = True
        if known == "answered":
            refreshing = asyncio.ensure_future(tokens.refresh("k"))
            await clock.advance(0.5)
        signing_out = asyncio.ensure_future(tokens.revoke("k"))
        await clock.advance(after)
        signing_out.cancel()
        await clock.advance(10.0)
        await asyncio.gather(signing_out, return_exceptions=True)
        if after:
            assert "r1" in source.told
            assert known != "answered" or "r2" in source.told
        with contextlib.suppress(TransientRefreshError):
            await tokens.revoke("k")
        assert "r1" in source.told
        if known == "answered":
            await asyncio.gather(refreshing, return_exceptions=True)


@plain
async def test_the_next_life_remembers(clock):
    """K6, L1: a manager that is closed and entered again knows of which token its server was not told."""
    source = Source("transient")
    tokens = TokenManager({"k": source}, clock=clock)
    async with tokens:
        await tokens.get("k")
        with pytest.raises(TransientRefreshError):
            await tokens.revoke("k")
    source.fate = None
    async with tokens:
        await tokens.revoke("k")
    assert source.told == ["r1"]


@plain
async def test_many_logins_while_the_server_cannot_be_told(clock):
    """K6: each call takes one fetch_timeout at most, and the last sixteen tokens are remembered."""
    source = Source("hangs")
    async with TokenManager({"k": source}, clock=clock, fetch_timeout=5.0) as tokens:
        for number in range(20):
            now = clock.time()
            await tokens.put(Token("a", issued_at=now, expires_at=now + 60.0, refresh_token=f"r-{number}"), "k")
            with pytest.raises(TransientRefreshError):
                await tokens.revoke("k")
            assert clock.time() - now <= 5.1
        source.fate = None
        await tokens.revoke("k")
    assert source.told == [f"r-{number}" for number in range(4, 20)]


@plain
async def test_closed_before_the_server_is_told(clock):
    """K6, L1: a close in the middle ends the call, with an error that says so."""
    source = Source("hangs")
    async with TokenManager({"k": source}, clock=clock, close_grace=0.5) as tokens:
        await tokens.get("k")
        signing_out = asyncio.ensure_future(tokens.revoke("k"))
        await clock.advance(1.0)
        await tokens.aclose()
        with pytest.raises(TransientRefreshError):
            await signing_out


@plain
async def test_the_failure_that_one_can_do_something_about(clock):
    """K6: if one token was refused and another could not be told, the error says that the call is worth repeating."""
    source = Source("transient")
    async with TokenManager({"k": source}, clock=clock) as tokens:
        await tokens.get("k")
        with pytest.raises(TransientRefreshError):
            await tokens.revoke("k")
        await log_in(clock, tokens)
        fates = {"r1": TransientRefreshError("503"), "r-new": GrantRejected("invalid_client")}

        async def revoke(token):
            raise fates[token.refresh_token]

        source.revoke = revoke
        with pytest.raises(TransientRefreshError):
            await tokens.revoke("k")
