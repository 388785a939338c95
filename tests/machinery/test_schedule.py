"""When tokens are fetched: exact instants, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.gated import virtual
from tests.machinery.scripted import Recorder, ScriptedSource, down, gaps

from evertoken import GrantRejected, RefreshPolicy, RetryPolicy, Token, TokenManager
from evertoken._engine.supervisor import HORIZON, SLACK
from evertoken._model.policy import spread

HOUR = 3600.0
EXACTLY = SLACK + 1e-3


def seed_of(manager: TokenManager[Any]) -> str:
    return manager._life.rules.seed


@virtual
@pytest.mark.parametrize(
    ("policy", "lead", "jitter"),
    # A lead is half a lifetime at most, its jitter included.
    [
        (RefreshPolicy(), 720.0, 0.1),
        (RefreshPolicy(jitter=0.0), 720.0, 0.0),
        (RefreshPolicy(lead_fraction=0.5), 1800.0, 0.0),
        (RefreshPolicy(lead_fraction=0.48), 1728.0, 0.1),
        (RefreshPolicy(lead_time=300, jitter=0.0), 300.0, 0.0),
        (RefreshPolicy(lead_time=300, jitter=1.0), 300.0, 1.0),
        (RefreshPolicy(lead_time=86_400.0), 1800.0, 0.1),
    ],
    ids=lambda value: str(value) if isinstance(value, float) else "",
)
async def test_a_day_of_hourly_tokens(clock, policy, lead, jitter):
    """F1, F2: over a day every fetch happens at the instant the policy names, jittered once per key, only early."""
    source = ScriptedSource(clock)
    async with TokenManager(source, policy=policy, clock=clock) as manager:
        period = max(HOUR - lead * (1.0 + jitter * spread(seed_of(manager), None)), HOUR / 2.0)
        assert period <= HOUR - lead
        await clock.advance(24 * HOUR + 1.0)
    assert source.fetches == 1 + int((24 * HOUR + 1.0) / period)
    assert gaps(source.at) == pytest.approx([period] * (source.fetches - 1), abs=EXACTLY)


@virtual
async def test_a_fleet_spreads_out(clock):
    """F2: managers started together refresh at different instants, all of them early, within the jitter."""
    sources = [ScriptedSource(clock) for _ in range(50)]
    managers = [TokenManager(source, clock=clock) for source in sources]
    for manager in managers:
        await manager.start()
    begun = clock.time()
    await clock.advance(hours=0.9)
    for manager in managers:
        await manager.aclose()
    seconds = sorted(source.at[1] - begun for source in sources)
    assert seconds[0] >= HOUR - 720.0 * 1.1 - EXACTLY
    assert seconds[-1] <= HOUR - 720.0 + EXACTLY
    assert len({round(second, 1) for second in seconds}) > 40
    assert seconds[-1] - seconds[0] > 36.0


@virtual
@pytest.mark.parametrize("lifetime", [300.0, 299.0, 30.0, 10.0, 4.0, 2.0, 1.0, 0.5, 0.2])
@pytest.mark.parametrize("lead_time", [300.0, 1e9])
async def test_tokens_shorter_than_the_lead(clock, lifetime, lead_time):
    """F1: a lead at or above the lifetime is half of it, jitter included, and a floor keeps fetches apart."""
    source = ScriptedSource(clock, lifetime=lifetime)
    async with TokenManager(source, policy=RefreshPolicy(lead_time=lead_time), clock=clock):
        await clock.advance(100.0 * lifetime)
    period = max(lifetime * 0.5, min(1.0, max(0.1, lifetime / 2.0)))
    assert gaps(source.at) == pytest.approx([period] * (source.fetches - 1), abs=EXACTLY)
    assert source.fetches <= 100.0 * lifetime / (period - EXACTLY) + 2


@virtual
async def test_one_second_tokens_are_always_there(clock):
    """F1: with tokens of one second a reader finds a valid one at any time, at two fetches a lifetime at the most."""
    source = ScriptedSource(clock, lifetime=1.0, latency=0.1)
    async with TokenManager(source, clock=clock) as manager:
        await manager.get()
        for _ in range(600):
            token = manager.peek()
            assert token is not None
            assert token.valid_at(clock.time())
            await clock.advance(0.05)
    assert source.fetches <= 2 * 30 + 1
    assert source.most == 1


@virtual
@pytest.mark.parametrize("lifetime", [0.001, 1e-6])
async def test_tokens_that_hardly_live(clock, lifetime):
    """F1: a token of a millisecond does not make the supervisor spin: at most ten fetches a second."""
    source = ScriptedSource(clock, lifetime=lifetime)
    async with TokenManager(source, clock=clock):
        await clock.advance(10.0)
    assert source.fetches <= 10.0 / (0.1 - SLACK) + 1


@virtual
async def test_an_answer_slower_than_its_token_lives(clock):
    """Trap 44: a token that is dead when its answer arrives is not asked for again without a pause."""
    source = ScriptedSource(clock, lifetime=1.0, latency=1.5)
    async with TokenManager(source, clock=clock):
        await clock.advance(600.0)
    assert source.most == 1
    assert source.fetches <= 600.0 / 1.5


@virtual
@pytest.mark.parametrize("kind", ["token", "seconds left"])
async def test_the_same_token_coming_back(clock, kind):
    """F1, trap 4: a server with a cache of its own is asked less and less while it repeats itself, and never spun."""
    begun = clock.time()
    expires_at = begun + 300.0

    def answer(request: Any) -> Any:
        if kind == "token":
            return Token("same", issued_at=begun, expires_at=expires_at)
        return {"access_token": "same", "expires_in": expires_at - clock.time()}

    source = ScriptedSource(clock)
    source.answer = answer
    async with TokenManager(source, policy=RefreshPolicy(jitter=0.0), clock=clock) as manager:
        await clock.advance(299.0)
        assert (await manager.get()).access_token == "same"
    between = gaps(source.at)
    assert between[0] == pytest.approx(240.0, abs=EXACTLY)
    if kind == "token":
        assert between[1:] == pytest.approx([5.0, 10.0, 20.0], abs=EXACTLY)
    else:
        # Each wait is four fifths of the remaining time, until that is too short to tell.
        assert between[1:3] == pytest.approx([48.0, 9.6], abs=2 * EXACTLY)
        assert len(between) <= 8


@virtual
async def test_a_repeated_token_is_not_asked_for_every_second(clock):
    """F1: a token without expiry, with a hint in the past, that comes back each time is asked for less and less."""
    source = ScriptedSource(clock)
    source.answer = lambda request: Token("same", issued_at=clock.time(), refresh_at=clock.time() - 10.0)
    async with TokenManager(source, clock=clock):
        await clock.advance(600.0)
    assert source.fetches < 40


@virtual
async def test_a_new_token_ends_the_echo(clock):
    """F1: once another token comes, its own lifetime decides again."""
    begun = clock.time()
    source = ScriptedSource(clock)
    source.answer = lambda request: (
        Token("same", issued_at=begun, expires_at=begun + 300.0)
        if clock.time() < begun + 250.0
        else Token(f"new-{clock.time()}", issued_at=clock.time(), expires_at=clock.time() + 1000.0)
    )
    async with TokenManager(source, policy=RefreshPolicy(jitter=0.0), clock=clock):
        await clock.advance(2000.0)
    assert gaps(source.at) == pytest.approx([240.0, 5.0, 10.0, 800.0, 800.0], abs=2 * EXACTLY)


@virtual
@pytest.mark.parametrize(("hint", "period"), [(600.0, 600.0), (3500.0, 3500.0), (1.0, 1.0)])
async def test_the_servers_hint_wins(clock, hint, period):
    """F1: refresh_in decides, over a lead of any size."""
    source = ScriptedSource(clock)
    source.answer = lambda request: {
        "access_token": f"t{source.fetches}", "expires_in": 3600, "refresh_in": hint,
    }  # fmt: skip
    async with TokenManager(source, policy=RefreshPolicy(lead_time=1800, jitter=0.0), clock=clock):
        await clock.advance(5.5 * period)
    assert gaps(source.at) == pytest.approx([period] * 5, abs=EXACTLY)


@virtual
async def test_a_hint_beyond_expiry_is_ignored(clock):
    """F1: a refresh_in after expires_in would mean an outage; the lead decides."""
    source = ScriptedSource(clock)
    source.answer = lambda request: {
        "access_token": f"t{source.fetches}", "expires_in": 100, "refresh_in": 500,
    }  # fmt: skip
    async with TokenManager(source, policy=RefreshPolicy(jitter=0.0), clock=clock):
        await clock.advance(161.0)
    assert gaps(source.at) == pytest.approx([80.0, 80.0], abs=EXACTLY)


@virtual
async def test_unknown_lifetime_waits_for_a_refusal(clock):
    """T1, F5: a token without expiry is used until it is refused, then replaced at once; its key has a deadline."""
    source = ScriptedSource(clock, lifetime=None)
    async with TokenManager(source, clock=clock) as manager:
        first = await manager.get()
        await clock.advance(hours=48)
        assert source.fetches == 1
        assert await manager.get() is first
        supervisor = manager._life.session.maintenance.supervisor
        assert len(supervisor.deadlines) == 1
        assert clock.time() <= supervisor.deadlines.next() <= clock.time() + HORIZON
        second = await manager.refused(first)
        assert second is not None
        assert second.access_token == "token-2"
        await clock.advance(hours=12)
        assert source.fetches == 2


@virtual
async def test_default_lifetime(clock):
    """T1: where nobody tells a lifetime, the configured one schedules the refresh."""
    source = ScriptedSource(clock)
    source.answer = lambda request: f"t{source.fetches}"
    policy = RefreshPolicy(default_lifetime=100.0, jitter=0.0)
    async with TokenManager(source, policy=policy, clock=clock):
        await clock.advance(161.0)
    assert gaps(source.at) == pytest.approx([80.0, 80.0], abs=EXACTLY)


@virtual
async def test_timers_do_not_multiply(clock):
    """F3, trap 5: after a thousand refreshes there is one deadline, one heap entry and one wake-up for each."""
    source = ScriptedSource(clock, lifetime=100.0)
    async with TokenManager(source, clock=clock) as manager:
        supervisor = manager._life.session.maintenance.supervisor
        while source.fetches < 1000:
            await clock.advance(1000.0)
        for _ in range(100):
            await manager.refresh()
        assert len(supervisor.deadlines) == 1
        assert len(supervisor.deadlines._heap) <= 65
        before, wakeups = source.fetches, supervisor.wakeups
        await clock.advance(1000.0)
        assert source.fetches - before in range(12, 14)
        # One per deadline and one per beat.
        assert supervisor.wakeups - wakeups <= (source.fetches - before) + 100 + 2
        loop = asyncio.get_running_loop()
        assert len(loop._scheduled) < 20


@virtual
@pytest.mark.parametrize(
    "retry",
    [
        RetryPolicy(),
        RetryPolicy(jitter=0.0),
        RetryPolicy(first=1.0, factor=3.0, cap=200.0),
        RetryPolicy(first=30.0, factor=1.0, cap=30.0, jitter=0.0),
    ],
)
async def test_retries_at_the_instants_of_the_policy(clock, retry):
    """F3: each retry happens exactly when RetryPolicy.delay says, never two at a time, over the whole outage."""
    source = ScriptedSource(clock, latency=0.5)
    policy = RefreshPolicy(jitter=0.0)
    async with TokenManager(source, policy=policy, retry=retry, clock=clock) as manager:
        await manager.get()
        source.error = down()
        seed = seed_of(manager)
        await clock.advance(hours=2)
    expected, at = [], source.at[0] + 2880.0
    failures = 0
    while at < source.at[0] + 7200.0 - 0.5:
        expected.append(at)
        failures += 1
        # Judged when the failure is known: the remaining life of the token in service bounds the wait.
        at += 0.5
        left = source.at[0] + HOUR - at
        at += retry.delay(failures, spread(seed, None, failures), lifetime=HOUR, left=left if left > 0.0 else None)
    found = source.at[1:]
    assert abs(len(found) - len(expected)) <= 1
    drift = SLACK * len(found) if len(found) < 40 else 1.0
    assert found[: len(expected)] == pytest.approx(expected[: len(found)], abs=drift)
    assert source.most == 1


@virtual
async def test_the_cap_for_short_tokens(clock):
    """F1, F3: with tokens of ten seconds the first retry comes after half a second and none later than 2.5."""
    source = ScriptedSource(clock, lifetime=10.0)
    async with TokenManager(source, clock=clock) as manager:
        await manager.get()
        source.error = down()
        await clock.advance(60.0)
    between = gaps(source.at[1:])
    assert between[0] == pytest.approx(0.5, abs=EXACTLY)
    assert max(between) <= 2.5 + EXACTLY
    assert min(between) >= 0.1 - EXACTLY


@virtual
@pytest.mark.parametrize("lifetime", [1.0, 0.1, 0.001])
async def test_an_outage_of_short_tokens_is_not_hammered(clock, lifetime):
    """F3: however short the last token lived, a server that is down is asked at most ten times a second."""
    source = ScriptedSource(clock, lifetime=lifetime)
    async with TokenManager(source, clock=clock) as manager:
        await manager.refresh()
        source.error = down()
        begun = source.fetches
        await clock.advance(60.0)
    assert source.fetches - begun <= 600 + 60


@virtual
@pytest.mark.parametrize(
    ("asked", "least", "most"), [(120.0, 120.0, 132.0), (1e9, 300.0, 330.0), (0.0, 5.0, 5.0), (-5.0, 5.0, 5.0)]
)
async def test_retry_after_is_honoured(clock, asked, least, most):
    """F3: what the server asks for is waited, up to the cap, never undercut, and not less than the first wait."""
    source = ScriptedSource(clock)
    source.error = down(retry_after=asked)
    async with TokenManager(source, clock=clock):
        await clock.advance(5.0 * most + 1.0)
    between = gaps(source.at)
    assert len(between) >= 4
    assert min(between) >= least - EXACTLY
    assert max(between) <= most + EXACTLY


@virtual
async def test_success_resets_the_schedule(clock):
    """F3: after a success the next failure waits the first wait again."""
    source = ScriptedSource(clock)
    retry = RetryPolicy(jitter=0.0)
    async with TokenManager(source, policy=RefreshPolicy(jitter=0.0), retry=retry, clock=clock) as manager:
        for _ in range(3):
            source.error = None
            await manager.refresh()
            source.error = down()
            begun = source.fetches
            await clock.advance(2880.0 + 5.0 + 10.0 + 20.0 + 1.0)
            assert gaps(source.at[begun:]) == pytest.approx([5.0, 10.0, 20.0], abs=EXACTLY)
            assert manager.snapshot().keys[None].failures == 4
        source.error = None
        await clock.advance(60.0)
        assert manager.snapshot().keys[None].failures == 0
        assert manager.health().failing == ()


@virtual
async def test_retries_go_on_for_ever(clock):
    """Trap 13: no number of failures ends the schedule, and its exponent does not overflow."""
    source = ScriptedSource(clock)
    source.error = down()
    recorder = Recorder()
    async with TokenManager(source, clock=clock, observers=[recorder]) as manager:
        await clock.advance(hours=24)
        assert source.fetches > 1250
        assert source.at[-1] > clock.time() - 61.0
        assert max(gaps(source.at)) <= 60.0 + EXACTLY
        source.error = None
        await clock.advance(61.0)
        assert manager.peek() is not None


@virtual
async def test_rejections_are_probed_slowly(clock):
    """F4: a rejected grant is asked for once per probe interval, exactly."""
    source = ScriptedSource(clock)
    source.error = GrantRejected("invalid_grant")
    async with TokenManager(source, clock=clock):
        await clock.advance(1501.0)
    assert gaps(source.at) == pytest.approx([300.0] * 5, abs=EXACTLY)


@virtual
async def test_forced_refreshes_join_and_move_the_one_deadline(clock):
    """F3: a refresh on demand replaces the scheduled one instead of adding to it."""
    source = ScriptedSource(clock, latency=1.0)
    async with TokenManager(source, policy=RefreshPolicy(jitter=0.0), clock=clock) as manager:
        await manager.get()
        await clock.advance(1000.0)
        tokens = await asyncio.gather(*(manager.refresh() for _ in range(50)))
        assert len(set(tokens)) == 1
        assert source.fetches == 2
        await clock.advance(2880.0 - 5.0)
        assert source.fetches == 2
        await clock.advance(10.0)
        assert source.fetches == 3
