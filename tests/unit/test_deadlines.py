"""The queue of deadlines, against a plain dict."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from evertoken._engine.deadlines import Deadlines


class Item:
    """Lends the queue its slot."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.deadline: float | None = None

    def __lt__(self, other: object) -> bool:
        return False

    def __repr__(self) -> str:
        return f"Item({self.name}, {self.deadline})"


#: The next deadline of the items that were handed out.
LATER = 1000.0

INSTANTS = st.sampled_from([0.0, 1.0, 1, 2.5, 2.5, 3.0, -1.0, 7]) | st.floats(-5, 5)
NAMES = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("set"), NAMES, INSTANTS),
    st.tuples(st.just("discard"), NAMES),
    st.tuples(st.just("hand out"), st.floats(-6, 8), st.integers(0, 7)),
    st.tuples(st.just("shift"), st.floats(-3, 3)),
    st.tuples(st.just("churn"), NAMES, st.integers(1, 200)),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, max_size=60))
def test_against_a_dict(steps: list[tuple[Any, ...]]):
    """
    F6: after any mix of setting, replacing, discarding, handing out and shifting, the queue holds the same as a dict.
    """
    queue: Deadlines[Item] = Deadlines()
    items = [Item(name) for name in range(6)]
    model: dict[int, float] = {}
    for what, *arguments in steps:
        if what == "set":
            name, instant = arguments
            queue.set(items[name], instant)
            model[name] = instant
        elif what == "discard":
            queue.discard(items[arguments[0]])
            model.pop(arguments[0], None)
        elif what == "hand out":
            now, most = arguments
            due = sorted(instant for instant in model.values() if instant <= now)[:most]
            handed_out = queue.hand_out(now, now + LATER, most)
            assert [model[item.name] for item in handed_out] == due
            # An item that is handed out stays in the queue, so that no item is ever lost.
            model.update({item.name: now + LATER for item in handed_out})
        elif what == "shift":
            queue.shift(arguments[0])
            model = {name: instant + arguments[0] for name, instant in model.items()}
        else:
            name, times = arguments
            for turn in range(times):
                queue.set(items[name], turn / 100.0)
            model[name] = (times - 1) / 100.0
        assert len(queue) == len(model)
        assert queue.next() == min(model.values(), default=math.inf)
        assert {item.name: item.deadline for item in items if item.deadline is not None} == model
    rest = queue.hand_out(sys.float_info.max, sys.float_info.max, len(model))
    assert sorted(item.name for item in rest) == sorted(model)
    for item in items:
        queue.discard(item)
    assert queue.next() == math.inf
    assert len(queue) == 0


def test_one_place_an_item():
    """F3: an item stands in one place: setting it again, at the same instant or object too, adds no second timer."""
    queue: Deadlines[Item] = Deadlines()
    item, instant = Item(0), 5.0
    for _ in range(3):
        queue.set(item, instant)
    assert len(queue) == 1
    assert queue.hand_out(9.0, LATER, 9) == [item]
    queue.set(item, instant)
    assert queue.hand_out(9.0, LATER, 9) == [item]
    assert queue.hand_out(9.0, LATER, 9) == []
    assert (len(queue), queue.next(), item.deadline) == (1, LATER, LATER)


def test_replaced_forever_stays_small():
    """F6: replacing deadlines a hundred thousand times leaves a queue of the size of its items."""
    queue: Deadlines[Item] = Deadlines()
    items = [Item(name) for name in range(10)]
    for turn in range(100_000):
        queue.set(items[turn % 10], float(turn))
    assert len(queue) == 10
    assert len(queue._heap) <= 65
    for item in items:
        queue.discard(item)
    assert len(queue) == 0
    assert queue.next() == math.inf
    assert len(queue._heap) <= 65


def test_discarding_rebuilds_seldom():
    """F6: the queue is rebuilt only when a fifth of it is stale, so that discarding many items stays cheap."""
    queue: Deadlines[Item] = Deadlines()
    items = [Item(name) for name in range(1000)]
    for item in items:
        queue.set(item, float(item.name))
    rebuilt = []
    for item in reversed(items):
        heap = queue._heap
        queue.discard(item)
        if queue._heap is not heap:
            rebuilt.append(len(queue))
    assert rebuilt[:3] == [799, 639, 511]
    assert len(rebuilt) <= 13


def test_equal_instants_need_no_order():
    """F6: items due at one instant are all handed out, and need not be comparable."""
    queue: Deadlines[Item] = Deadlines()
    items = [Item(name) for name in range(1000)]
    for item in items:
        queue.set(item, 1.0)
    assert queue.hand_out(0.999, LATER, 5000) == []
    first = queue.hand_out(1.0, LATER, 400)
    rest = queue.hand_out(1.0, LATER, 5000)
    assert (len(first), len(rest)) == (400, 600)
    assert {item.name for item in [*first, *rest]} == set(range(1000))


def test_shift_keeps_what_is_left():
    """T2: after a step back every deadline moves by as much, the discarded and replaced ones not coming back."""
    queue: Deadlines[Item] = Deadlines()
    one, two, three = items = [Item(name) for name in range(3)]
    for item in items:
        queue.set(item, 100.0 + item.name)
    queue.discard(two)
    queue.set(three, 200.0)
    queue.shift(-50.0)
    assert (one.deadline, two.deadline, three.deadline) == (50.0, None, 150.0)
    assert queue.hand_out(1e9, 2e9, 9) == [one, three]


def test_what_is_handed_out_again_at_once():
    """F6: items that are due again at the same instant are handed out as often as asked, and not for ever."""
    queue: Deadlines[Item] = Deadlines()
    items = [Item(name) for name in range(3)]
    for item in items:
        queue.set(item, 1.0)
    assert len(queue.hand_out(1.0, 1.0, 5)) == 5
    assert len(queue) == 3


@pytest.mark.parametrize("instant", [math.inf, -math.inf, math.nan])
def test_no_instant_is_refused(instant):
    """F6: an instant that is no finite number is refused, and the item stays where it stood."""
    queue: Deadlines[Item] = Deadlines()
    one, two = Item(1), Item(2)
    with pytest.raises(ValueError, match="finite"):
        queue.set(one, instant)
    assert (len(queue), queue._heap, one.deadline) == (0, [], None)
    queue.set(one, 5.0)
    queue.set(two, 6.0)
    with pytest.raises(ValueError, match="finite"):
        queue.set(one, instant)
    assert (len(queue), queue.next(), one.deadline) == (2, 5.0, 5.0)
    assert queue.hand_out(6.0, LATER, 9) == [one, two]


def test_the_past_is_due():
    """F3: a deadline in the far past is due and harms nobody."""
    queue: Deadlines[Item] = Deadlines()
    one, two = Item(1), Item(2)
    queue.set(one, -sys.float_info.max)
    queue.set(two, -1e300)
    queue.shift(-10.0)
    assert queue.hand_out(0.0, LATER, 9) == [one, two]
    assert sys.getrefcount(one) <= 4
