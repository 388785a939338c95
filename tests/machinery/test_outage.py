"""The results for callers while the endpoint is down, slow, or says no."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.gated import at_once, virtual
from tests.machinery.scripted import Recorder, ScriptedSource, down, gaps

from evertoken import GrantRejected, RefreshPolicy, RetryPolicy, Token, TokenManager, TokenUnavailable
from evertoken._model.events import FetchStarted, RefreshFailed, RefreshRejected, ShorterThanAsked, TokenRefreshed

UNJITTERED = RefreshPolicy(jitter=0.0)


# R4


@virtual
async def test_a_caller_that_waited_leaves_nothing(clock):
    """R4: what callers of one key wait at during an outage goes with the last of them, however their waits end."""
    source = ScriptedSource(clock)
    source.error = down("500")
    async with TokenManager(source, clock=clock, policy=RefreshPolicy(jitter=0.0)) as manager:
        await clock.advance(1.0)
        gates = manager._life.session.maintenance._gates
        waiters = [asyncio.ensure_future(manager.get(timeout=seconds)) for seconds in (0.2, 0.4, 30.0)]
        await clock.advance(0.3)
        assert len(gates) == 1
        waiters[-1].cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        assert not gates


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_a_caller_sleeps_until_something_happens(clock, monkeypatch):
    """R4: a caller that waits for a provider to allow another attempt does not look at the clock meanwhile."""
    source = ScriptedSource(clock)
    source.error = down("429", status=429, retry_after=600.0)
    reads, time = [], type(clock).time
    monkeypatch.setattr(type(clock), "time", lambda self: reads.append(1) or time(self))

    async def reads_in_a_while():
        reads.clear()
        await clock.advance(300.0)
        return len(reads)

    async with TokenManager(source, clock=clock, policy=RefreshPolicy(jitter=0.0)) as manager:
        await clock.advance(1.0)
        before = await reads_in_a_while()
        waiter = asyncio.ensure_future(manager.get(timeout=1000.0))
        await clock.advance(1.0)
        meanwhile = await reads_in_a_while()
        waiter.cancel()
    # Another attempt costs some looks, and one a second would be 300.
    assert meanwhile < before + 100


# R1


@virtual
async def test_the_hot_path_does_not_suspend(clock):
    """R1: with a valid token get() ends at its first step: single, keyed, by handle, with min_ttl."""
    source = ScriptedSource(clock)
    async with (
        TokenManager(source, clock=clock) as single,
        TokenManager({"a": source}, clock=clock) as keyed,
        TokenManager(source_for=lambda key: source, clock=clock) as tenants,
    ):
        handles = [single.handle(), keyed.handle("a"), tenants.handle("t")]
        await asyncio.gather(single.get(), keyed.get("a"), tenants.get("t"), *(handle.get() for handle in handles))
        assert at_once(single.get()) is single.peek()
        assert at_once(keyed.get("a")) is keyed.peek("a")
        assert at_once(tenants.get("t")) is tenants.peek("t")
        for handle in handles:
            assert at_once(handle.get()) is handle.peek()
        assert at_once(single.get(min_ttl=600.0)) is single.peek()
        assert at_once(single.get(timeout=5.0)) is single.peek()
        # Idle keys are barred from the hot path now and then, which costs a call and no wait.
        await clock.advance(minutes=59)
        assert at_once(tenants.get("t")) is tenants.peek("t")


@virtual
async def test_the_hot_path_stays_hot_across_refreshes(clock):
    """R1: across a day of refreshes, each with a latency, no get() ever suspends once the first token is there."""
    source = ScriptedSource(clock, latency=2.0)
    async with (
        TokenManager(source_for=lambda key: source, clock=clock) as tenants,
        TokenManager(source, clock=clock) as one,
    ):
        await asyncio.gather(tenants.get("t"), one.get())
        handle = tenants.handle("t")
        for _ in range(24 * 60):
            await clock.advance(minutes=1)
            now = clock.time()
            assert at_once(tenants.get("t")).valid_at(now)
            assert at_once(handle.get()).valid_at(now)
            assert at_once(one.get()).valid_at(now)


def test_the_hot_path_allocates_nothing():
    """R1: a hundred thousand calls leave no memory behind; in a process without the threads of the runner."""
    command = [sys.executable, str(Path(__file__).parent / "allocating.py")]
    grown, peak = map(int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    assert grown < 4096
    assert peak < 65_536


# Down for the lead


@virtual
@pytest.mark.parametrize("lifetime", [3600.0, 300.0, 10.0])
async def test_an_outage_of_the_whole_lead_goes_unnoticed(clock, lifetime):
    """F3: down for all of the lead but its last tenth, by default settings: no get() ever waits or fails."""
    keys = range(20)
    sources = {key: ScriptedSource(clock, lifetime=lifetime) for key in keys}
    recorder = Recorder()
    async with TokenManager(sources, policy=UNJITTERED, clock=clock, observers=[recorder], start="require") as manager:
        begun = clock.time()
        for source in sources.values():
            source.error = down()
        while clock.time() < begun + 1.2 * lifetime:
            if clock.time() >= begun + lifetime * 0.98:
                for source in sources.values():
                    source.error = None
            for key in keys:
                assert at_once(manager.get(key)).valid_at(clock.time())
            await clock.advance(lifetime / 1000.0)
    assert {source.most for source in sources.values()} == {1}
    failures = recorder.of(RefreshFailed)
    assert len(failures) > 4 * len(keys)
    assert all(event.serving for event in failures)


@virtual
async def test_down_past_expiry(clock):
    """R4: past expiry a thousand callers at once are told at once, share an attempt, and never meet two at a time."""
    source = ScriptedSource(clock, lifetime=300.0)
    async with TokenManager(source, policy=UNJITTERED, clock=clock) as manager:
        await manager.get()
        source.error = down("no route to host")
        await clock.advance(300.5)
        begun = source.fetches
        for _ in range(30):
            assert manager.peek() is None
            asked_at, fetches = clock.time(), source.fetches
            outcomes = await asyncio.gather(*(manager.get() for _ in range(1000)), return_exceptions=True)
            assert clock.time() == pytest.approx(asked_at, abs=0.01)
            assert source.fetches - fetches <= 1
            for outcome in outcomes:
                assert isinstance(outcome, TokenUnavailable)
                assert str(outcome.__cause__) == "no route to host"
                assert outcome.retry_at is not None
                assert outcome.retry_at > clock.time()
            await clock.advance(10.0)
        between = gaps(source.at[begun:])
        assert 29 <= len(between) < 150
        assert min(between) >= 1.0 - 0.01
        assert max(between) <= 10.0 + 0.01
    assert source.most == 1


@virtual
async def test_down_past_expiry_and_nobody_asks(clock):
    """F3, R4: past expiry, while nobody asks, attempts keep the schedule and are a minute apart at most."""
    source = ScriptedSource(clock, lifetime=300.0)
    async with TokenManager(source, policy=UNJITTERED, clock=clock) as manager:
        await manager.get()
        source.error = down()
        await clock.advance(900.0)
        between = gaps(source.at[1:])
        assert min(between) >= 1.0 - 0.01
        assert max(between) <= 60.0 + 0.01
        # By chance any of them may be short, but not all.
        assert max(between) > 5.0
        source.error = None
        retry_at = manager.snapshot().keys[None].next_attempt_at
        assert retry_at is not None
        await clock.advance(retry_at - clock.time() + 0.01)
        assert at_once(manager.get()).valid_at(clock.time())
    assert source.most == 1


@virtual
@pytest.mark.parametrize("every", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("latency", [0.0, 0.2])
async def test_back_under_demand(clock, every, latency):
    """R4: while somebody asks, an attempt starts a second after the last, and a provider that is back is used."""
    source = ScriptedSource(clock, lifetime=300.0, latency=latency)
    async with TokenManager(source, policy=UNJITTERED, clock=clock) as manager:
        await manager.get()
        source.error = down()
        await clock.advance(400.0)
        begun = source.fetches
        end = clock.time() + 60.0
        while clock.time() < end:
            with pytest.raises(TokenUnavailable):
                await manager.get()
            await clock.advance(every)
        between = gaps(source.at[begun:])
        assert min(between) >= 1.0 + latency - 0.01
        assert max(between) <= 1.0 + latency + every + 0.01
        source.error = None
        healed_at = clock.time()
        served = False
        while not served:
            try:
                served = (await manager.get()).valid_at(clock.time())
            except TokenUnavailable:
                await clock.advance(every)
        assert clock.time() - healed_at <= 1.0 + 2 * latency + every + 0.01
    assert source.most == 1


@virtual
@pytest.mark.parametrize("patience", [0.2, 1.0, 3.0])
async def test_an_attempt_that_hangs_holds_nobody(clock, patience):
    """R4: after a failure a caller waits for the attempt under way, `patience` at most, whenever it came."""
    source = ScriptedSource(clock)
    source.error = down("no route to host")
    async with TokenManager(source, retry=RetryPolicy(patience=patience), clock=clock) as manager:
        with pytest.raises(TokenUnavailable):
            await manager.get()
        source.latency = 20.0
        await clock.advance(10.0)
        assert manager.snapshot().in_flight == 1
        for _ in range(3):
            asked_at = clock.time()
            with pytest.raises(TokenUnavailable, match="no route to host"):
                await manager.get()
            assert clock.time() - asked_at == pytest.approx(patience, abs=0.01)
        source.error = None
        # Somebody with a timeout waits for the answer.
        assert (await manager.get(timeout=60.0)).valid_at(clock.time())
    assert source.most == 1


@virtual
async def test_each_caller_has_an_exception_of_its_own(clock):
    """R4: the shared failure reaches each waiter as a new exception with the same cause."""
    source = ScriptedSource(clock, latency=1.0)
    source.error = down()
    async with TokenManager(source, clock=clock) as manager:
        outcomes = await asyncio.gather(*(manager.get() for _ in range(100)), return_exceptions=True)
    assert source.fetches == 1
    assert all(isinstance(outcome, TokenUnavailable) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 100
    assert len({id(outcome.__cause__) for outcome in outcomes}) == 1


@virtual
async def test_the_cool_down_holds_for_every_way_in(clock):
    """R4: within the cool-down no get(), by key, handle, min_ttl or timeout, starts a fetch."""
    source = ScriptedSource(clock)
    source.error = down(retry_after=100.0)
    async with TokenManager({"a": source}, clock=clock) as manager:
        with pytest.raises(TokenUnavailable):
            await manager.get("a")
        fetches = source.fetches
        for call in (
            manager.get("a"),
            manager.handle("a").get(),
            manager.get("a", min_ttl=5.0),
            manager.get("a", timeout=0),
        ):
            with pytest.raises(TokenUnavailable):
                at_once(call)
        with pytest.raises(TokenUnavailable):
            await manager.get("a", timeout=50.0)
        assert source.fetches == fetches


@virtual
async def test_a_timeout_waits_through_the_outage(clock):
    """R4: get(timeout=) waits through retries and ends with the token of the first that works."""
    source = ScriptedSource(clock)
    source.error = down()
    async with TokenManager(source, clock=clock) as manager:
        waiting = [asyncio.ensure_future(manager.get(timeout=500.0)) for _ in range(20)]
        await clock.advance(100.0)
        assert not any(task.done() for task in waiting)
        source.error = None
        await clock.advance(61.0)
        assert all(task.done() for task in waiting)
        assert len({task.result() for task in waiting}) == 1
        assert source.most == 1


@virtual
@pytest.mark.parametrize("timeout", [0.0, 0.3, 20.0, 100.0])
async def test_a_timeout_ends_when_it_said(clock, timeout):
    """R4: get(timeout=) against a dead endpoint raises after that long, not later, with the failure as cause."""
    source = ScriptedSource(clock, latency=0.1)
    source.error = down()
    async with TokenManager(source, clock=clock) as manager:
        await clock.advance(1.0)
        begun = clock.time()
        with pytest.raises(TokenUnavailable) as caught:
            await manager.get(timeout=timeout)
        assert clock.time() - begun == pytest.approx(timeout, abs=0.11)
        assert caught.value.__cause__ is not None


@virtual
async def test_a_timeout_against_a_hanging_endpoint(clock):
    """R4, F7: the first fetch hangs: a patient caller leaves when it said, others get its failure at the deadline."""
    source = ScriptedSource(clock, latency=1e6)
    async with TokenManager(source, clock=clock, fetch_timeout=30.0) as manager:
        begun = clock.time()
        others = asyncio.ensure_future(manager.get())
        with pytest.raises(TokenUnavailable, match="within 5 s"):
            await manager.get(timeout=5.0)
        assert clock.time() - begun == pytest.approx(5.0, abs=0.01)
        with pytest.raises(TokenUnavailable, match="no answer within 30 s"):
            await others
        assert clock.time() - begun == pytest.approx(30.0, abs=0.01)
        assert source.most == 1


@virtual
async def test_a_hang_never_blocks_readers_of_a_valid_token(clock):
    """F7: while a refresh hangs the old token is read at once."""
    source = ScriptedSource(clock, lifetime=300.0)
    async with TokenManager(source, policy=UNJITTERED, clock=clock) as manager:
        first = await manager.get()
        source.latency = 1e6
        await clock.advance(241.0)
        assert manager.snapshot().keys[None].in_flight
        assert at_once(manager.get()) is first
        await clock.advance(35.0)
        assert at_once(manager.get()) is first
        assert source.flying <= 1


# Rejected


@virtual
async def test_a_rejected_grant(clock):
    """F4: rejected: one event, few probes, the valid token stays; then GrantRejected, slow probes, recovery."""
    source = ScriptedSource(clock, lifetime=3600.0)
    recorder = Recorder()
    async with TokenManager(source, policy=UNJITTERED, clock=clock, observers=[recorder]) as manager:
        first = await manager.get()
        source.error = GrantRejected("invalid_grant", "revoked")
        await clock.advance(2881.0)
        assert at_once(manager.get()) is first
        assert manager.health().rejected == (None,)
        assert manager.health().ready
        assert manager.snapshot().keys[None].condition == "rejected"
        await clock.advance(700.0)
        assert at_once(manager.get()) is first
        await clock.advance(100.0)
        for _ in range(1000):
            with pytest.raises(GrantRejected, match="invalid_grant: revoked"):
                at_once(manager.get())
        with pytest.raises(GrantRejected):
            at_once(manager.get(timeout=100.0))
        await clock.advance(hours=2)
        assert len(recorder.of(RefreshRejected)) == 1
        assert recorder.of(RefreshRejected)[0].serving
        assert not recorder.of(RefreshFailed)
        # A tenth of the lifetime at most, and half of the remaining life of the token, so that a person who acts in
        # time keeps it from running out.
        serving = [at for at in source.at[1:] if at < first.issued_at + 3600.0]
        assert gaps(serving) == pytest.approx(
            [max(36.0, min(300.0, (first.issued_at + 3600.0 - at) / 2.0)) for at in serving[:-1]], abs=0.01
        )
        assert len(serving) <= 12
        assert {round(gap, 1) for gap in gaps(source.at[1 + len(serving) :])} == {300.0}
        assert not manager.health().ready
        source.error = None
        await clock.advance(301.0)
        assert at_once(manager.get()).valid_at(clock.time())
        assert manager.health().rejected == ()
        source.error = GrantRejected("invalid_grant")
        await clock.advance(2900.0)
        assert len(recorder.of(RefreshRejected)) == 2


@virtual
async def test_a_rejected_grant_healed_on_demand(clock):
    """F4: refresh() asks at once, independent of the probe schedule, and ends the rejection."""
    source = ScriptedSource(clock)
    source.error = GrantRejected("invalid_client")
    async with TokenManager(source, clock=clock) as manager:
        with pytest.raises(GrantRejected):
            await manager.get()
        with pytest.raises(GrantRejected):
            await manager.refresh()
        source.error = None
        token = await manager.refresh()
        assert at_once(manager.get()) is token


@virtual
async def test_a_failed_forced_refresh_leaves_the_valid_token(clock):
    """F3: refresh() raises its failure and the old token stays in service."""
    source = ScriptedSource(clock)
    async with TokenManager(source, clock=clock) as manager:
        first = await manager.get()
        source.error = down()
        with pytest.raises(TokenUnavailable):
            await manager.refresh()
        assert at_once(manager.get()) is first


# min_ttl


@virtual
async def test_min_ttl_fetches_once_for_all_who_ask(clock):
    """R2: callers who need more life than the token has share one fetch, and those who do not read on."""
    source = ScriptedSource(clock, latency=1.0)
    async with TokenManager(source, clock=clock) as manager:
        first = await manager.get()
        await clock.advance(2000.0)
        asking = [asyncio.ensure_future(manager.get(min_ttl=3000.0)) for _ in range(100)]
        await clock.advance(0.5)
        assert at_once(manager.get()) is first
        tokens = set(await asyncio.gather(*asking))
        assert len(tokens) == 1
        assert tokens.pop().remaining(clock.time()) >= 3000.0
        assert source.fetches == 2


@virtual
async def test_shorter_than_asked(clock):
    """R2: where even a new token is shorter, the longest obtainable is returned with an event, fetches are bounded."""
    source = ScriptedSource(clock, lifetime=300.0, latency=0.2)
    recorder = Recorder()
    async with TokenManager(source, clock=clock, observers=[recorder]) as manager:
        await manager.get()
        begun = source.fetches
        for _ in range(1200):
            token = await manager.get(min_ttl=600.0)
            assert token.remaining(clock.time()) > 265.0
            await clock.advance(0.5)
        elapsed = clock.time() - source.at[0]
    assert source.fetches - begun <= elapsed / 30.0 + 2
    shorter = recorder.of(ShorterThanAsked)
    assert len(shorter) == 1200
    assert shorter[0].min_ttl == 600.0
    assert shorter[0].remaining == pytest.approx(300.0, abs=1.0)


@virtual
async def test_min_ttl_during_an_outage(clock):
    """R2, R4: if the longer token cannot be fetched now, the valid one is returned with an event."""
    source = ScriptedSource(clock)
    recorder = Recorder()
    async with TokenManager(source, clock=clock, observers=[recorder]) as manager:
        first = await manager.get()
        source.error = down()
        await clock.advance(2000.0)
        for _ in range(100):
            assert await manager.get(min_ttl=3000.0) is first
        assert source.fetches == 2
        assert len(recorder.of(ShorterThanAsked)) == 100


@virtual
async def test_min_ttl_of_a_token_without_expiry(clock):
    """R2: a token of unknown lifetime satisfies every min_ttl."""
    source = ScriptedSource(clock, lifetime=None)
    async with TokenManager(source, clock=clock) as manager:
        first = await manager.get(min_ttl=1e9)
        assert at_once(manager.get(min_ttl=1e9)) is first
        assert source.fetches == 1


@virtual
@pytest.mark.parametrize("bad", [-1, float("nan"), "5", True])
@pytest.mark.parametrize("parameter", ["min_ttl", "timeout"])
async def test_bad_seconds(clock, parameter, bad):
    """R2, R4: a bad min_ttl or timeout names itself, and starts no fetch where there is no token."""
    source = ScriptedSource(clock)
    source.error = down(retry_after=1e9)
    async with TokenManager(source, clock=clock) as manager:
        await clock.advance(1.0)
        with pytest.raises(ValueError, match=parameter):
            await manager.get(**{parameter: bad})
        assert source.fetches == 1


@virtual
async def test_min_ttl_equal_to_what_is_left(clock):
    """R2: a token with exactly as much left as was asked is good enough, and costs no fetch."""
    source = ScriptedSource(clock)
    source.answer = lambda request: Token(
        f"t{source.fetches}", issued_at=clock.time(), expires_at=source.at[-1] + 600.0
    )
    async with TokenManager(source, clock=clock) as manager:
        await manager.get()
        token = at_once(manager.get(min_ttl=600.0))
        assert token.remaining(clock.time()) == 600.0


# Dead tokens


@virtual
async def test_no_dead_token_is_ever_handed_out(clock):
    """R2: across outages, short tokens and late answers, every token from get() is valid at that instant."""
    source = ScriptedSource(clock, lifetime=3.0, latency=0.7)
    retry = RetryPolicy(first=0.5, cap=2.0)
    recorder = Recorder()
    async with TokenManager(source, retry=retry, clock=clock, observers=[recorder]) as manager:
        end = clock.time() + 300.0
        served = refused = 0

        async def read(every: float, **how: Any) -> None:
            nonlocal served, refused
            while clock.time() < end:
                try:
                    token = await manager.get(**how)
                except TokenUnavailable:
                    refused += 1
                else:
                    served += 1
                    assert token.valid_at(clock.time())
                await clock.advance(every)

        async def fail() -> None:
            while clock.time() < end:
                source.error = down()
                await clock.advance(4.1)
                source.error = None
                await clock.advance(7.3)

        await asyncio.gather(
            fail(), *(read(0.05 + 0.013 * i) for i in range(5)), read(0.31, timeout=2.0), read(0.5, min_ttl=2.0)
        )
    assert served > 5000
    assert refused > 100
    assert source.most == 1
    assert len(recorder.of(FetchStarted)) == source.fetches
    assert len(recorder.of(TokenRefreshed)) + len(recorder.of(RefreshFailed)) in {source.fetches, source.fetches - 1}


@virtual
async def test_a_refresh_that_hangs_past_the_expiry(clock):
    """R4: if a refresh hangs and the token expires meanwhile, a caller waits for a second, and not for the fetch."""
    source = ScriptedSource(clock, lifetime=10.0)
    async with TokenManager(source, clock=clock, policy=UNJITTERED, fetch_timeout=30.0) as manager:
        await manager.get()
        source.latency = 1e6
        await clock.advance(10.5)
        assert source.fetches == 2
        for _ in range(3):
            begun = clock.monotonic()
            with pytest.raises(TokenUnavailable):
                await manager.get()
            assert clock.monotonic() - begun <= 1.1
