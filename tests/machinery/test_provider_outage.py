"""F8, R4: a provider that is down: one attempt at a time stands for all its keys, and one line of log as well."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.gated import virtual
from tests.machinery.log_lines import lines
from tests.machinery.provider import Provider
from tests.machinery.scripted import Recorder, ScriptedSource, down, gaps

from evertoken import GrantRejected, RateLimit, RefreshPolicy, TokenManager, TokenUnavailable
from evertoken.events import ProviderDown, ProviderStillDown, ProviderUp, RefreshFailed, TokenRefreshed
from evertoken.stores import MemoryStore

__all__ = ["lines"]

NAME = Provider.provider
HOUR = 3600.0
UNJITTERED = RefreshPolicy(jitter=0.0)

# Long ones, on the virtual loop alone.
once = pytest.mark.asyncio(loop_factories=["virtual"])


class Named(ScriptedSource):
    """A source of one provider."""

    provider = NAME


def managed(provider: Provider, clock: Any, **how: Any) -> TokenManager[Any, Any]:
    return TokenManager(source_for=lambda key: provider, clock=clock, idle_after=None, **how)


async def served(tokens: TokenManager[Any, Any], keys: range, clock: Any, within: float) -> float:
    """Return after how many seconds all *keys* have a token."""
    began = clock.monotonic()
    while not all(tokens.peek(key) is not None for key in keys):
        assert clock.monotonic() - began <= within
        await clock.advance(0.5)
    return float(clock.monotonic() - began)


FAILURES = {
    "no connection": {},
    "500": {"status": 500, "ambiguous": True},
    "503": {"status": 503},
    "503 with Retry-After": {"status": 503, "retry_after": 5},
    "no answer": None,
}


@once
@pytest.mark.parametrize("demand", ["nobody asks", "callers ask", "callers wait"])
@pytest.mark.parametrize("kind", FAILURES)
async def test_two_hours_with_a_thousand_keys(clock, lines, kind, demand):
    """F8, R4: at most 500 lines and an attempt a second; within a minute everybody is served, without a burst."""
    provider, recorder, keys = Provider(clock, lifetime=HOUR), Recorder(), range(1000)
    async with managed(provider, clock, observers=[recorder]) as tokens:
        await asyncio.gather(*(tokens.get(key) for key in keys))
        began, known = clock.monotonic(), len(provider.at)
        provider.hangs = FAILURES[kind] is None
        provider.error = None if provider.hangs else down("down", **FAILURES[kind])
        asking: list[asyncio.Task[Any]] = []

        async def ask() -> None:
            for number in range(100_000):
                await asyncio.gather(tokens.get(number * 7 % 1000), return_exceptions=True)
                await clock.advance(0.4)

        if demand == "callers ask":
            asking.append(asyncio.ensure_future(ask()))
        await clock.advance(2 * HOUR)
        if demand == "callers wait":
            asking += [asyncio.ensure_future(tokens.get(key, timeout=300.0)) for key in keys]
            await clock.advance(35.0)
        provider.error, provider.hangs, provider.most = None, False, 0
        told = recorder.of(ProviderDown)
        assert len(told) == 1
        during = [
            at for at in provider.at[known:] if at > began + told[0].at - clock.time() + clock.monotonic() - began
        ]
        # A hang of before lasts until its deadline.
        await served(tokens, keys, clock, 60.0)
        assert provider.most <= 16
        if demand == "callers ask":
            asking[0].cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    assert sum(lines.values()) <= 500
    assert lines["RefreshFailed"] <= 16
    # The requests that were under way when it went down are not among them.
    assert min(gaps(during), default=1.0) >= 0.99
    assert (len(recorder.of(ProviderUp)), lines["ProviderDown"], lines["ProviderUp"]) == (1, 1, 1)
    assert 100 <= len(recorder.of(ProviderStillDown)) + 60 <= 190
    up = recorder.of(ProviderUp)[0]
    assert up.took == pytest.approx(up.at - up.since)
    assert up.since == pytest.approx(told[0].at)
    # Fetches that were under way when it went down fail within the outage, and are not attempts of it.
    assert 0 <= sum(event.outage for event in recorder.of(RefreshFailed)) - up.attempts <= 3


@once
@pytest.mark.parametrize("demand", [False, True])
async def test_lost_answers_of_rotating_keys(clock, lines, demand):
    """F8, K4: with a store as well, answers that are lost in an outage are no lines of their own."""

    class Rotating(Provider):
        rotates = True

        async def fetch(self, request: Any, /) -> Any:
            request.sending()
            token, lifetime = await super().fetch(request)
            return {"access_token": token, "expires_in": lifetime, "refresh_token": f"refresh-{token}"}

    provider, keys = Rotating(clock, lifetime=HOUR), range(100)
    async with managed(provider, clock, store=MemoryStore(), namespace="app") as tokens:
        await asyncio.gather(*(tokens.get(key) for key in keys))
        provider.error = down("500", status=500, ambiguous=True)
        for number in range(7200):
            if demand:
                await asyncio.gather(tokens.get(number % 100), return_exceptions=True)
            await clock.advance(1.0)
        assert sum(lines.values()) <= 150
        provider.error = None
        await served(tokens, keys, clock, 60.0)


@once
async def test_recovery_within_the_rate(clock):
    """F8: after an outage the waiting keys go through at the rate that the provider allows, and cost no refusal."""
    provider, keys = Provider(clock, limit=100, lifetime=HOUR), range(500)
    async with managed(provider, clock, rate_limits={NAME: RateLimit(requests=100, per=6)}) as tokens:
        await asyncio.gather(*(tokens.get(key, timeout=100.0) for key in keys))
        provider.error = down()
        await clock.advance(2 * HOUR)
        waiting = [asyncio.ensure_future(tokens.get(key, timeout=100.0)) for key in keys]
        await clock.advance(5.0)
        provider.error = None
        assert await served(tokens, keys, clock, 45.0) >= 25.0
        await asyncio.gather(*waiting)
    assert not provider.refused


@once
async def test_slow_start(clock):
    """F8: where no rate is known, what waited goes through with few fetches at first, and more with each answer."""
    provider = Provider(clock, latency=1.0)
    async with managed(provider, clock) as tokens:
        provider.error = down()
        waiting = [asyncio.ensure_future(tokens.get(key, timeout=300.0)) for key in range(100)]
        await clock.advance(30.0)
        provider.error, known = None, len(provider.at)
        await asyncio.gather(*waiting)
    at = [at - provider.issued[0] for at in provider.at[known:]]
    first = sum(0.0 <= gap < 0.5 for gap in at)
    assert first <= 2
    assert sum(0.0 <= gap < 2.5 for gap in at) <= 16
    assert provider.most == 16


# Failures that take a provider down


def steps(text: str) -> list[tuple[str, str]]:
    """Return key and outcome of each step, as of "a! b? a+"."""
    return [(step[0], step[1:]) for step in text.split()]


OUTCOMES = {
    "!": down("no connection"),
    "500": down("500", status=500, ambiguous=True),
    "429": down("429", status=429),
    "400": down("400", status=400),
    "403": down("403", status=403),
    "408": down("408", status=408),
    "r": GrantRejected("invalid_grant"),
}


@virtual
@pytest.mark.parametrize(
    ("play", "is_down"),
    [
        ("a! b! c!", True),
        ("a! b! a!", True),
        ("a500 b500 c408", True),
        ("a! a! b!", True),
        ("a! b!", False),
        ("a! b! c+ d! e!", False),
        ("a! b! c+ d! e! f!", True),
        # A rejection, or an answer to one request, says nothing in either direction.
        ("ar br cr dr er", False),
        ("a400 b403 c400 d403", False),
        ("a429 b429 c429 d429", False),
        ("a! br b! c400 c!", True),
        # One key alone, while others are known, is no outage of the provider.
        ("a! a! a! a! a! a! a!", False),
    ],
)
async def test_what_takes_a_provider_down(clock, play, is_down):
    """F8: three failures in a row, over several keys and with no success between, take a provider down."""
    sources = {key: Named(clock, latency=0.01) for key in "abcdefg"}
    recorder = Recorder()
    async with TokenManager(sources, clock=clock, observers=[recorder]) as tokens:
        await asyncio.gather(*(tokens.get(key) for key in sources))
        for key, outcome in steps(play):
            await clock.advance(1.1)
            sources[key].error = OUTCOMES.get(outcome)
            await asyncio.gather(tokens.refresh(key), return_exceptions=True)
        assert (tokens.snapshot().providers[NAME].down_since is not None) == is_down
        assert len(recorder.of(ProviderDown)) == is_down


@virtual
@pytest.mark.parametrize("failures", [4, 5])
async def test_the_only_key_of_a_provider(clock, failures, lines):
    """F8: five failures of the only key take its provider down; then its failures are no lines of their own."""
    source, recorder = ScriptedSource(clock), Recorder()
    source.error = down()
    async with TokenManager(source, clock=clock, observers=[recorder]) as tokens:
        for _ in range(failures):
            await asyncio.gather(tokens.refresh(), return_exceptions=True)
            await clock.advance(1.0)
        assert len(recorder.of(ProviderDown)) == (failures == 5)
        assert lines["RefreshFailed"] == 4
        await clock.advance(1800.0)
        assert lines["RefreshFailed"] <= 5
        source.error = None
        await tokens.get(timeout=70.0)
    assert len(recorder.of(ProviderUp)) == 1
    # Without a name of its own, it is named after the endpoint.
    assert recorder.of(ProviderDown)[0].provider == "ScriptedSource"


# Callers


@virtual
async def test_callers_of_a_provider_that_is_down(clock):
    """R4: a caller is told at once why and until when; while an attempt is under way it waits a second at most."""
    provider = Provider(clock, latency=0.05)
    async with managed(provider, clock) as tokens:
        provider.error = down("no route to host")
        await asyncio.gather(*(tokens.get(key) for key in range(20)), return_exceptions=True)
        for key in range(100, 150):
            asked_at, asked = clock.time(), clock.monotonic()
            with pytest.raises(TokenUnavailable) as caught:
                await tokens.get(key)
            assert clock.monotonic() - asked <= 1.01
            assert str(caught.value.__cause__) == "no route to host"
            assert caught.value.retry_at is not None
            assert asked_at <= caught.value.retry_at <= clock.time() + 1.1
            await clock.advance(0.13)
        provider.hangs = True
        await clock.advance(2.0)
        for key in range(200, 203):
            asked = clock.monotonic()
            with pytest.raises(TokenUnavailable, match=f"from {NAME} now: it is down since"):
                await tokens.get(key)
            assert clock.monotonic() - asked == pytest.approx(1.0, abs=0.05)


@virtual
@pytest.mark.parametrize("every", [0.1, 0.4, 1.0])
async def test_back_under_demand(clock, every):
    """R4: while callers ask for any keys, an attempt starts each second, and all are served soon after."""
    provider = Provider(clock)
    async with managed(provider, clock) as tokens:
        provider.error = down()
        await asyncio.gather(*(tokens.get(key) for key in range(50)), return_exceptions=True)
        known, key = len(provider.at), 0
        end = clock.monotonic() + 60.0
        while clock.monotonic() < end:
            key = (key + 7) % 50
            with pytest.raises(TokenUnavailable):
                await tokens.get(key)
            await clock.advance(every)
        between = gaps(provider.at[known:])
        assert min(between) >= 0.99
        assert max(between) <= 1.1 + every
        provider.error, back = None, clock.monotonic()
        while tokens.peek(key) is None:
            key = (key + 7) % 50
            await asyncio.gather(tokens.get(key), return_exceptions=True)
            await clock.advance(every)
        assert clock.monotonic() - back <= 1.5 + 2 * every
        await clock.advance(3.0)
        assert all(tokens.peek(key) is not None for key in range(50))


@virtual
async def test_refresh_by_hand_in_an_outage(clock):
    """R4, F8: refresh() of many keys makes no attempt of its own in an outage, but is told within a second or so."""
    provider = Provider(clock)
    async with managed(provider, clock) as tokens:
        keys = range(100)
        await asyncio.gather(*(tokens.get(key) for key in keys))
        provider.error = down()
        await asyncio.gather(*(tokens.refresh(key) for key in keys), return_exceptions=True)
        known, began = len(provider.at), clock.monotonic()
        outcomes = await asyncio.gather(*(tokens.refresh(key) for key in keys), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {TokenUnavailable}
        assert clock.monotonic() - began <= 1.2
        assert len(provider.at) - known <= 2
        assert all(tokens.peek(key) is not None for key in keys)
        provider.error = None
        await clock.advance(1.0)
        assert len(set(await asyncio.gather(*(tokens.refresh(key) for key in keys)))) == 100


@virtual
async def test_min_ttl_in_an_outage(clock):
    """R2: a caller who asks for more life than the valid token has gets that token at once."""
    provider = Provider(clock, lifetime=HOUR)
    async with managed(provider, clock) as tokens:
        first = [await tokens.get(key) for key in range(5)]
        provider.error = down()
        await asyncio.gather(*(tokens.refresh(key) for key in range(4)), return_exceptions=True)
        await clock.advance(1800.0)
        asked = clock.monotonic()
        assert await tokens.get(4, min_ttl=3000.0) is first[4]
        assert clock.monotonic() - asked <= 1.1


# Life


@virtual
@pytest.mark.parametrize("start", ["warm", "require"])
async def test_a_start_in_an_outage(clock, start):
    """L1: a start during an outage is not held up by the keys that wait, and says why it fails."""
    sources = {key: Named(clock) for key in range(40)}
    for source in sources.values():
        source.error = down("no route to host")
    tokens: TokenManager[Any, Any] = TokenManager(sources, clock=clock, start=start, start_timeout=10.0)
    began = clock.monotonic()
    if start == "require":
        with pytest.raises(TokenUnavailable, match="no route to host"):
            await tokens.start()
    else:
        await tokens.start()
        await tokens.aclose()
    assert clock.monotonic() - began <= 10.1


@virtual
async def test_an_outage_outlives_a_session(clock, lines):
    """F8: a manager that is started again goes on with one attempt at a time, begins at once, and tells of it once."""
    provider, recorder = Provider(clock), Recorder()
    tokens = managed(provider, clock, observers=[recorder])
    async with tokens:
        provider.error = down()
        await asyncio.gather(*(tokens.get(key) for key in range(30)), return_exceptions=True)
        await clock.advance(20.0)
    assert tokens.snapshot().providers[NAME].down_since is not None
    known, began = len(provider.at), clock.monotonic()
    async with tokens:
        await clock.advance(5.0)
        assert provider.at[known] == pytest.approx(began, abs=0.1)
        assert min(gaps(provider.at[known:]), default=1.0) >= 0.99
        provider.error = None
        await asyncio.gather(*(tokens.get(key, timeout=70.0) for key in range(30)))
    assert (len(recorder.of(ProviderDown)), len(recorder.of(ProviderUp))) == (1, 1)
    assert lines["ProviderDown"] == 1


@virtual
async def test_idle_keys_that_wait_for_a_provider_are_dropped(clock):
    """F6, F8: a key that nobody uses does not stay open because its refresh waits for a provider that is down."""
    provider = Provider(clock, lifetime=600.0)
    async with TokenManager(source_for=lambda key: provider, clock=clock, idle_after=900.0) as tokens:
        await asyncio.gather(*(tokens.get(key) for key in range(50)))
        provider.error = down()
        await clock.advance(2 * HOUR)
        assert len(tokens.snapshot().keys) <= 1
        provider.error, known = None, len(provider.issued)
        await clock.advance(200.0)
        assert len(provider.issued) - known <= 1
        await tokens.get(7)


@virtual
async def test_a_dead_grant_is_no_probe(clock):
    """F4, F8: a rejection during an outage neither ends it nor keeps the other keys from their attempts."""
    sources = {key: Named(clock, latency=0.01) for key in range(10)}
    recorder = Recorder()
    async with TokenManager(sources, clock=clock, observers=[recorder], policy=UNJITTERED) as tokens:
        await asyncio.gather(*(tokens.get(key) for key in sources))
        for key, source in sources.items():
            source.error = GrantRejected("invalid_grant") if key < 5 else down()
        await clock.advance(2 * HOUR)
        assert len(recorder.of(ProviderDown)) == 1
        assert not recorder.of(ProviderUp)
        for key, source in sources.items():
            source.error = source.error if key < 5 else None
        known = len(recorder.of(TokenRefreshed))
        await clock.advance(65.0)
        assert len(recorder.of(TokenRefreshed)) - known == 5
        assert tokens.health().rejected == (0, 1, 2, 3, 4)
