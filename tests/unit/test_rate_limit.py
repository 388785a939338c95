"""The order of fetches if the number of concurrent fetches is the only limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evertoken._engine.clock import SystemClock
from evertoken._engine.provider_book import ProviderBook
from evertoken._engine.providers import Limits


class Calls:
    """Calls that remember the order they were started in."""

    def __init__(self) -> None:
        self.started: list[Any] = []

    def __call__(self, name: Any, *, starts: bool = True) -> Callable[[], bool]:
        def start() -> bool:
            self.started.append(name)
            return starts

        return start


class Waiting:
    """A fetch that waits for its turn."""

    def __init__(self, inside: Callable[[], bool]) -> None:
        self.counted = False
        self.is_inside = inside

    def __len__(self) -> int:
        return 0

    def wake(self) -> None:
        pass


def outside() -> bool:
    return False


def inside() -> bool:
    return True


class Room(Limits):  # type: ignore[misc]  # final for users; here its calls are named, and no flights
    """`Limits` for calls that are known by a name."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, book=ProviderBook({}, {}), clock=SystemClock(), hurry=1.0)
        self.turns: dict[Any, Waiting] = {}
        self.started: dict[Any, list[Waiting]] = {}

    def call(
        self, provider: Any, name: Any, start: Callable[[], bool], *, urgent: bool, inside: Callable[[], bool]
    ) -> None:
        turn = self.turns.setdefault(name, Waiting(inside))
        started = self.started.setdefault(provider, [])

        def begin() -> bool:
            # It is registered before it starts, because it may end while it starts.
            started.append(turn)
            if start():
                return True
            started.remove(turn)
            return False

        self.enter(provider, turn, begin, urgent=urgent)

    def end(self, provider: Any) -> None:
        if self.started.get(provider):
            self.ended(provider, self.started[provider].pop(0), asked=True, placed=True)
        else:
            self.leave(provider)


def enter(limits: Room, provider: Any, start: Callable[[], bool], *, urgent: bool = False) -> None:
    limits.call(provider, object(), start, urgent=urgent, inside=outside)


def test_a_cap_for_each_provider():
    """F6: so many calls run at once for one provider, and another provider's are not counted."""
    limits, calls = Room(2), Calls()
    for name in ("a1", "a2", "a3", "b1"):
        enter(limits, name[0], calls(name))
    assert calls.started == ["a1", "a2", "b1"]
    assert limits.queued == 1
    limits.end("b")
    assert calls.started == ["a1", "a2", "b1"]
    limits.end("a")
    assert calls.started[-1] == "a3"
    assert limits.queued == 0


def test_first_come_first_served_and_the_urgent_before():
    """F6: waiting calls start in order, those that somebody waits for before the others."""
    limits, calls = Room(1), Calls()
    enter(limits, "p", calls("running"))
    for name in ("w1", "w2", "u1", "u2", "w3"):
        enter(limits, "p", calls(name), urgent=name.startswith("u"))
    for _ in range(5):
        limits.end("p")
    assert calls.started == ["running", "u1", "u2", "w1", "w2", "w3"]


def test_who_waits_already_goes_first_when_a_caller_comes():
    """F6: a call that waits for its turn becomes urgent with its first caller."""
    limits, calls = Room(1), Calls()
    limits.call("p", "running", calls("running"), urgent=False, inside=outside)
    for name in ("w1", "w2", "w3"):
        limits.call("p", name, calls(name), urgent=False, inside=outside)
    limits.urge("p", limits.turns["w2"])
    limits.urge("nobody", limits.turns["w2"])
    for _ in range(3):
        limits.end("p")
    assert calls.started == ["running", "w2", "w1", "w3"]


def test_what_does_not_start_takes_no_place():
    """F6: a call that has nothing left to start gives its place to the next one at once."""
    limits, calls = Room(1), Calls()
    enter(limits, "p", calls("nothing", starts=False), urgent=True)
    enter(limits, "p", calls("first"))
    for name in ("stale1", "stale2"):
        enter(limits, "p", calls(name, starts=False), urgent=True)
    enter(limits, "p", calls("second"))
    limits.end("p")
    assert calls.started == ["nothing", "first", "stale1", "stale2", "second"]
    assert limits.queued == 0


def test_limits_are_dropped():
    """F6: a provider that nobody uses costs nothing."""
    limits, calls = Room(3), Calls()
    for turn in range(1000):
        enter(limits, turn, calls(turn, starts=turn % 2 == 0))
    for turn in range(1000):
        limits.end(turn)
    assert not limits._limits
    limits.end("unknown")


def test_counted_while_limits_come_and_go():
    """L2: what waits can be counted on one thread while limits come and go on another."""
    limits, calls = Room(1), Calls()

    class Interrupted:
        def __len__(self) -> int:
            # As where the other thread has its turn.
            enter(limits, len(calls.started), calls("other"))
            return 1

    for name in ("a", "b"):
        enter(limits, name, calls(name))
    queues: dict[Any, Any] = limits._limits
    queues["a"] = Interrupted()
    assert limits.queued == 1


def test_clear():
    """L1: clearing forgets all that wait, and what runs may end as usual."""
    limits, calls = Room(1), Calls()
    for name in ("running", "waiting", "urgent"):
        enter(limits, "p", calls(name), urgent=name == "urgent")
    limits.clear()
    assert limits.queued == 0
    limits.end("p")
    assert calls.started == ["running"]
    assert not limits._limits
    enter(limits, "p", calls("again"))
    assert calls.started == ["running", "again"]


def test_who_waits_already_is_only_moved():
    """F6: a call that waits is not queued twice; where somebody asks for it, it moves before the others."""
    limits, calls = Room(1), Calls()
    enter(limits, "p", calls("running"))
    for name in ("w1", "w2", "w3"):
        limits.call("p", name, calls(name), urgent=False, inside=outside)
    for urgent in (True, True, False):
        limits.call("p", "w3", calls("w3"), urgent=urgent, inside=outside)
    limits.call("p", "w1", calls("w1"), urgent=False, inside=outside)
    assert limits.queued == 3
    for _ in range(4):
        limits.end("p")
    assert calls.started == ["running", "w3", "w1", "w2"]
    assert not limits._limits


def test_what_a_running_call_waits_for_is_not_queued():
    """F6: a call that a running one waits for runs at once, over the limit, and its end makes no room for others."""
    limits, calls = Room(1), Calls()
    enter(limits, "p", calls("outer"))
    enter(limits, "p", calls("waits"))
    limits.call("p", "inner", calls("inner"), urgent=False, inside=inside)
    assert calls.started == ["outer", "inner"]
    limits.end("p")
    assert calls.started == ["outer", "inner"]
    limits.end("p")
    assert calls.started == ["outer", "inner", "waits"]


@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.parametrize("starts", [False, True])
def test_what_a_running_call_comes_to_wait_for(urgent, starts):
    """F6: a queued call is started as soon as a running one waits for it, before those that came earlier."""
    limits, calls, wanted = Room(1), Calls(), set[str]()
    enter(limits, "p", calls("running"))
    for name in ("a", "b", "c"):
        start = calls(name, starts=starts)
        limits.call("p", name, start, urgent=urgent, inside=lambda name=name: name in wanted)
    limits.recheck("p")
    limits.recheck("unknown")
    assert calls.started == ["running"]
    wanted.add("b")
    for _ in range(2):
        limits.recheck("p")
        assert calls.started == ["running", "b"]
    assert limits.queued == 2
    for _ in range(2 if starts else 1):
        limits.end("p")
    assert calls.started[:3] == ["running", "b", "a"]


# A place that is waited for


async def test_a_place_at_once():
    """F6: where there is room, place() waits for nothing."""
    limits = Room(1)
    await asyncio.wait_for(limits.place("p", Waiting(outside)), 1.0)
    waiting = asyncio.ensure_future(limits.place("p", Waiting(outside)))
    await asyncio.sleep(0)
    assert (waiting.done(), limits.queued) == (False, 1)
    await asyncio.wait_for(limits.place("p", Waiting(inside)), 1.0)
    limits.end("p")
    limits.end("p")
    await asyncio.wait_for(waiting, 1.0)
    limits.end("p")
    assert not limits._limits


@pytest.mark.parametrize("when", ["queued", "at its turn", "after clear"])
async def test_a_place_that_is_not_wanted_any_more(when):
    """
    F6: a fetch that is cancelled while it waits for a place takes none, also at the very moment at which it comes.
    """
    limits, calls = Room(1), Calls()
    enter(limits, "p", calls("running"))
    waiting = asyncio.ensure_future(limits.place("p", Waiting(outside)))
    await asyncio.sleep(0)
    enter(limits, "p", calls("next"))
    if when == "at its turn":
        limits.end("p")
        assert calls.started == ["running"]
    elif when == "after clear":
        limits.clear()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if when != "at its turn":
        limits.end("p")
    assert calls.started == (["running"] if when == "after clear" else ["running", "next"])
    if when != "after clear":
        limits.end("p")
    assert limits.queued == 0
    assert not limits._limits


def test_a_call_that_ends_while_it_starts():
    """F6: a call that ends before its start returns, as under an eager task factory, leaves the count right."""
    limits, calls = Room(1), Calls()

    def eager(name: str) -> Callable[[], bool]:
        def start() -> bool:
            calls.started.append(name)
            limits.end("p")
            return True

        return start

    for turn in range(50):
        enter(limits, "p", eager(f"e{turn}"))
    assert len(calls.started) == 50
    enter(limits, "p", calls("held"))
    for turn in range(50):
        enter(limits, "p", eager(f"q{turn}"), urgent=turn % 2 == 0)
    assert len(calls.started) == 51
    limits.end("p")
    assert len(calls.started) == 101
    assert limits.queued == 0
    enter(limits, "p", calls("last"))
    enter(limits, "p", calls("never"))
    assert calls.started[-1] == "last"


@pytest.mark.parametrize("count", [3000])
def test_a_burst_that_ends_at_once_does_not_recurse(count):
    """F6: a queue of calls that all end while they start is worked off without deep recursion."""
    limits, ended = Room(1), []

    def start() -> bool:
        ended.append(None)
        limits.end("p")
        return True

    enter(limits, "p", lambda: True)
    for _ in range(count):
        enter(limits, "p", start)
    limits.end("p")
    assert len(ended) == count


@settings(deadline=None)
@given(
    limit=st.integers(1, 3),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.booleans(), st.booleans()), max_size=60),
)
def test_never_more_than_the_limit_and_nothing_forgotten(limit, steps):
    """F6: in any order of coming and going, no provider exceeds its limit, and all that came has run in the end."""
    limits = Room(limit)
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
            limits.end(provider)
    for provider in running:
        while running[provider]:
            running[provider] -= 1
            limits.end(provider)
    assert started == entered
    assert limits.queued == 0
    assert not limits._limits
