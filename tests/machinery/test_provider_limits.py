"""F8: providers are the unit of load: rate, pauses, order, budget. All in virtual time."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from typing import Any

import pytest
from tests.gated import virtual
from tests.machinery.provider import Provider
from tests.machinery.scripted import Recorder, ScriptedSource

from evertoken import (
    Budget,
    ManagerClosed,
    RateLimit,
    RefreshPolicy,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken.events import BudgetReached, RefreshFailed
from evertoken.sources import OAuthClient, RefreshToken
from evertoken.stores import MemoryStore
from evertoken.testing import ManualClock, VirtualClock, VirtualTimeLoop

NAME = Provider.provider
HUNDRED = RateLimit(requests=100, per=6)
UNJITTERED = RefreshPolicy(jitter=0.0)
DAY = 86_400.0

# Long ones, on the virtual loop alone.
once = pytest.mark.asyncio(loop_factories=["virtual"])


def managed(provider: Provider, clock: Any, limit: RateLimit | None = None, **how: Any) -> TokenManager[Any, Any]:
    limits = {} if limit is None else {NAME: limit}
    return TokenManager(source_for=lambda key: provider, clock=clock, rate_limits=limits, idle_after=None, **how)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "evertoken")


# The rate


@once
@pytest.mark.parametrize("latency", [0.005, 0.05])
@pytest.mark.parametrize(
    ("keys", "requests", "per", "burst"),
    [
        (1000, 100, 6.0, None),
        (1000, 100, 60.0, None),
        (120, 10, 2.0, None),
        (30, 1, 1.0, None),
        (600, 500, 10.0, None),
        (300, 100, 60.0, 20),
    ],
)
async def test_cold_keys(clock, keys, requests, per, burst, latency):
    """F8: with its limit known a provider refuses nothing, everybody is served, and nine tenths of it are used."""
    # A provider with a token bucket allows a burst, and then the rest of the window as well.
    provider = Provider(clock, limit=requests if burst is None else requests + burst, per=per, latency=latency)
    recorder = Recorder()
    async with managed(
        provider, clock, RateLimit(requests=requests, per=per, burst=burst), observers=[recorder]
    ) as tokens:
        began = clock.monotonic()
        await asyncio.gather(*(tokens.get(key, timeout=700.0) for key in range(keys)))
        took = clock.monotonic() - began
        assert tokens.snapshot().providers[NAME].attempts == keys
    assert (len(provider.issued), provider.refused) == (keys, [])
    assert keys / took >= 0.9 * requests / per
    assert not recorder.of(RefreshFailed)


@virtual
async def test_no_task_and_no_timer_for_each_that_waits(clock):
    """F6, F8: what waits for the rate is an entry in a queue: there are as many tasks as fetches under way."""
    provider = Provider(clock, latency=0.2)
    async with managed(provider, clock, HUNDRED) as tokens:
        waiting = [asyncio.ensure_future(tokens.get(key, timeout=600.0)) for key in range(1000)]
        await clock.advance(5.02)
        snapshot = tokens.snapshot()
        assert snapshot.queued == 1000 - len(provider.at)
        names = Counter(task.get_name().split(":")[1] for task in asyncio.all_tasks() if ":" in task.get_name())
        assert names["refresh"] == snapshot.in_flight == snapshot.providers[NAME].in_flight <= 4
        assert snapshot.providers[NAME].queued == snapshot.queued
        assert snapshot.providers[NAME].rate == pytest.approx(0.95 * 100 / 6)
        await asyncio.gather(*waiting)


@once
@pytest.mark.parametrize("tells", [True, False])
async def test_an_unknown_limit_is_learnt(clock, tells):
    """F8: without any setting the rate follows the refusals: 0.05 refusals a token at most, nobody fails."""
    provider = Provider(clock, limit=100, tells=tells)
    async with managed(provider, clock) as tokens:
        began = clock.monotonic()
        await asyncio.gather(*(tokens.get(key, timeout=600.0) for key in range(1000)))
        took = clock.monotonic() - began
    assert len(provider.refused) <= 50
    assert 1000 / took >= 0.75 * 100 / 6


@once
@pytest.mark.parametrize("tells", [True, False])
async def test_a_limit_that_halves_and_comes_back(clock, tells):
    """F8: a lower limit costs five refusals at most; within ten seconds the rate follows, down and up again."""
    provider = Provider(clock, limit=100, tells=tells)
    async with managed(provider, clock, HUNDRED) as tokens:

        async def work(first: int) -> None:
            for key in range(first, 10_000_000, 64):
                await tokens.get(key, timeout=600.0)

        working = [asyncio.ensure_future(work(first)) for first in range(64)]
        await clock.advance(30.0)
        assert not provider.refused
        provider.limit, halved = 50, clock.monotonic()
        await clock.advance(25.0)
        provider.limit, back = 100, clock.monotonic()
        await clock.advance(25.0)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
    assert 1 <= len(provider.refused) <= 5
    assert max(provider.refused) < back + 1.0
    assert provider.rate(halved + 10.0, back) >= 0.7 * 50 / 6
    assert provider.rate(back + 10.0, back + 25.0) >= 0.9 * 100 / 6


@virtual
@pytest.mark.parametrize(("asked", "kept"), [(7, 7.0), (60, 60.0), (1e6, 300.0)])
@pytest.mark.parametrize("status", [429, 503, None])
async def test_a_retry_after_holds_the_provider(clock, asked, kept, status):
    """F8: a Retry-After of one answer holds all keys of the provider, up to the cap of the policy."""
    provider = Provider(clock)
    async with managed(provider, clock) as tokens:
        await tokens.get("first")
        provider.error = TransientRefreshError("wait", retry_after=asked, status=status)
        with pytest.raises(TokenUnavailable):
            await tokens.get("told")
        held, known = clock.monotonic(), len(provider.at)
        provider.error = None
        assert tokens.snapshot().providers[NAME].held_until == pytest.approx(clock.time() + kept, abs=0.1)
        others = [asyncio.ensure_future(tokens.get(key, timeout=1000.0)) for key in range(20)]
        await clock.advance(kept - 0.5)
        assert len(provider.at) == known
        await asyncio.gather(*others)
        assert min(provider.at[known:]) == pytest.approx(held + kept, abs=0.1)
        assert tokens.snapshot().providers[NAME].held_until is None


@virtual
@pytest.mark.parametrize(("asked", "waits"), [(5, True), (29, True), (60, False), (250, False)])
async def test_callers_without_a_timeout_in_a_pause(clock, asked, waits):
    """F8, R4: a pause as short as a fetch may be is waited for; of a longer one callers are told, and until when."""
    provider = Provider(clock)
    async with managed(provider, clock, fetch_timeout=30.0) as tokens:
        queued = None
        provider.error = TransientRefreshError("wait", retry_after=asked, status=429)
        with pytest.raises(TokenUnavailable):
            await tokens.get("told")
        began, provider.error = clock.time(), None
        queued = asyncio.ensure_future(tokens.get("other"))
        if waits:
            await queued
            assert clock.time() - began == pytest.approx(asked, abs=0.2)
        else:
            with pytest.raises(TokenUnavailable, match=f"{NAME} now: it asked to wait") as caught:
                await queued
            assert clock.time() - began < 0.1
            assert caught.value.retry_at == pytest.approx(began + asked, abs=0.2)
            assert str(caught.value.__cause__) == "wait"


@virtual
async def test_callers_in_the_queue_are_told_of_a_long_pause(clock):
    """F8, R4: when a long pause begins, a caller in the queue without a timeout is told at once. The others wait."""
    provider = Provider(clock)
    async with managed(provider, clock, RateLimit(requests=10, per=10)) as tokens:
        plain = [asyncio.ensure_future(tokens.get(key)) for key in range(10)]
        patient = [asyncio.ensure_future(tokens.get(key, timeout=500.0)) for key in range(10)]
        await clock.advance(3.5)
        served = len(provider.issued)
        provider.error = TransientRefreshError("wait", retry_after=200, status=429)
        await clock.advance(1.5)
        provider.error = None
        outcomes = [await asyncio.gather(task, return_exceptions=True) for task in plain if task.done()]
        assert len(outcomes) == 10
        assert sum(isinstance(outcome[0], TokenUnavailable) for outcome in outcomes) == 10 - served
        await asyncio.gather(*patient)


# The order


@virtual
async def test_who_is_waited_for_goes_first(clock):
    """F8: a key that somebody waits for is fetched before the refreshes ahead that came due earlier."""
    provider = Provider(clock, lifetime=3600.0)
    async with managed(provider, clock, RateLimit(requests=10, per=10), policy=UNJITTERED) as tokens:
        await asyncio.gather(*(tokens.get(key, timeout=500.0) for key in range(200)))
        # All of them come due again, over the same three minutes.
        await clock.advance(2880.0 + 60.0 - (clock.monotonic() - provider.at[0]))
        provider.latency = 0.01
        for key in range(1000, 1010):
            asked_at = clock.monotonic()
            await tokens.get(key, timeout=500.0)
            assert clock.monotonic() - asked_at <= 1.2
        assert tokens.snapshot().queued > 0


@virtual
@pytest.mark.parametrize("requests", [3, 5])
async def test_refreshes_ahead_are_done_before_expiry(clock, requests):
    """F8: where the rate is short, refreshes ahead take their lead to be done, and no token runs out under demand."""
    provider = Provider(clock, lifetime=600.0, latency=0.01)
    # In two minutes of lead: 36 or 60 fetches, and callers who want one a second.
    async with managed(provider, clock, RateLimit(requests=requests, per=2), policy=UNJITTERED) as tokens:
        keys = range(40)
        await asyncio.gather(*(tokens.get(key, timeout=500.0) for key in keys))
        new = 1000
        end = clock.monotonic() + 1500.0
        while clock.monotonic() < end:
            await clock.advance(1.0)
            assert all(tokens.peek(key) is not None for key in keys)
            new += 1
            asking = asyncio.ensure_future(tokens.get(new, timeout=100.0))
            await clock.advance(0.5)
            asking.cancel()
            await tokens.forget(new)


# Coming, going, ending


@virtual
async def test_cancelled_callers_leave_their_fetch_and_their_place(clock):
    """R3: a caller that is cancelled in the queue takes nothing from the others, and its fetch is made in its turn."""
    provider = Provider(clock)
    async with managed(provider, clock, RateLimit(requests=10, per=10)) as tokens:
        waiting = [asyncio.ensure_future(tokens.get(key, timeout=100.0)) for key in range(30)]
        await clock.advance(2.0)
        for task in waiting[::2]:
            task.cancel()
        kept = await asyncio.gather(*waiting[1::2])
        assert len(kept) == 15
        await clock.advance(5.0)
        assert provider.asked == list(range(30))
        assert tokens.snapshot().queued == 0


@virtual
@pytest.mark.parametrize("how", ["rate", "pause", "outage", "budget"])
async def test_a_close_while_fetches_wait(clock, how):
    """L1: a close ends at once what waits for its turn: its callers are told, and no timer and no task is left."""
    provider = Provider(clock)
    limit = RateLimit(requests=1, per=100) if how == "rate" else None
    budgets = {NAME: Budget(tokens=1, per=DAY, hard=True)} if how == "budget" else {}
    async with managed(provider, clock, limit, budgets=budgets) as tokens:
        await tokens.get("first")
        if how in {"pause", "outage"}:
            provider.error = TransientRefreshError("down", retry_after=250 if how == "pause" else None)
            await asyncio.gather(*(tokens.get(key) for key in "abcde"), return_exceptions=True)
        waiting = [asyncio.ensure_future(tokens.get(key, timeout=1000.0)) for key in range(20)]
        await clock.advance(0.1)
        asked = len(provider.at)
        assert tokens.snapshot().queued >= 19
        began = clock.monotonic()
        await tokens.aclose()
        assert clock.monotonic() - began < 0.2
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ManagerClosed}
        await clock.advance(2000.0)
        assert len(provider.at) == asked
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("evertoken")]


@virtual
@pytest.mark.parametrize("what", ["rate", "pause", "budget"])
async def test_what_was_learnt_outlives_a_session(clock, what):
    """F8: a manager that is started again knows what its provider taught it."""
    provider = Provider(clock, limit=20 if what == "rate" else float("inf"))
    tokens = managed(provider, clock, budgets={NAME: Budget(tokens=100, per=DAY)} if what == "budget" else {})
    async with tokens:
        if what == "pause":
            provider.error = TransientRefreshError("wait", retry_after=100, status=429)
        await asyncio.gather(*(tokens.get(key, timeout=5.0) for key in range(40)), return_exceptions=True)
        before = tokens.snapshot().providers[NAME]
    provider.error = None
    assert tokens.snapshot().providers[NAME].attempts == before.attempts
    async with tokens:
        after = tokens.snapshot().providers[NAME]
        assert (after.rate, after.budget_used, after.held_until) == pytest.approx(
            (before.rate, before.budget_used, before.held_until)
        )
        assert (after.rate is not None) == (what in {"rate", "pause"})
        assert (after.held_until is not None) == (what != "budget")
        known = len(provider.at)
        waiting = asyncio.ensure_future(tokens.get("new", timeout=1000.0))
        await clock.advance(50.0)
        assert (len(provider.at) == known) == (what == "pause")
        await waiting


@virtual
async def test_providers_do_not_wait_for_each_other(clock):
    """F6, F8: the pause, the rate and the outage of one provider are nothing to the keys of another."""
    slow, other = Provider(clock), Provider(clock)
    other.provider = "https://other.example"
    sources = {f"{name}-{number}": one for name, one in (("slow", slow), ("other", other)) for number in range(20)}
    async with TokenManager(sources, clock=clock, rate_limits={NAME: RateLimit(requests=1, per=10)}) as tokens:
        await asyncio.gather(*(tokens.get(f"other-{number}") for number in range(20)))
        assert clock.monotonic() - other.at[0] < 0.5
        slow.error = TransientRefreshError("down", retry_after=1000)
        await clock.advance(60.0)
        other.error = None
        await tokens.refresh("other-1")
        assert tokens.snapshot().providers[NAME].held_until is not None
        assert tokens.snapshot().providers["https://other.example"].held_until is None


@virtual
async def test_a_fetch_within_a_fetch(clock):
    """F6: what a fetch of the same provider waits for in turn waits neither for a place nor for the rate."""

    class Chained(Provider):
        async def fetch(self, request: Any, /) -> Any:
            if request.key != "root":
                await tokens.get("root", timeout=20.0)
            return await super().fetch(request)

    provider = Chained(clock)
    async with managed(provider, clock, RateLimit(requests=1, per=10, concurrency=1)) as tokens:
        began = clock.monotonic()
        await tokens.get("leaf", timeout=100.0)
        assert clock.monotonic() - began < 1.0
        assert provider.asked == ["root", "leaf"]
        # It still counts.
        await tokens.get("next", timeout=100.0)
        assert clock.monotonic() - began > 20.0


# Budgets


@virtual
async def test_shares_of_a_budget(clock):
    """F8: at 50, 80 and 100 % of a budget an event says so, once a period; the next one begins anew."""
    provider, recorder = Provider(clock, lifetime=10.0 * DAY), Recorder()
    async with managed(provider, clock, budgets={NAME: Budget(tokens=10, per=DAY)}, observers=[recorder]) as tokens:
        start = clock.time()
        for period in range(2):
            for number in range(12):
                await tokens.get((period, number))
            told = [event for event in recorder.of(BudgetReached) if event.until == start + (period + 1) * DAY]
            assert [(event.share, event.used, event.tokens) for event in told] == [
                (0.5, 5, 10),
                (0.8, 8, 10),
                (1.0, 10, 10),
            ]
            assert {event.provider for event in told} == {NAME}
            seen = tokens.snapshot().providers[NAME]
            assert (seen.budget_used, seen.budget_left) == (12, 0)
            await clock.advance(start + (period + 1) * DAY - clock.time())
        assert tokens.snapshot().providers[NAME].budget_left == 10


@virtual
@pytest.mark.parametrize("hard", [False, True])
async def test_a_budget_that_is_used_up(clock, hard):
    """F8: with the budget used up refreshes ahead stop; a hard one stops all, and says until when."""
    provider = Provider(clock, lifetime=3600.0)
    budget = Budget(tokens=20, per=DAY, hard=hard)
    async with managed(provider, clock, budgets={NAME: budget}) as tokens:
        end = clock.time() + DAY
        # More at once than are left.
        outcomes = await asyncio.gather(*(tokens.get(key, timeout=10.0) for key in range(30)), return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert len(provider.issued) == (20 if hard else 30)
        assert len(failed) == (10 if hard else 0)
        await clock.advance(hours=4)
        assert len(provider.issued) == (20 if hard else 30)
        if hard:
            for how in ({}, {"timeout": 60.0}, {"min_ttl": 5.0}):
                with pytest.raises(TokenUnavailable, match="budget of 20 tokens") as caught:
                    await tokens.get(0, **how)
                assert caught.value.retry_at == pytest.approx(end)
            with pytest.raises(TokenUnavailable, match="budget"):
                await tokens.refresh(0)
        else:
            await tokens.get(0)
        await clock.advance(end - clock.time() + 60.0)
        # The waiting keys are fetched in the next period, as far as its budget allows.
        assert len(provider.issued) == (40 if hard else 51)


@virtual
async def test_a_longer_life_is_not_bought_with_a_hard_budget(clock):
    """R2, F8: if the budget is used up, a caller who asks for more life gets the valid token at once."""
    provider = Provider(clock, lifetime=3600.0)
    async with managed(provider, clock, budgets={NAME: Budget(tokens=1, per=DAY, hard=True)}) as tokens:
        first = await tokens.get("a")
        await clock.advance(1800.0)
        assert await tokens.get("a", min_ttl=3000.0) is first
        assert await tokens.get("a", min_ttl=3000.0, timeout=10.0) is first


@once
@pytest.mark.parametrize("step", [-3600.0, -40.0, 40.0, 3600.0])
async def test_a_clock_that_is_set_at_the_end_of_a_period(clock, step):
    """F8, T2: a step of the wall clock at the end of a period frees no budget twice, and delays none for ever."""
    provider = Provider(clock)
    async with managed(provider, clock, budgets={NAME: Budget(tokens=5, per=7200.0, hard=True)}) as tokens:
        await clock.advance(7200.0 - 20.0)
        await asyncio.gather(*(tokens.get(key) for key in range(5)))
        clock.step(step)
        if step < 0.0:
            with pytest.raises(TokenUnavailable):
                await tokens.get("more")
        await clock.advance(7200.0)
        await tokens.get("more", timeout=7200.0)


# Mistakes


# As where nobody checks types.
LIMIT: Any = RateLimit
BUDGET: Any = Budget
MANAGER: Any = TokenManager

MISTAKES = {
    "no requests": (lambda: LIMIT(requests=0, per=1), "requests must be"),
    "no number": (lambda: LIMIT(requests=float("nan"), per=1), "requests must be"),
    "beyond a float": (lambda: LIMIT(requests=10**400, per=1), "requests must be"),
    "a negative time": (lambda: LIMIT(requests=1, per=-1), "per must be"),
    "a text": (lambda: LIMIT(requests=1, per="6"), "per must be"),
    "no burst": (lambda: LIMIT(requests=1, per=1, burst=0), "burst must be"),
    "half a burst": (lambda: LIMIT(requests=1, per=1, burst=1.5), "burst must be"),
    "a bool": (lambda: LIMIT(requests=1, per=1, concurrency=True), "concurrency must be"),
    "no tokens": (lambda: BUDGET(tokens=0, per=1), "tokens must be"),
    "half a token": (lambda: BUDGET(tokens=1.5, per=1), "tokens must be"),
    "no end": (lambda: BUDGET(tokens=1, per=float("inf")), "per must be"),
    "hard or not": (lambda: BUDGET(tokens=1, per=1, hard="no"), "hard must be"),
    "no mapping": (lambda: MANAGER(print, rate_limits=HUNDRED), "rate_limits must be a mapping"),
    "no name": (lambda: MANAGER(print, rate_limits={1: HUNDRED}), "rate_limits must name providers"),
    "no limit": (lambda: MANAGER(print, rate_limits={NAME: 5}), f"rate_limits\\['{NAME}'\\] must be a RateLimit"),
    "no budget": (lambda: MANAGER(print, budgets={NAME: HUNDRED}), f"budgets\\['{NAME}'\\] must be a Budget"),
    "another name": (
        lambda: MANAGER({"a": Provider(None)}, rate_limits={f"{NAME}/": HUNDRED}),
        f"name '{NAME}/', but the providers of these sources are '{NAME}'",
    ),
}


@pytest.mark.parametrize(("make", "words"), MISTAKES.values(), ids=MISTAKES)
def test_settings_that_make_no_sense(make, words):
    """F8: what cannot be meant is refused at once, by name."""
    with pytest.raises((TypeError, ValueError), match=words):
        make()


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "5", sys.maxsize + 1])
def test_whole_numbers_of_a_limit(wrong):
    """F8: a number of requests at once, or of tokens, that cannot be one is an error that names it."""
    for name in ("burst", "concurrency"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1"):
            RateLimit(requests=5, per=1.0, **{name: wrong})
    with pytest.raises(ValueError, match="tokens must be a whole number of at least 1"):
        Budget(tokens=wrong, per=1.0)
    assert Budget(tokens=sys.maxsize, per=1.0).tokens == sys.maxsize


def test_an_oauth_client_brings_its_limits():
    """F8: what an `OAuthClient` is given holds for all grants of its server."""
    how: Any = {"token_endpoint": f"{NAME}/token", "client_id": "app"}
    client = OAuthClient(**how, rate_limit=HUNDRED, budget=Budget(tokens=7, per=DAY))
    other = OAuthClient(**{**how, "client_id": "other"})
    grants = {"a": RefreshToken(client, "grant"), "b": RefreshToken(other, "grant")}
    found = TokenManager(grants, clock=ManualClock()).snapshot().providers[NAME]
    assert (found.rate, found.budget_left) == (pytest.approx(0.95 * 100 / 6), 7)
    mistakes: list[dict[str, Any]] = [{"rate_limit": 5}, {"budget": HUNDRED}]
    for wrong in mistakes:
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a"):
            OAuthClient(**how, **wrong)


def test_of_two_limits_the_lower_one_counts():
    """F8: a limit by name and one of a source, or of two sources, are one limit for the provider: the lower."""

    async def main() -> float | None:
        clock = VirtualClock()
        one, two = Provider(clock), Provider(clock)
        one.rate_limit = RateLimit(requests=10, per=1)  # type: ignore[attr-defined]  # as a source may say it
        two.rate_limit = RateLimit(requests=1, per=1)  # type: ignore[attr-defined]
        sources = {"one": one, "two": two}
        async with TokenManager(sources, clock=clock, rate_limits={NAME: RateLimit(requests=5, per=1)}) as tokens:
            return tokens.snapshot().providers[NAME].rate

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == pytest.approx(0.95)


# What the snapshot says


@once
async def test_the_snapshot_of_a_provider_that_is_idle(clock):
    """F8: before the start, and after the end, a provider has no fetch under way and none that waits."""
    provider = Provider(clock, limit=100, per=6.0)
    tokens = TokenManager(
        provider, clock=clock, rate_limits={NAME: HUNDRED}, budgets={NAME: Budget(tokens=1000, per=DAY)}
    )
    async with tokens:
        await tokens.get()
        idle = tokens.snapshot().providers[NAME]
        assert (idle.in_flight, idle.queued, idle.attempts) == (0, 0, 1)
        assert (idle.budget_used, idle.budget_left) == (1, 999)
    ended = tokens.snapshot().providers[NAME]
    assert (ended.in_flight, ended.queued, ended.attempts) == (0, 0, 1)
    assert (ended.held_until, ended.down_since, ended.error) == (None, None, None)


@once
@pytest.mark.parametrize("keys", [2, 5])
async def test_fetches_at_a_time_behind_a_slow_store(clock, keys):
    """F8: a fetch that waits for its lease counts for the limit on fetches at a time."""
    store = MemoryStore(clock=clock)
    begin = store.begin

    async def slow(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(1.0)
        return await begin(*args, **options)

    store.begin = slow
    source = ScriptedSource(clock, latency=3.0)
    source.rotates, source.provider = False, NAME
    limits = {NAME: RateLimit(requests=100, per=1, concurrency=1)}
    async with TokenManager(
        source_for=lambda key: source, clock=clock, rate_limits=limits, store=store, namespace=""
    ) as tokens:
        await asyncio.gather(*(tokens.get(key, timeout=100.0) for key in range(keys)))
    assert (source.fetches, source.most) == (keys, 1)
