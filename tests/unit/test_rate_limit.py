"""Who may run, and who is next."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evertoken._engine.rate_limit import Limits


class Calls:
    """Calls that remember the order they were started in."""

    def __init__(self) -> None:
        self.started: list[Any] = []

    def __call__(self, name: Any, *, starts: bool = True) -> Callable[[], bool]:
        def start() -> bool:
            self.started.append(name)
            return starts

        return start


def outside() -> bool:
    return False


def inside() -> bool:
    return True


def enter(limits: Limits, provider: Any, start: Callable[[], bool], *, urgent: bool = False) -> None:
    limits.enter(provider, object(), start, urgent=urgent, inside=outside)


def test_a_cap_for_each_provider():
    """F6: so many calls run at once for one provider, and another provider's are not counted."""
    limits, calls = Limits(2), Calls()
    for name in ("a1", "a2", "a3", "b1"):
        enter(limits, name[0], calls(name))
    assert calls.started == ["a1", "a2", "b1"]
    assert limits.queued == 1
    limits.leave("b")
    assert calls.started == ["a1", "a2", "b1"]
    limits.leave("a")
    assert calls.started[-1] == "a3"
    assert limits.queued == 0


def test_first_come_first_served_and_the_urgent_before():
    """F6: waiting calls start in order, those that somebody waits for before the others."""
    limits, calls = Limits(1), Calls()
    enter(limits, "p", calls("running"))
    for name in ("w1", "w2", "u1", "u2", "w3"):
        enter(limits, "p", calls(name), urgent=name.startswith("u"))
    for _ in range(5):
        limits.leave("p")
    assert calls.started == ["running", "u1", "u2", "w1", "w2", "w3"]


def test_what_does_not_start_takes_no_place():
    """F6: a call that has nothing left to start gives its place to the next one at once."""
    limits, calls = Limits(1), Calls()
    enter(limits, "p", calls("nothing", starts=False), urgent=True)
    enter(limits, "p", calls("first"))
    for name in ("stale1", "stale2"):
        enter(limits, "p", calls(name, starts=False), urgent=True)
    enter(limits, "p", calls("second"))
    limits.leave("p")
    assert calls.started == ["nothing", "first", "stale1", "stale2", "second"]
    assert limits.queued == 0


def test_limits_are_dropped():
    """F6: a provider that nobody uses costs nothing."""
    limits, calls = Limits(3), Calls()
    for turn in range(1000):
        enter(limits, turn, calls(turn, starts=turn % 2 == 0))
    for turn in range(1000):
        limits.leave(turn)
    assert not limits._limits
    limits.leave("unknown")


def test_counted_while_limits_come_and_go():
    """L2: what waits can be counted on one thread while limits come and go on another."""
    limits, calls = Limits(1), Calls()

    class Interrupted(OrderedDict[object, Any]):
        def __len__(self) -> int:
            # As where the other thread has its turn.
            enter(limits, len(calls.started), calls("other"))
            return super().__len__()

    for name in ("a", "a", "b"):
        enter(limits, name, calls(name))
    limits._limits["a"].urgent = Interrupted()
    assert limits.queued == 1


def test_clear():
    """L1: clearing forgets all that wait, and what runs may end as usual."""
    limits, calls = Limits(1), Calls()
    for name in ("running", "waiting", "urgent"):
        enter(limits, "p", calls(name), urgent=name == "urgent")
    limits.clear()
    assert limits.queued == 0
    limits.leave("p")
    assert calls.started == ["running"]
    assert not limits._limits
    enter(limits, "p", calls("again"))
    assert calls.started == ["running", "again"]


def test_who_waits_already_is_only_moved():
    """F6: a call that waits is not queued twice; where somebody asks for it, it moves before the others."""
    limits, calls = Limits(1), Calls()
    enter(limits, "p", calls("running"))
    for name in ("w1", "w2", "w3"):
        limits.enter("p", name, calls(name), urgent=False, inside=outside)
    for urgent in (True, True, False):
        limits.enter("p", "w3", calls("w3"), urgent=urgent, inside=outside)
    limits.enter("p", "w1", calls("w1"), urgent=False, inside=outside)
    assert limits.queued == 3
    for _ in range(4):
        limits.leave("p")
    assert calls.started == ["running", "w3", "w1", "w2"]
    assert not limits._limits


def test_what_a_running_call_waits_for_is_not_queued():
    """F6: a call that a running one waits for runs at once, over the limit, and its end makes no room for others."""
    limits, calls = Limits(1), Calls()
    enter(limits, "p", calls("outer"))
    enter(limits, "p", calls("waits"))
    limits.enter("p", "inner", calls("inner"), urgent=False, inside=inside)
    assert calls.started == ["outer", "inner"]
    limits.leave("p")
    assert calls.started == ["outer", "inner"]
    limits.leave("p")
    assert calls.started == ["outer", "inner", "waits"]


@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.parametrize("starts", [False, True])
def test_what_a_running_call_comes_to_wait_for(urgent, starts):
    """F6: a queued call is started as soon as a running one waits for it, before those that came earlier."""
    limits, calls, wanted = Limits(1), Calls(), set[str]()
    enter(limits, "p", calls("running"))
    for name in ("a", "b", "c"):
        start = calls(name, starts=starts)
        limits.enter("p", name, start, urgent=urgent, inside=lambda name=name: name in wanted)
    limits.recheck("p")
    limits.recheck("unknown")
    assert calls.started == ["running"]
    wanted.add("b")
    for _ in range(2):
        limits.recheck("p")
        assert calls.started == ["running", "b"]
    assert limits.queued == 2
    for _ in range(2 if starts else 1):
        limits.leave("p")
    assert calls.started[:3] == ["running", "b", "a"]


# A place that is waited for


async def test_a_place_at_once():
    """F6: where there is room, place() waits for nothing."""
    limits = Limits(1)
    await asyncio.wait_for(limits.place("p", "a", inside=outside), 1.0)
    waiting = asyncio.ensure_future(limits.place("p", "b", inside=outside))
    await asyncio.sleep(0)
    assert (waiting.done(), limits.queued) == (False, 1)
    await asyncio.wait_for(limits.place("p", "c", inside=inside), 1.0)
    limits.leave("p")
    limits.leave("p")
    await asyncio.wait_for(waiting, 1.0)
    limits.leave("p")
    assert not limits._limits


@pytest.mark.parametrize("when", ["queued", "at its turn", "after clear"])
async def test_a_place_that_is_not_wanted_any_more(when):
    """F6: who is cancelled while it waits for a place takes none, also at the very moment at which it comes."""
    limits, calls = Limits(1), Calls()
    enter(limits, "p", calls("running"))
    waiting = asyncio.ensure_future(limits.place("p", "a", inside=outside))
    await asyncio.sleep(0)
    enter(limits, "p", calls("next"))
    if when == "at its turn":
        limits.leave("p")
        assert calls.started == ["running"]
    elif when == "after clear":
        limits.clear()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if when != "at its turn":
        limits.leave("p")
    assert calls.started == (["running"] if when == "after clear" else ["running", "next"])
    if when != "after clear":
        limits.leave("p")
    assert limits.queued == 0
    assert not limits._limits


def test_a_call_that_ends_while_it_starts():
    """F6: a call that ends before its start returns, as under an eager task factory, leaves the count right."""
    limits, calls = Limits(1), Calls()

    def eager(name: str) -> Callable[[], bool]:
        def start() -> bool:
            calls.started.append(name)
            limits.leave("p")
            return True

        return start

    for turn in range(50):
        enter(limits, "p", eager(f"e{turn}"))
    assert len(calls.started) == 50
    enter(limits, "p", calls("held"))
    for turn in range(50):
        enter(limits, "p", eager(f"q{turn}"), urgent=turn % 2 == 0)
    assert len(calls.started) == 51
    limits.leave("p")
    assert len(calls.started) == 101
    assert limits.queued == 0
    enter(limits, "p", calls("last"))
    enter(limits, "p", calls("never"))
    assert calls.started[-1] == "last"


@pytest.mark.parametrize("count", [3000])
def test_a_burst_that_ends_at_once_does_not_recurse(count):
    """F6: a queue of calls that all end while they start is worked off without deep recursion."""
    limits, ended = Limits(1), []

    def start() -> bool:
        ended.append(None)
        limits.leave("p")
        return True

    enter(limits, "p", lambda: True)
    for _ in range(count):
        enter(limits, "p", start)
    limits.leave("p")
    assert len(ended) == count


@settings(deadline=None)
@given(
    limit=st.integers(1, 3),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.booleans(), st.booleans()), max_size=60),
)
def test_never_more_than_the_limit_and_nothing_forgotten(limit, steps):
    """F6: in any order of coming and going, no provider exceeds its limit, and all that came has run in the end."""
    limits = Limits(limit)
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

    for enters, provider, urgent, starts in steps:
        if enters:
            entered += 1
            enter(limits, provider, start_of(provider, starts), urgent=urgent)
        elif running[provider]:
            running[provider] -= 1
            limits.leave(provider)
    for provider in running:
        while running[provider]:
            running[provider] -= 1
            limits.leave(provider)
    assert started == entered
    assert limits.queued == 0
    assert not limits._limits
