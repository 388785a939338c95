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
