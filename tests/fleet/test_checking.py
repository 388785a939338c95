"""A store that tells of nothing: its members look at their keys from time to time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.gated import virtual

from evertoken import GrantRejected, Token, TokenManager
from evertoken.stores import MemoryStore


class Silent:
    """A store without a watch. It counts what is read."""

    def __init__(self, memory: MemoryStore, *, many: bool) -> None:
        self.memory = memory
        self.begin, self.mark, self.commit = memory.begin, memory.mark, memory.commit
        self.abandon, self.renew = memory.abandon, memory.renew
        self.reads = self.batches = 0
        if many:
            self.read_many = self._read_many

    async def read(self, key: str, /) -> Any:
        self.reads += 1
        return await self.memory.read(key)

    async def _read_many(self, keys: Any, /) -> Any:
        self.batches += 1
        return await self.memory.read_many(keys)


class Login:
    """A source that fetches a token of an hour, unless nobody is logged in."""

    identity, rotates, refuses = "login", False, False

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.issued = 0

    async def fetch(self, _: Any) -> Token:
        if self.refuses:
            raise GrantRejected("invalid_grant", "nobody is logged in")
        self.issued += 1
        now = self.clock.time()
        return Token(f"at-{self.issued}", issued_at=now, expires_at=now + 3600.0)


def managers(clock: Any, *, many: bool, **options: Any) -> tuple[Any, Any, Silent, Login]:
    """Return a member that decides, one that looks, the store as the latter sees it, and their source."""
    memory, source = MemoryStore(clock=clock), Login(clock)
    store = Silent(memory, many=many)
    one = TokenManager({"k": source}, store=memory, namespace="app", clock=clock)
    other = TokenManager({"k": source}, store=store, namespace="app", clock=clock, **options)
    return one, other, store, source


@virtual
@pytest.mark.parametrize("many", [False, True])
async def test_a_sign_out_is_noticed_in_time(virtual_clock, many):
    """K6: a member of a store without a watch serves a token that was signed out for 30 seconds at the most."""
    one, other, _, _ = managers(virtual_clock, many=many)
    async with one, other:
        assert await one.get("k") == await other.get("k")
        await one.revoke("k")
        await virtual_clock.advance(31.0)
        assert other.peek("k") is None
        with pytest.raises(GrantRejected):
            await other.get("k")


@virtual
@pytest.mark.parametrize("many", [False, True])
async def test_a_login_is_noticed_in_time(virtual_clock, many):
    """K6, R4: a member that was refused adopts a login elsewhere, without being asked, within the time that is set."""
    one, other, _, source = managers(virtual_clock, many=many, check_every=5.0)
    source.refuses = True
    async with one, other:
        with pytest.raises(GrantRejected):
            await other.get("k")
        now = virtual_clock.time()
        await one.put(Token("new", issued_at=now, expires_at=now + 3600.0), key="k")
        await virtual_clock.advance(5.5)
        token = other.peek("k")
        assert token is not None
        assert token.access_token == "new"


@virtual
@pytest.mark.parametrize(("many", "reads"), [(False, 1000), (True, 5)])
async def test_many_keys_are_looked_at_in_parts(virtual_clock, many, reads):
    """F6: in each period every key is read once, and no more than 200 of them at a time."""
    memory, source = MemoryStore(clock=virtual_clock), Login(virtual_clock)
    store = Silent(memory, many=many)
    keys = {f"k{number}": source for number in range(1000)}
    tokens = TokenManager(keys, store=store, namespace="app", clock=virtual_clock, check_every=60.0, concurrency=100)
    async with tokens:
        for key in keys:
            await tokens.get(key)
        await virtual_clock.advance(60.0)
        store.reads = store.batches = 0
        await virtual_clock.advance(12.1)
        assert store.reads + store.batches <= math.ceil(reads / 5) * 2
        await virtual_clock.advance(48.0)
        assert reads * 0.9 <= store.reads + store.batches <= reads * 1.3


@virtual
async def test_nobody_looks_unless_wanted(virtual_clock):
    """K2: with check_every=None a record is read when its token is due, and not before."""
    one, other, store, _ = managers(virtual_clock, many=True, check_every=None)
    async with one, other:
        await other.get("k")
        store.reads = 0
        await virtual_clock.advance(2000.0)
        assert (store.reads, store.batches) == (0, 0)


@pytest.mark.parametrize("wrong", [0, -1.0, "5", True, math.inf])
def test_the_period_is_checked(wrong):
    """L1: what is no number of seconds is refused, by its name."""
    with pytest.raises(ValueError, match="check_every"):
        TokenManager(lambda: "t", check_every=wrong)
