"""F8: the rules by which a provider is asked: token bucket, budget, and what a failure says. Pure: instants come in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from evertoken import Budget, RateLimit, TransientRefreshError
from evertoken._engine.outage import Outage, says_nothing
from evertoken._engine.provider_state import ProviderState
from evertoken._engine.rate_limit import FIRST_PAUSE, TokenBucket
from evertoken._engine.spending import Spending
from evertoken._model.error_response import failure_from
from evertoken._model.failures import failure_of
from evertoken._model.fetch_request import FetchRequest

HUNDRED = RateLimit(requests=100, per=6)


@given(
    requests=st.integers(1, 500),
    per=st.floats(0.1, 1000.0),
    pauses=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=300),
)
def test_never_more_than_a_window_allows(requests, per, pauses):
    """F8: however fetches come, no window of the provider's sees more than it allows."""
    bucket, now, started = TokenBucket(RateLimit(requests=requests, per=per)), 0.0, []
    for pause in pauses:
        now += pause
        now += bucket.wait(now)
        # A timer may round.
        if bucket.wait(now) > 1e-6:
            now += bucket.wait(now)
        bucket.take(now)
        started.append(now)
    for at in started:
        assert sum(at <= other < at + per * 0.999 for other in started) <= requests


def test_a_burst_and_then_the_rate():
    """F8: with a burst given so many start at once, and the others at the rate."""
    bucket, waits = TokenBucket(RateLimit(requests=10, per=10, burst=5)), []
    for _ in range(8):
        waits.append(bucket.wait(0.0))
        bucket.take(0.0)
    assert waits == pytest.approx([0, 0, 0, 0, 0, 1 / 0.95, 2 / 0.95, 3 / 0.95])


def test_one_at_a_time_where_a_fleet_has_used_up_its_quota():
    """F8: after a fetch that found the quota of the fleet empty, only one at a time tries, until one gets through."""
    bucket = TokenBucket(RateLimit(requests=10, per=10, burst=5))
    bucket.take(0.0)
    bucket.shut()
    waits = []
    for _ in range(2):
        waits.append(bucket.wait(100.0))
        bucket.take(100.0)
    assert waits == pytest.approx([0, 1 / 0.95])
    bucket.opened()
    waits = []
    for _ in range(6):
        waits.append(bucket.wait(200.0))
        bucket.take(200.0)
    assert waits == pytest.approx([0, 0, 0, 0, 0, 1 / 0.95])


@pytest.mark.parametrize(
    ("asked", "longest", "pauses"),
    [(None, 30.0, [1, 2, 4, 8, 16, 30, 30]), (7.0, 30.0, [7] * 7), (None, 0.0, [0] * 7)],
)
def test_pauses_of_refusals_in_a_row(asked, longest, pauses):
    """F8: without a Retry-After each refusal in a row doubles the pause; an answer ends the row."""
    bucket, now, found = TokenBucket(HUNDRED), 100.0, []
    for _ in pauses:
        pause = bucket.refused(now + 0.1, now, asked, longest)
        found.append(pause)
        now += 0.2 + pause
    assert found == pytest.approx(pauses)
    bucket.answered(now)
    assert bucket.refused(now + 0.1, now, asked, longest) == pytest.approx(pauses[0])


def test_refusals_that_were_under_way_together_are_one():
    """F8: only the first of several lowers the rate, and the next one only if it began after that."""
    bucket = TokenBucket(HUNDRED)
    full = bucket.rate(0.0)
    for late in range(10):
        bucket.refused(10.0 + 0.1 * late, 9.9, 1.0, 30.0)
    assert bucket.rate(11.0) == pytest.approx(full / 2.0)
    bucket.answered(13.0)
    bucket.refused(13.2, 13.1, 1.0, 30.0)
    assert bucket.rate(14.0) == pytest.approx(full / 4.0)
    # In a row nothing more is learnt.
    bucket.refused(15.2, 15.1, 1.0, 30.0)
    assert bucket.rate(16.0) == pytest.approx(full / 4.0)


def test_a_lowered_rate_grows_back():
    """F8: the lowered rate stays for some seconds, grows steadily, and never exceeds the configured value."""
    bucket = TokenBucket(HUNDRED)
    full = bucket.rate(0.0)
    bucket.refused(10.0, 9.9, 1.0, 30.0)
    rates = [bucket.rate(11.0 + second) for second in range(12)]
    assert rates[:7] == pytest.approx([full / 2.0] * 7)
    assert rates == sorted(rates)
    assert rates[10] == pytest.approx(full)


def test_an_unlimited_rate_is_what_was_taken_before():
    """F8: where no rate is known the first refusal sets it to what the provider took, its pause included."""
    bucket = TokenBucket(None)
    assert (bucket.free, bucket.rate(0.0), bucket.wait(0.0)) == (True, math.inf, 0.0)
    for number in range(100):
        bucket.answered(100.0 + number * 0.001)
    bucket.refused(100.1, 100.05, 5.9, 30.0)
    assert bucket.rate(106.0) == pytest.approx(100 / 6.0)
    assert bucket.rate(106.0 + 61.0) == math.inf
    assert bucket.free


def test_a_late_refusal_after_a_success():
    """F8: a refusal of a fetch from before the last one, told after a success, makes a pause of the first length."""
    bucket = TokenBucket(HUNDRED)
    assert bucket.refused(10.0, 9.0, None, 30.0) == FIRST_PAUSE
    assert bucket.refused(12.0, 11.0, None, 30.0) == 2.0 * FIRST_PAUSE
    bucket.answered(20.0)
    assert bucket.refused(21.0, 8.0, None, 30.0) == FIRST_PAUSE


def test_another_clock():
    """L1: on another loop, whose clock began anew, a bucket gives nothing for free and is not stuck."""
    bucket = TokenBucket(HUNDRED)
    while bucket.wait(5000.0) == 0.0:
        bucket.take(5000.0)
    assert 0.0 < bucket.wait(10.0) < 0.1
    assert bucket.wait(10.1) == 0.0


# Budgets


@pytest.mark.parametrize("per", [60.0, 3600.0, 86_400.0, 0.7])
def test_periods(per):
    """F8: periods begin at whole multiples of their length since the epoch."""
    spending = Spending(Budget(tokens=3, per=per))
    begin = 1_900_000 * per
    assert [spending.issued(begin + per * part) for part in (0.0, 0.5, 0.99)] == [None, 0.5, 1.0]
    assert spending.until(begin) == pytest.approx(begin + per)
    assert spending.used(begin + per * 1.001) == 0


@pytest.mark.parametrize(
    ("tokens", "told"), [(1, [1.0]), (2, [0.5, 1.0]), (3, [None, 0.5, 1.0]), (5, [None, None, 0.5, 0.8, 1.0])]
)
def test_shares_of_small_budgets(tokens, told):
    """F8: a token that reaches several shares tells the highest one."""
    spending = Spending(Budget(tokens=tokens, per=60.0))
    assert [spending.issued(30.0) for _ in range(tokens + 2)] == [*told, None, None]


@pytest.mark.parametrize(("back", "used"), [(10.0, 4), (59.0, 4), (3600.0, 0)])
def test_a_budget_and_a_clock_that_was_set_back(back, used):
    """F8, T2: a small step back keeps the counts. A clock that was far ahead does not count for ever."""
    spending = Spending(Budget(tokens=10, per=60.0))
    for _ in range(4):
        spending.issued(6001.0)
    assert spending.used(6001.0 - back) == used


def test_a_token_that_was_not_issued_is_given_back():
    """F8: a token that is given back is counted no longer, and there are never fewer than none."""
    spending = Spending(Budget(tokens=10, per=100.0))
    for _ in range(3):
        spending.issued(5.0)
    found = []
    for _ in range(4):
        spending.given_back()
        found.append(spending.used(6.0))
    assert found == [2, 1, 0, 0]


# Classification of failures


@pytest.mark.parametrize(
    ("status", "nothing", "refusal"),
    [
        (None, False, False),
        (399, False, False),
        (400, True, False),
        (403, True, False),
        (408, False, False),
        (429, True, True),
        (500, False, False),
        (503, False, True),
        (504, False, False),
    ],
)
def test_what_a_status_says_of_the_provider(status, nothing, refusal):
    """F8: 429 and 503 slow the provider down. A failure of one request alone is no sign of an outage."""
    failure = failure_from({}, status=status)
    assert failure.status == status
    assert isinstance(failure, TransientRefreshError)
    assert says_nothing(failure) == nothing
    assert ProviderState.is_refusal(failure) == refusal
    assert ProviderState.is_refusal(TransientRefreshError("wait", retry_after=3, status=status))


def test_an_overloaded_provider_is_asked_by_fewer_at_once():
    """F8: each 503 halves the fetches that may run at once, down to two, and each answer allows one more."""
    state, busy = ProviderState("p", named=True), TransientRefreshError("busy", status=503)
    # It has answered a moment ago, and a 503 says nothing of a rate.
    state.answered(9.5)
    rooms = []
    for under_way in (40, 20, 3, 2):
        state.refused(busy, 10.0, 9.0, under_way=under_way, longest=300.0)
        rooms.append(state.room)
    assert rooms == [20.0, 10.0, 2.0, 2.0]
    state.answered(11.0)
    assert state.room == 3.0
    assert state.held_for(11.0) == 0.0
    assert state.bucket.free
    # A source that cannot tell the status, but was asked to wait, has met a rate.
    state.refused(TransientRefreshError("wait", retry_after=5.0), 12.0, 11.5, under_way=2, longest=300.0)
    assert not state.bucket.free
    assert state.held_for(12.0) == 5.0


@pytest.mark.parametrize(
    ("statuses", "kept"), [([400], 400), ([400, 429], 429), ([429, 503], 503), ([400, None], None), ([None], None)]
)
def test_the_status_of_a_group(statuses, kept):
    """F8: of several failures at once, what concerns all keys of a provider counts before what concerns one."""
    group = ExceptionGroup("several", [TransientRefreshError("no", status=status) for status in statuses])
    failure = failure_of(group, FetchRequest("k", None, 30.0))
    assert isinstance(failure, TransientRefreshError)
    assert failure.status == kept


def test_a_summary_a_minute():
    """F8: of the failures after the one that took a provider down one a minute is told."""
    outage, error = Outage(), TransientRefreshError("down")
    told = [outage.failed(second % 3, error, float(second), alone=False) for second in range(200)]
    assert [second for second, news in enumerate(told) if news == "down"] == [2]
    assert [second for second, news in enumerate(told) if news == "still"] == [62, 122, 182]
    assert outage.attempts == 197
