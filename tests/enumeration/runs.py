"""The list of runs: each single fault, and each pair whose second fault comes after the first one in its run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from tests.enumeration.faults import PROVIDERS, WHERES, Fault, Plan, outcomes_of
from tests.enumeration.scenario import Result, play

# How many second faults are chosen for a first one.
_SECONDS: Final = 5
# A member that asks for a lease again and again has so many steps. The first ones and the last one are enough.
_POLLS: Final = 2

__all__ = ["baselines", "following", "sample", "singles"]


def baselines() -> list[Plan]:
    """Return the runs without a fault."""
    return [Plan(where, provider) for where in WHERES for provider in PROVIDERS]


def singles() -> Iterator[Plan]:
    """Yield each run with one fault."""
    for plan in baselines():
        yield from following(play(plan))


def sample(number: int, seed: int) -> Iterator[Plan]:
    """Yield runs with two faults that *seed* chooses."""
    chosen = random.Random(seed)
    firsts = list(singles())
    for _ in range(-(-number // _SECONDS)):
        seconds = list(following(play(chosen.choice(firsts))))
        yield from chosen.sample(seconds, min(_SECONDS, len(seconds)))


def following(result: Result) -> Iterator[Plan]:
    """Yield the runs of *result* with one fault more, after those that it has."""
    places = _distinct(result.trace)
    last = result.plan.faults[-1] if result.plan.faults else None
    after = 0
    if last is not None:
        place = (last.member, last.step, last.number)
        after = result.trace.index(place) + 1 if place in result.trace else len(result.trace)
    for number, (member, step, count) in places:
        if number >= after:
            for outcome in outcomes_of(result.plan.where, step):
                yield result.plan.with_fault(Fault(member, step, count, outcome))


def _distinct(trace: list[tuple[str, str, int]]) -> list[tuple[int, tuple[str, str, int]]]:
    found: list[tuple[int, tuple[str, str, int]]] = []
    by_member: dict[str, list[int]] = {}
    for number, (member, _, _) in enumerate(trace):
        by_member.setdefault(member, []).append(number)
    for numbers in by_member.values():
        steps = [trace[number][1] for number in numbers]
        for index, number in enumerate(numbers):
            polls = index >= _POLLS and steps[index - _POLLS : index + 2] == ["begin"] * (_POLLS + 2)
            if not polls:
                found.append((number, trace[number]))
    return sorted(found)
