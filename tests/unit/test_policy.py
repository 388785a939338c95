"""The arithmetic of when: what holds for any lifetime, hint, jitter and number of failures."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evertoken import RefreshPolicy, RetryPolicy, Token
from evertoken._model.policy import (
    DEFAULT_LEAD_FRACTION,
    ECHO_STEPS,
    FIRST_RETRY,
    FLOOR,
    LEAST_FLOOR,
    MAX_LEAD_SHARE,
    REFUSAL_CAP,
    REFUSAL_FIRST,
    RETRY_AFTER_CAP,
    RETRY_CAP,
    spread,
)

NOW = 1_893_456_000.0

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

lifetimes = st.floats(min_value=1e-3, max_value=10 * 365 * 86_400.0)
shares = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
jitters = st.floats(min_value=0.0, max_value=1.0)
refresh_policies = st.builds(
    RefreshPolicy,
    lead_fraction=st.floats(min_value=1e-6, max_value=0.5),
    lead_time=st.none() | st.floats(min_value=1e-3, max_value=1e9),
    jitter=jitters,
)


@st.composite
def retry_policies(draw: st.DrawFn) -> RetryPolicy:
    first = draw(st.floats(min_value=1e-6, max_value=1e6))
    return RetryPolicy(
        first=first,
        factor=draw(st.floats(min_value=1.0, max_value=1e308)),
        cap=draw(st.floats(min_value=first, max_value=1e9)),
        jitter=draw(jitters),
        retry_after_cap=draw(st.floats(min_value=0.0, max_value=1e6)),
    )


def token(lifetime: float | None, **fields: Any) -> Token:
    return Token("a", issued_at=NOW, expires_at=None if lifetime is None else NOW + lifetime, **fields)


# When a token is due


@pytest.mark.parametrize(
    ("lifetime", "left"),
    [(3600.0, 720.0), (300.0, 60.0), (60.0, 12.0), (86_400.0, 17_280.0), (10.0, 2.0), (5.0, 1.0)],
)
def test_default_lead(lifetime, left):
    """F1: by default a token is due when a fifth of its own lifetime is left."""
    assert DEFAULT_LEAD_FRACTION == 0.2
    assert RefreshPolicy(jitter=0).due_at(token(lifetime), NOW, 0.0) == pytest.approx(NOW + lifetime - left)


@pytest.mark.parametrize(
    ("lifetime", "lead"),
    [(3600.0, 300.0), (601.0, 300.0), (600.0, 300.0), (599.0, 299.5), (300.0, 150.0), (60.0, 30.0)],
)
def test_lead_time_is_clamped(lifetime, lead):
    """F1: the classic `lead_time=300` takes never more than half a lifetime, so a five-minute token does not spin."""
    policy = RefreshPolicy(lead_time=300, jitter=0)
    assert policy.lead(lifetime) == lead
    assert policy.due_at(token(lifetime), NOW, 0.0) == NOW + lifetime - lead


@given(policy=refresh_policies, lifetime=lifetimes)
def test_lead_never_above_half(policy, lifetime):
    """F1: no setting makes the lead more than half of the lifetime, or nothing at all."""
    assert 0.0 < policy.lead(lifetime) <= lifetime * MAX_LEAD_SHARE


@given(
    policy=refresh_policies,
    lifetime=st.none() | st.floats(min_value=-1e9, max_value=1e15),
    hint=st.none() | st.floats(min_value=-1e15, max_value=1e15),
    late=st.floats(min_value=-1e6, max_value=1e6),
    share=shares,
    echoes=st.integers(0, 10**6),
)
def test_due_is_never_before_the_floor(policy, lifetime, hint, late, share, echoes):
    """F1: there is a least time between the starts of two fetches, for any token, hint and setting."""
    one = token(lifetime, refresh_at=None if hint is None else NOW + hint)
    fetched_at = NOW + late
    due_at = policy.due_at(one, fetched_at, share, echoes=echoes)
    floor = policy.floor(None if lifetime is None else max(one.lifetime or 0.0, 0.0))
    assert LEAST_FLOOR <= floor <= FLOOR
    assert not math.isnan(due_at)
    assert due_at >= fetched_at + floor
    assert (due_at == math.inf) == (lifetime is None and hint is None)


@given(issued=st.floats(-1e308, 1e308), expires=st.floats(-1e308, 1e308), share=shares, policy=refresh_policies)
def test_due_survives_absurd_instants(issued, expires, share, policy):
    """F1: instants at the edge of what a float holds give an instant, and no NaN or overflow."""
    due_at = policy.due_at(Token("a", issued_at=issued, expires_at=expires), issued, share)
    assert not math.isnan(due_at)
    assert due_at >= issued


@given(policy=refresh_policies, lifetime=lifetimes, share=shares, hint=st.none() | st.floats(0.0, 1.0))
def test_jitter_only_advances(policy, lifetime, share, hint):
    """F2: jitter makes a refresh earlier and never later, by no more than its part of the lead."""
    one = token(lifetime, refresh_at=None if hint is None else NOW + hint * lifetime)
    without = policy.due_at(one, NOW, 0.0)
    advanced = policy.due_at(one, NOW, share)
    assert advanced <= without
    assert advanced == policy.due_at(one, NOW, share)
    if hint is None:
        assert without - advanced <= policy.lead(lifetime) * policy.jitter * share + 1e-5


@given(lifetime=st.floats(min_value=4.0, max_value=1e8), share=shares, lead_time=st.none() | st.floats(1.0, 1e9))
def test_due_while_it_lives(lifetime, share, lead_time):
    """F1: with the default jitter a token of a few seconds or more is due in its second half, before its end."""
    due_at = RefreshPolicy(lead_time=lead_time).due_at(token(lifetime), NOW, share)
    assert NOW + lifetime * 0.44 <= due_at < NOW + lifetime


@pytest.mark.parametrize(
    ("lifetime", "hint", "due"),
    [
        (3600.0, 1800.0, 1800.0),
        (3600.0, 3599.0, 3599.0),
        (3600.0, 60.0, 60.0),
        (3600.0, 0.0, 1.0),
        (3600.0, -900.0, 1.0),
        (3600.0, 3600.0, 2880.0),
        (3600.0, 7200.0, 2880.0),
        (None, 1800.0, 1800.0),
        (None, 0.0, FLOOR),
        (None, None, math.inf),
    ],
)
@pytest.mark.parametrize("lead_time", [None, 720.0])
def test_hint_wins(lifetime, hint, due, lead_time):
    """F1: the server's hint goes before both leads, unless it lies beyond the expiry."""
    one = token(lifetime, refresh_at=None if hint is None else NOW + hint)
    assert RefreshPolicy(jitter=0, lead_time=lead_time).due_at(one, NOW, 0.5) == pytest.approx(NOW + due)


def test_echoes_are_asked_for_less_often():
    """F1: a source that brings back the same token is asked in growing steps, until that token is dead."""
    policy = RefreshPolicy()
    one = token(25.0)
    waits = [policy.due_at(one, NOW + 20.0, 0.5, echoes=echoes) - NOW - 20.0 for echoes in range(1, 7)]
    assert waits == [5.0] * 6
    one = token(1000.0)
    waits = [policy.due_at(one, NOW + 900.0, 0.5, echoes=echoes) - NOW - 900.0 for echoes in range(1, 7)]
    assert waits == [*ECHO_STEPS, ECHO_STEPS[-1], ECHO_STEPS[-1]]
    assert policy.due_at(one, NOW + 5000.0, 0.5, echoes=9) == NOW + 5000.0 + FLOOR


# Jitter


def test_spread_is_stable_and_even():
    """F2: the share is the same for the same key and process, and a fleet started together spreads out evenly."""
    assert spread("seed", "key") == spread("seed", "key")
    assert spread("seed", "key") != spread("other", "key")
    assert spread("a", "bc") != spread("ab", "c")
    assert spread(1) != spread("1")
    found = sorted(spread("seed", index) for index in range(2000))
    assert 0.0 <= found[0] < found[-1] < 1.0
    assert all(abs(share - index / 2000) < 0.05 for index, share in enumerate(found))


@given(st.lists(st.none() | st.text() | st.integers() | st.tuples(st.text(), st.booleans()), max_size=4))
def test_spread_takes_any_key(parts):
    """F2: any key has a share in [0, 1)."""
    assert 0.0 <= spread(*parts) < 1.0


# When to try again


def test_retry_schedule():
    """F3: by default about 5 s, then doubling with full jitter up to a minute: the schedule itself, step by step."""
    policy = RetryPolicy()
    assert [policy.delay(n, 0.0) for n in range(1, 8)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    assert [policy.delay(n, 0.5) for n in range(1, 6)] == [5.0, 5.0, 10.0, 20.0, 30.0]
    assert policy.delay(5, 0.999) == FIRST_RETRY / 5.0


@pytest.mark.parametrize(
    ("failures", "left", "wait"),
    [(1, None, 5.0), (1, 100.0, 5.0), (1, 8.0, 4.0), (1, 2.0, 1.0), (1, 0.1, 1.0), (3, 8.0, 4.0), (3, 2.0, 1.0)],
)
def test_retry_before_the_token_expires(failures, left, wait):
    """F3: a wait takes at most half of the life that is left, but a fifth of the first wait at least."""
    assert RetryPolicy().delay(failures, 0.0, left=left) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("lifetime", "first", "cap"), [(3600, 5, 60), (60, 3, 15), (10, 0.5, 2.5), (1, 0.1, 0.25), (0.1, 0.1, 0.1)]
)
def test_retries_of_short_tokens(lifetime, first, cap):
    """F1: a short-lived token is tried again sooner: a twentieth of its life at first, a quarter at most."""
    policy = RetryPolicy(jitter=0)
    assert policy.delay(1, 0.0, lifetime=lifetime) == pytest.approx(first)
    assert policy.delay(99, 0.0, lifetime=lifetime) == pytest.approx(cap)


optional_seconds = st.none() | st.floats(min_value=-1e9, max_value=1e12)


@given(
    policy=retry_policies(),
    failures=st.integers(-1, 10**6),
    share=shares,
    lifetime=optional_seconds,
    left=st.none() | st.floats(min_value=0.0, max_value=1e12),
)
def test_delay_is_bounded(policy, failures, share, lifetime, left):
    """F3: a wait is never below the least time, never above the cap, after one failure or a million."""
    delay = policy.delay(failures, share, lifetime=lifetime, left=left)
    assert LEAST_FLOOR <= delay <= max(policy.cap, LEAST_FLOOR)


@given(policy=retry_policies(), lifetime=optional_seconds)
def test_ceiling_is_monotone(policy, lifetime):
    """F3: with each failure the ceiling of the wait grows, until it stands at the cap."""
    ceilings = [policy.delay(failures, 0.0, lifetime=lifetime) for failures in (*range(1, 60), 10**3, 10**6)]
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] <= max(policy.cap, LEAST_FLOOR)


@given(policy=retry_policies(), failures=st.integers(2, 200), share=shares, other=shares)
def test_jitter_of_a_retry_only_shortens(policy, failures, share, other):
    """F3: full jitter draws below the ceiling, and a larger share draws lower."""
    low, high = sorted((share, other))
    assert policy.delay(failures, high) <= policy.delay(failures, low) <= policy.delay(failures, 0.0)


@pytest.mark.parametrize("factor", [1.0, 1.001, 1.05, 2, 10**10, 1e300])
def test_no_factor_overflows_and_every_one_arrives(factor):
    """F3: any factor above one arrives at the cap, and none overflows."""
    assert RetryPolicy(factor=factor, jitter=0).delay(10**6, 0.0) == (FIRST_RETRY if factor == 1.0 else RETRY_CAP)


@given(
    policy=retry_policies(),
    share=shares,
    asked=st.floats(allow_infinity=True, allow_nan=True),
    failures=st.integers(1, 100),
    left=st.none() | st.floats(0.0, 1e6),
)
def test_retry_after_wins_and_is_capped(policy, share, asked, failures, left):
    """F3: Retry-After wins over the schedule, is never undercut, and is capped, spread apart by at most a tenth."""
    delay = policy.delay(failures, share, retry_after=asked, left=left)
    assert delay > 0.0
    if math.isnan(asked):
        assert delay <= max(policy.cap, LEAST_FLOOR)
    else:
        honoured = min(max(asked, 0.0), policy.retry_after_cap)
        assert honoured <= delay <= max(honoured * 1.1, policy.first, LEAST_FLOOR) * (1 + 1e-12)


def test_retry_after_is_no_hot_loop():
    """F3: a Retry-After of zero, or in the past, still means the first wait. An endless one means five minutes."""
    assert RetryPolicy().delay(3, 0.0, retry_after=0.0) == FIRST_RETRY
    assert RetryPolicy().delay(3, 0.0, retry_after=-5.0) == FIRST_RETRY
    assert RetryPolicy().delay(3, 0.0, retry_after=math.inf) == RETRY_AFTER_CAP == 300.0


@given(failures=st.integers(1, 50), share=shares, left=st.floats(0.0, 1e6), lifetime=lifetimes)
def test_a_wait_leaves_room_before_the_end(failures, share, left, lifetime):
    """F3: while a token is in service, no wait takes more than half of its remaining life, down to a least wait."""
    delay = RetryPolicy().delay(failures, share, lifetime=lifetime, left=left)
    first = min(FIRST_RETRY, max(LEAST_FLOOR, lifetime / 20.0))
    assert delay <= max(left / 2.0, first / 5.0, LEAST_FLOOR) + 1e-9


@pytest.mark.parametrize("refusals", [-1, 0, 1, 2, 3, 9, 10, 11, 10**3, 10**6])
def test_refusal_cooldown(refusals):
    """U1: the cool-down after refused tokens doubles from a second up to five minutes, and never overflows."""
    expected = min(REFUSAL_CAP, REFUSAL_FIRST * 2 ** min(max(refusals - 1, 0), 60))
    assert RetryPolicy().refusal_cooldown(refusals) == expected


@pytest.mark.parametrize(
    ("lifetime", "left", "wait"),
    [
        (None, None, 300.0),
        (0.0, None, 300.0),
        (86_400.0, None, 300.0),
        (3000.0, None, 300.0),
        (3600.0, 100.0, 50.0),
        (300.0, None, 30.0),
        (300.0, 59.0, 29.5),
        (300.0, 0.5, 3.0),
        (5.0, None, 1.0),
        (0.01, 0.001, 1.0),
    ],
)
def test_probe_delay(lifetime, left, wait):
    """
    F4: the probe waits 300 s, a tenth of the lifetime or half of the remaining life at most, and a second at least.
    """
    assert RetryPolicy().probe_delay(lifetime, left) == wait
    assert RetryPolicy(probe=0.01).probe_delay(lifetime, left) == LEAST_FLOOR


@pytest.mark.parametrize(("patience", "wait"), [(1e-6, LEAST_FLOOR), (0.5, 0.5), (1.0, 1.0), (60.0, 1.0)])
def test_demand_delay(patience, wait):
    """R4: while somebody asks, the next attempt starts a second after the last one at the latest."""
    assert RetryPolicy(patience=patience).demand_delay() == wait


@given(policy=refresh_policies, lifetime=lifetimes, share=shares)
def test_the_lead_with_its_jitter_is_never_above_half(policy, lifetime, share):
    """F1: no lead makes a token due in its first half, jitter included."""
    assert policy.due_at(token(lifetime), NOW, share) >= NOW + lifetime / 2.0 - 1e-6


# Mistakes


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, -1, "1", None, True, [], 10**400], ids=lambda bad: repr(bad)[:8]
)
@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (RefreshPolicy, "lead_fraction"),
        (RefreshPolicy, "jitter"),
        *((RetryPolicy, one.name) for one in dataclasses.fields(RetryPolicy)),
    ],
)
def test_options_are_checked_by_name(policy, name, bad):
    """F1: a value that is not a finite number, or is negative, is refused by name when the policy is made."""
    with pytest.raises(ValueError, match=name):
        policy(**{name: bad})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lead_fraction": 0}, "lead_fraction must be greater than 0 and at most 0.5"),
        ({"lead_fraction": 0.51}, "lead_fraction"),
        ({"lead_time": 0}, "lead_time"),
        ({"lead_time": math.nan}, "lead_time"),
        ({"lead_time": "300"}, "lead_time"),
        ({"jitter": 1.01}, "jitter must be at least 0 and at most 1"),
        ({"default_lifetime": 0}, "default_lifetime"),
        ({"default_lifetime": math.inf}, "default_lifetime"),
    ],
)
def test_refresh_options_out_of_range(options, message):
    """F1: a lead above half, or of nothing, is refused when the policy is made."""
    with pytest.raises(ValueError, match=message):
        RefreshPolicy(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"first": 0},
        {"factor": 0.99},
        {"cap": 4.9},
        {"first": 61.0},
        {"jitter": 1.1},
        {"probe": 0},
        {"patience": 0},
        {"retry_after_cap": -1},
    ],
)
def test_retry_options_out_of_range(options):
    """F3: a schedule that would be a hot loop, or shrink, is refused when the policy is made."""
    with pytest.raises(ValueError, match="must be"):
        RetryPolicy(**options)


def test_policies_are_values():
    """F1: policies are frozen, keyword-only values, equal by their fields."""
    assert RefreshPolicy() == RefreshPolicy(lead_fraction=0.2)
    assert hash(RetryPolicy()) == hash(RetryPolicy())
    with pytest.raises(AttributeError):
        RefreshPolicy().jitter = 0.0
    with pytest.raises(TypeError):
        RefreshPolicy(0.2)
