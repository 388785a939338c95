"""
Who may run, and who is next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evertoken._engine.rate_limit import Lanes


class Calls:
    """
    Calls that remember the order they were started in.
    """

    def __init__(self) -> None:
        self.started: list[Any] = []

    def __call__(self, name: Any, *, starts: bool = True) -> Callable[[], bool]:
        def start() -> bool:
            self.started.append(name)
            return starts

        return start


def test_a_cap_for_each_provider():
    """F6: so many calls run at once for one provider, and another provider's are not counted."""
    lanes, calls = Lanes(2), Calls()
    for name in ("a1", "a2", "a3", "b1"):
        lanes.enter(name[0], calls(name), urgent=False)
    assert calls.started == ["a1", "a2", "b1"]
    assert lanes.queued == 1
    lanes.leave("b")
    assert calls.started == ["a1", "a2", "b1"]
    lanes.leave("a")
    assert calls.started[-1] == "a3"
    assert lanes.queued == 0


def test_first_come_first_served_and_the_urgent_before():
    """F6: waiting calls start in order, those that somebody waits for before the others."""
    lanes, calls = Lanes(1), Calls()
    lanes.enter("p", calls("running"), urgent=False)
    for name in ("w1", "w2", "u1", "u2", "w3"):
        lanes.enter("p", calls(name), urgent=name.startswith("u"))
    for _ in range(5):
        lanes.leave("p")
    assert calls.started == ["running", "u1", "u2", "w1", "w2", "w3"]


def test_what_does_not_start_takes_no_place():
    """F6: a call that has nothing left to start gives its place to the next one at once."""
    lanes, calls = Lanes(1), Calls()
    lanes.enter("p", calls("nothing", starts=False), urgent=True)
    lanes.enter("p", calls("first"), urgent=False)
    for name in ("stale1", "stale2"):
        lanes.enter("p", calls(name, starts=False), urgent=True)
    lanes.enter("p", calls("second"), urgent=False)
    lanes.leave("p")
    assert calls.started == ["nothing", "first", "stale1", "stale2", "second"]
    assert lanes.queued == 0


def test_lanes_are_dropped():
    """F6: a provider that nobody uses costs nothing."""
    lanes, calls = Lanes(3), Calls()
    for turn in range(1000):
        lanes.enter(turn, calls(turn, starts=turn % 2 == 0), urgent=False)
    for turn in range(1000):
        lanes.leave(turn)
    assert not lanes._lanes
    lanes.leave("unknown")


def test_counted_while_lanes_come_and_go():
    """L2: what waits can be counted on one thread while lanes come and go on another."""
    lanes, calls = Lanes(1), Calls()

    class Interrupted(deque[Callable[[], bool]]):
        def __len__(self) -> int:
            # As where the other thread has its turn.
            lanes.enter(len(calls.started), calls("other"), urgent=False)
            return super().__len__()

    for name in ("a", "a", "b"):
        lanes.enter(name, calls(name), urgent=False)
    lanes._lanes["a"].urgent = Interrupted()
    assert lanes.queued == 1


def test_clear_and_reset():
    """L1: clearing forgets all that wait, resetting all that run as well, and a late end is harmless."""
    lanes, calls = Lanes(1), Calls()
    for name in ("running", "waiting"):
        lanes.enter("p", calls(name), urgent=False)
    lanes.clear()
    assert lanes.queued == 0
    lanes.leave("p")
    assert calls.started == ["running"]
    lanes.enter("p", calls("again"), urgent=False)
    lanes.reset()
    lanes.leave("p")
    lanes.enter("p", calls("after"), urgent=False)
    assert calls.started == ["running", "again", "after"]


def test_a_call_that_ends_while_it_starts():
    """F6: a call that ends before its start returns, as under an eager task factory, leaves the count right."""
    lanes, calls = Lanes(1), Calls()

    def eager(name: str) -> Callable[[], bool]:
        def start() -> bool:
            calls.started.append(name)
            lanes.leave("p")
            return True

        return start

    for turn in range(50):
        lanes.enter("p", eager(f"e{turn}"), urgent=False)
    assert len(calls.started) == 50
    lanes.enter("p", calls("held"), urgent=False)
    for turn in range(50):
        lanes.enter("p", eager(f"q{turn}"), urgent=turn % 2 == 0)
    assert len(calls.started) == 51
    lanes.leave("p")
    assert len(calls.started) == 101
    assert lanes.queued == 0
    lanes.enter("p", calls("last"), urgent=False)
    lanes.enter("p", calls("never"), urgent=False)
    assert calls.started[-1] == "last"


@pytest.mark.parametrize("count", [3000])
def test_a_burst_that_ends_at_once_does_not_recurse(count):
    """F6: a queue of calls that all end while they start is worked off without deep recursion."""
    lanes, ended = Lanes(1), []

    def start() -> bool:
        ended.append(None)
        lanes.leave("p")
        return True

    lanes.enter("p", lambda: True, urgent=False)
    for _ in range(count):
        lanes.enter("p", start, urgent=False)
    lanes.leave("p")
    assert len(ended) == count


@settings(deadline=None)
@given(
    limit=st.integers(1, 3),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.booleans(), st.booleans()), max_size=60),
)
def test_never_more_than_the_limit_and_nothing_forgotten(limit, steps):
    """F6: in any order of coming and going, no provider exceeds its limit, and all that came has run in the end."""
    lanes = Lanes(limit)
    running = dict.fromkeys(range(3), 0)
    started = entered = 0

    def start_of(provider: int, starts: bool) -> Callable[[], bool]:
        def start() -> bool:
            nonlocal started
            started += 1
            running[provider] += starts
            assert running[provider] <= limit
            return starts

        return start

    for enter, provider, urgent, starts in steps:
        if enter:
            entered += 1
            lanes.enter(provider, start_of(provider, starts), urgent=urgent)
        elif running[provider]:
            running[provider] -= 1
            lanes.leave(provider)
    for provider in running:
        while running[provider]:
            running[provider] -= 1
            lanes.leave(provider)
    assert started == entered
    assert lanes.queued == 0
    assert not lanes._lanes
