"""F8: the token bucket and the token count of one quota, as stores keep them."""

from __future__ import annotations

import pytest

from evertoken._model.leases import Quota, Unused
from evertoken._model.tally import GRAIN, Tally

DAY = 86_400.0
#: At noon of a day.
NOW = 20_000.5 * DAY


@pytest.mark.parametrize(
    ("days", "used"),
    [
        (0.0, 4),
        (0.4, 4),
        # The clock was set back into the day before, whose tokens are spent too.
        (-0.6, 4),
        (-1.4, 4),
        # It was far ahead before.
        (-1.6, 1),
        (-300.0, 1),
        # The next day, and a later one.
        (0.6, 1),
        (30.0, 1),
    ],
)
def test_the_period_of_a_clock_that_was_set(days, used):
    """F8: a clock that goes back a little frees no tokens, and one that was far ahead holds none for ever."""
    quota, tally = Quota(name="q", per=DAY, tokens=100), Tally()
    for _ in range(3):
        tally.take(quota, NOW)
    wait, spent = tally.take(quota, NOW + days * DAY)
    assert wait == 0.0
    assert (spent.used, tally.used) == (used, used)


def test_a_burst_and_then_the_rate():
    """F8: so many requests start at once as the burst says, and the next ones at the rate."""
    quota, tally = Quota(name="q", rate=0.75, burst=3.5), Tally()
    waits = [tally.take(quota, NOW)[0] for _ in range(4)]
    assert waits == pytest.approx([0.0, 0.0, 0.0, 0.5 / 0.75 - GRAIN])
    # A request that had to wait took nothing.
    assert tally.take(quota, NOW + 0.5 / 0.75)[0] == 0.0
    assert tally.take(quota, NOW + 0.5 / 0.75)[0] == pytest.approx(1.0 / 0.75 - GRAIN, abs=1e-6)


def test_what_is_given_back():
    """F8: a request and a token that were not used can be taken again; a token of another period cannot."""
    quota, tally = Quota(name="q", rate=1.0, burst=1.0, per=DAY, tokens=2), Tally()
    _, spent = tally.take(quota, NOW)
    assert tally.take(quota, NOW)[0] > 0.0
    tally.give_back(Unused(quota=quota, request=True, period=spent.period), NOW)
    assert (tally.take(quota, NOW)[0], tally.used) == (0.0, 1)
    tally.give_back(Unused(quota=quota, period=spent.period - 1), NOW)
    assert tally.used == 1
