"""K6: a key that was signed out while its server could not be told is told of by the next `revoke()`."""

from __future__ import annotations

import asyncio

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


@plain
async def test_a_call_that_is_cancelled_at_the_store(clock):
    """K6: a call that was cancelled while the store kept the sign-out has not forgotten the token."""
    source, store = Source(None), MemoryStore(clock=clock)
    commit = store.commit

    async def slow(*args, **options):
        await asyncio.sleep(2.0)
        return await commit(*args, **options)

    async with TokenManager({"k": source}, clock=clock, store=store, namespace="") as tokens:
        await tokens.get("k")
        store.commit = slow
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tokens.revoke("k"), 0.5)
        await clock.advance(5.0)
        await tokens.revoke("k")
    assert source.told == ["r1"]


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
