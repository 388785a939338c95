"""
The queue of deadlines, against a plain dict.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from hypothesis import given, settings, strategies as st

from evertoken._engine.deadlines import Deadlines


class Item:
    """
    What lends the queue its slot.
    """

    def __init__(self, name: int) -> None:
        self.name = name
        self.deadline: float | None = None

    def __lt__(self, other: object) -> bool:
        return False

    def __repr__(self) -> str:
        return f"Item({self.name}, {self.deadline})"


INSTANTS = st.sampled_from([0.0, 1.0, 1, 2.5, 2.5, 3.0, -1.0, 7, math.inf, -math.inf]) | st.floats(-5, 5)
NAMES = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("set"), NAMES, INSTANTS),
    st.tuples(st.just("discard"), NAMES),
    st.tuples(st.just("pop"), st.floats(-6, 8), st.integers(0, 7)),
    st.tuples(st.just("shift"), st.floats(-3, 3)),
    st.tuples(st.just("churn"), NAMES, st.integers(1, 200)),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, max_size=60))
def test_against_a_dict(steps: list[tuple[Any, ...]]):
    """F6: whatever is set, replaced, discarded, popped and shifted, the queue holds what a dict would."""
    queue: Deadlines[Item] = Deadlines()
    items = [Item(name) for name in range(6)]
    model: dict[int, float] = {}
    for what, *arguments in steps:
        if what == "set":
            name, instant = arguments
            queue.set(items[name], instant)
            model.pop(name, None)
            if instant != math.inf:
                model[name] = instant
        elif what == "discard":
            queue.discard(items[arguments[0]])
            model.pop(arguments[0], None)
        elif what == "pop":
            now, most = arguments
            due = sorted(instant for instant in model.values() if instant <= now)[:most]
            popped = queue.pop_due(now, most)
            assert [model.pop(item.name) for item in popped] == due
            assert all(item.deadline is None for item in popped)
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
    rest = queue.pop_due(math.inf, 100)
    assert sorted(item.name for item in rest) == sorted(model)
    assert queue.next() == math.inf
    assert len(queue) == 0


def test_one_place_an_item():
    """F3: an item stands in one place: setting it again, at the same instant or object too, adds no second timer."""
    queue: Deadlines[Item] = Deadlines()
    item, instant = Item(0), 5.0
    for _ in range(3):
        queue.set(item, instant)
    assert len(queue) == 1
    assert queue.pop_due(9.0, 9) == [item]
    queue.set(item, instant)
    assert queue.pop_due(9.0, 9) == [item]
    assert queue.pop_due(9.0, 9) == []


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


def test_equal_instants_need_no_order():
    """F6: items due at one instant are all handed out, and need not be comparable."""
    queue: Deadlines[Item] = Deadlines()
    items = [Item(name) for name in range(1000)]
    for item in items:
        queue.set(item, 1.0)
    assert queue.pop_due(0.999, 5000) == []
    first = queue.pop_due(1.0, 400)
    rest = queue.pop_due(1.0, 5000)
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
    assert queue.pop_due(1e9, 9) == [one, three]


def test_infinity_stands_nowhere():
    """F6: what is never due takes no place in the queue, and gives up the one it had."""
    queue: Deadlines[Item] = Deadlines()
    item = Item(0)
    queue.set(item, math.inf)
    queue.discard(item)
    assert (len(queue), queue._heap, item.deadline) == (0, [], None)
    queue.set(item, 1.0)
    queue.set(item, math.inf)
    assert (len(queue), queue.next(), item.deadline) == (0, math.inf, None)


def test_what_is_no_number_stands_in_nobodys_way():
    """F6: an item at NaN, which no comparison places, is out of the queue and holds up no other."""
    queue: Deadlines[Item] = Deadlines()
    one, two = Item(1), Item(2)
    queue.set(one, math.nan)
    queue.set(two, 1.0)
    assert one.deadline is None
    assert queue.pop_due(2.0, 9) == [two]
    assert len(queue) == 0


def test_the_past_is_due():
    """F3: a deadline in the past, the distant one included, is due and harms nobody."""
    queue: Deadlines[Item] = Deadlines()
    one, two = Item(1), Item(2)
    queue.set(one, -math.inf)
    queue.set(two, -1e300)
    queue.shift(-10.0)
    assert queue.pop_due(0.0, 9) == [one, two]
    assert sys.getrefcount(one) <= 4
