"""F8: with a store the limits of a provider hold for the whole fleet. In virtual time."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.gated import virtual
from tests.machinery.provider import Provider
from tests.machinery.scripted import Recorder

from evertoken import (
    Budget,
    GrantRejected,
    ManagerClosed,
    RateLimit,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken.events import BudgetReached
from evertoken.stores import MemoryStore

NAME = Provider.provider
DAY = 86_400.0
HUNDRED = RateLimit(requests=100, per=6)

once = pytest.mark.asyncio(loop_factories=["virtual"])


class Trips:
    """A store in memory with a delay of some milliseconds. It may be down, and counts its calls."""

    def __init__(self, clock: Any, *, keeps_quotas: bool = True, latency: float = 0.001) -> None:
        self.memory = MemoryStore(clock=clock)
        self.keeps_quotas = keeps_quotas
        self.latency = latency
        self.calls: list[str] = []
        self.down = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.memory, name)

        async def call(*values: Any, **named: Any) -> Any:
            self.calls.append(name)
            assert self.keeps_quotas or not named
            await asyncio.sleep(self.latency)
            if self.down:
                raise OSError("down")
            return await method(*values, **named)

        return call

    def used(self) -> int:
        """Return the tokens that are counted."""
        return sum(tally.used for tally in self.memory._tallies.values())


def member(provider: Any, store: Any, clock: Any, **how: Any) -> TokenManager[Any, Any]:
    return TokenManager(source_for=lambda key: provider, store=store, namespace="", clock=clock, idle_after=None, **how)


async def fleet(stack: AsyncExitStack, size: int, *args: Any, **how: Any) -> list[TokenManager[Any, Any]]:
    return [await stack.enter_async_context(member(*args, **how)) for _ in range(size)]


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "evertoken")


# The rate


@once
@pytest.mark.parametrize("latency", [0.005, 0.05])
@pytest.mark.parametrize(
    ("size", "keys", "requests", "per"), [(1, 300, 100, 6.0), (4, 1000, 100, 6.0), (8, 200, 10, 2.0), (4, 60, 60, 60.0)]
)
async def test_the_rate_holds_for_the_fleet(clock, size, keys, requests, per, latency):
    """F8: cold keys over several members: nothing is refused, all are served, nine tenths of the rate are used."""
    provider, store = Provider(clock, limit=requests, per=per, latency=latency), Trips(clock)
    limits = {NAME: RateLimit(requests=requests, per=per)}
    async with AsyncExitStack() as stack:
        members = await fleet(stack, size, provider, store, clock, rate_limits=limits)
        began, ended = clock.monotonic(), [0.0] * size

        async def ask(number: int) -> None:
            await members[number % size].get(number, timeout=900.0)
            ended[number % size] = clock.monotonic() - began

        await asyncio.gather(*map(ask, range(keys)))
        took = clock.monotonic() - began
    assert (len(provider.issued), provider.refused) == (keys, [])
    assert keys / took >= 0.9 * requests / per
    # Each has a share, and no member still has all its keys when the others are done.
    assert min(ended) >= 0.5 * took
    # Two round trips a fetch, and a few more for members that found the quota used up.
    assert store.calls.count("commit") == keys
    assert store.calls.count("begin") <= keys * (1 + size)
    assert store.calls.count("abandon") <= keys / 20


@once
async def test_without_a_shared_quota_each_member_has_its_own(clock):
    """F8: a store that keeps no quotas is given none, and each member keeps the rate by itself."""
    provider, store = Provider(clock), Trips(clock, keeps_quotas=False)
    async with AsyncExitStack() as stack:
        members = await fleet(stack, 2, provider, store, clock, rate_limits={NAME: HUNDRED})
        began = clock.monotonic()
        await asyncio.gather(*(members[key % 2].get(key, timeout=900.0) for key in range(200)))
        assert clock.monotonic() - began == pytest.approx(100 / HUNDRED.rate, rel=0.1)


@virtual
async def test_who_is_waited_for_goes_first(clock):
    """F8: a fetch that found the quota used up keeps its place, and one that somebody waits for goes before others."""
    provider, store = Provider(clock, lifetime=1000.0), Trips(clock)
    limits = {NAME: RateLimit(requests=6, per=60, burst=1)}
    async with AsyncExitStack() as stack:
        one, other = await fleet(stack, 2, provider, store, clock, rate_limits=limits)
        for key in range(4):
            await one.get(key, timeout=900.0)
        # The quota is used up by the other member at each turn.
        await clock.advance(30.0)
        await other.get("other", timeout=900.0)
        asked = [asyncio.ensure_future(one.get(f"urgent-{number}", timeout=900.0)) for number in range(3)]
        await clock.advance(100.0)
        assert all(task.done() for task in asked)
        first = [key for key in provider.asked if str(key).startswith("urgent")]
        assert first == ["urgent-0", "urgent-1", "urgent-2"]


@virtual
async def test_a_close_does_not_wait_for_the_quota(clock):
    """L1: a manager whose flight waits for the quota of the fleet closes at once, and nothing is left counted."""
    provider, store = Provider(clock), Trips(clock)
    limits, budgets = {NAME: RateLimit(requests=1, per=1000.0)}, {NAME: Budget(tokens=9, per=DAY)}
    async with member(provider, store, clock, rate_limits=limits, budgets=budgets) as one:
        await one.get("first")
        other = member(provider, store, clock, rate_limits=limits, budgets=budgets)
        await other.start()
        waiting = asyncio.ensure_future(other.get("second", timeout=2000.0))
        await clock.advance(5.0)
        assert not waiting.done()
        began = clock.monotonic()
        await other.aclose()
        assert clock.monotonic() - began < 0.5
        with pytest.raises(ManagerClosed):
            await waiting
        assert (provider.asked, store.used()) == (["first"], 1)


@virtual
@pytest.mark.parametrize("lasts", [5.0, 600.0])
async def test_a_retry_after_holds_the_fleet(clock, lasts):
    """F8: a pause that one member was asked for holds the others too, and a long one is told to who does not wait."""
    provider, store = Provider(clock), Trips(clock)
    async with AsyncExitStack() as stack:
        one, other = await fleet(stack, 2, provider, store, clock, rate_limits={NAME: HUNDRED})
        provider.error = TransientRefreshError("too many", status=429, retry_after=lasts)
        with pytest.raises(TokenUnavailable):
            await one.get("one")
        await clock.advance(0.1)
        provider.error = None
        began = clock.monotonic()
        if lasts > 30.0:
            with pytest.raises(TokenUnavailable, match="asked to wait"):
                await other.get("quick")
        await other.get("two", timeout=900.0)
        assert clock.monotonic() - began == pytest.approx(lasts, abs=1.0)
        # All requests after the pause began, by a caller or by the retry of the first key, waited until it was over.
        assert all(at >= provider.at[0] + lasts for at in provider.at[1:])


# The budget


@once
async def test_a_budget_is_kept_over_restarts(clock):
    """F8: a fleet of eight with hourly tokens counts exactly the issued tokens, across restarts. 400 is the limit."""
    provider, store = Provider(clock, lifetime=3600.0), Trips(clock)
    budget = Budget(tokens=400, per=3 * DAY, hard=True)
    await clock.advance(3 * DAY - clock.time() % (3 * DAY) + 1.0)
    for _ in range(4):
        async with AsyncExitStack() as stack:
            members = await fleet(stack, 8, provider, store, clock, budgets={NAME: budget})
            await asyncio.gather(*(tokens.get(key) for tokens in members for key in range(3)))
            for _ in range(16):
                await clock.advance(1800.0)
                await asyncio.gather(*(tokens.get(key) for tokens in members for key in range(3)))
            assert store.used() == len(provider.issued)
    used = len(provider.issued)
    assert 100 < used < 200
    async with AsyncExitStack() as stack:
        members = await fleet(stack, 8, provider, store, clock, budgets={NAME: budget})
        for number in range(400 - used):
            await members[number % 8].get(f"new-{number}")
        with pytest.raises(TokenUnavailable, match="budget of 400 tokens") as caught:
            await members[3].get("one too many")
        assert (len(provider.issued), store.used()) == (400, 400)
        left = 3 * DAY - clock.time() % (3 * DAY)
        assert caught.value.retry_at == pytest.approx(clock.time() + left, abs=1.0)
        snapshot = members[3].snapshot().providers[NAME]
        assert (snapshot.budget_used, snapshot.budget_left) == (400, 0)
        await clock.advance(left + 1.0)
        await members[3].get("one too many", timeout=10.0)
        assert store.used() == len(provider.issued) - 400


@once
@pytest.mark.parametrize("when", ["begun", "answered"])
async def test_a_member_that_is_killed(clock, when):
    """F8: each kill counts at most one token too many, and never one too few."""
    provider, store = Provider(clock, lifetime=3600.0, latency=0.1), Trips(clock, latency=0.01)
    budgets = {NAME: Budget(tokens=1000, per=300 * DAY)}
    kills = 7
    for number in range(kills):
        dying = member(provider, store, clock, budgets=budgets)
        await dying.start()
        asked = asyncio.ensure_future(dying.get(number))
        # Its request has not left yet, or it has its answer and has not kept it.
        await clock.advance(0.015 if when == "begun" else 0.115)
        # Nothing that it does from now on gets through.
        store.down = True
        asked.cancel()
        await dying.aclose()
        store.down = False
        await clock.advance(20.0)
    assert len(provider.issued) <= store.used() <= len(provider.issued) + kills


@virtual
@pytest.mark.parametrize(
    ("error", "issued", "paused"),
    [
        (TransientRefreshError("busy", status=503), 0, False),
        (TransientRefreshError("no way there"), 0, False),
        (TransientRefreshError("too many", status=429, retry_after=3.0), 0, True),
        (GrantRejected("invalid_grant"), 0, False),
        (TransientRefreshError("no answer", ambiguous=True), 1, False),
        (OSError("whatever it was"), 1, False),
    ],
    ids=str,
)
async def test_what_certainly_was_not_issued_is_given_back(clock, error, issued, paused):
    """F8: a failure that the source is sure of costs no token; one that may hide an answer does."""
    provider, store = Provider(clock), Trips(clock)
    budgets = {NAME: Budget(tokens=10, per=DAY)}
    async with member(provider, store, clock, budgets=budgets) as tokens:
        provider.error = error
        with pytest.raises((TokenUnavailable, GrantRejected)):
            await tokens.get("key")
        await clock.advance(0.1)
        assert store.used() == issued
        assert tokens.snapshot().providers[NAME].budget_used == issued
        [tally] = store.memory._tallies.values()
        assert (tally.held_until > clock.time()) == paused


@virtual
async def test_what_a_peer_fetched_leaves_the_rate_alone(clock):
    """F8, K2: members that adopt the token of a peer give back their requests too, where only a rate is limited."""
    provider, store = Provider(clock, lifetime=100.0, latency=0.1), Trips(clock)
    limit = RateLimit(requests=10, per=1000.0, burst=2)
    async with AsyncExitStack() as stack:
        members = await fleet(stack, 6, provider, store, clock, rate_limits={NAME: limit})
        for tokens in members:
            await tokens.get("key", timeout=50.0)
        assert len(provider.issued) == 1
        # One of the two requests that may go together is left.
        await members[0].get("other", timeout=1.0)
        with pytest.raises(TokenUnavailable):
            await members[0].get("third", timeout=1.0)


@virtual
async def test_what_a_peer_fetched_costs_nothing(clock):
    """F8, K2: members that adopt the token of a peer give back their quota. The count matches the provider's."""
    provider, store = Provider(clock, lifetime=100.0), Trips(clock)
    how = {"rate_limits": {NAME: HUNDRED}, "budgets": {NAME: Budget(tokens=1000, per=DAY)}}
    async with AsyncExitStack() as stack:
        members = await fleet(stack, 4, provider, store, clock, **how)
        for _ in range(30):
            await asyncio.gather(*(tokens.get("key", timeout=50.0) for tokens in members))
            await clock.advance(41.0)
    assert 10 <= len(provider.issued) <= 40
    assert store.used() == len(provider.issued)


@virtual
async def test_refreshes_ahead_stop_for_the_whole_fleet(clock):
    """
    F8: a budget that the fleet has used up stops refreshes ahead. Callers are still served, unless the budget is hard.
    """
    provider, store = Provider(clock, lifetime=1000.0), Trips(clock)
    recorder = Recorder()
    how = {"budgets": {NAME: Budget(tokens=10, per=DAY)}}
    async with AsyncExitStack() as stack:
        one, other = await fleet(stack, 2, provider, store, clock, observers=[recorder], **how)
        for key in range(8):
            await one.get(key)
        for key in ("a", "b"):
            await other.get(key)
        await clock.advance(990.0)
        assert len(provider.issued) == 10
        await clock.advance(100.0)
        await one.get(3)
        assert (len(provider.issued), store.used()) == (11, 11)
        # Each member reports its own findings.
        assert [event.share for event in recorder.of(BudgetReached)][:4] == [0.5, 0.8, 0.8, 1.0]


@virtual
async def test_tokens_that_the_store_could_not_count(clock):
    """F8, K3: tokens that were issued while the store was down are counted with the next lease."""
    provider, store = Provider(clock, lifetime=1000.0), Trips(clock)
    async with member(provider, store, clock, budgets={NAME: Budget(tokens=50, per=DAY)}) as tokens:
        await tokens.get("before")
        store.down = True
        for number in range(3):
            await tokens.get(f"down-{number}")
        assert tokens.snapshot().providers[NAME].budget_used == 4
        assert store.used() == 1
        store.down = False
        # A store that was down is tried once a second.
        await clock.advance(1.0)
        await tokens.get("after")
        assert (store.used(), len(provider.issued)) == (5, 5)
