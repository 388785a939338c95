"""Shared by all benchmarks: rows of a table, ratios of alternated rounds, a loop that counts its rounds."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import statistics
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

__all__ = ["CountingLoop", "Options", "Row", "Rows", "coro_rounds", "median", "percentile", "ratio", "run", "shuffled"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """How long to measure: `quick` is for looking, not for quoting."""

    quick: bool = False

    def pick(self, full: T, quick: T) -> T:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Without a target it only tells."""

    what: str
    measured: float | str
    target: float | None = None
    unit: str = "x"
    note: str = ""
    least: bool = False

    @property
    def kept(self) -> bool | None:
        if self.target is None or isinstance(self.measured, str):
            return None
        return self.measured >= self.target if self.least else self.measured <= self.target


Rows = Iterator[Row]

median = statistics.median


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def shuffled(items: list[T]) -> list[T]:
    items = list(items)
    random.Random(7).shuffle(items)
    return items


def run(main: Callable[[], Coroutine[Any, Any, T]], loop_factory: Callable[[], Any] = asyncio.SelectorEventLoop) -> T:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


def ratio(rounds: int, *measure: Callable[[], float]) -> list[float]:
    """
    Call each of *measure* once a round, in alternating order; return the median of each one's share of the first.

    A round is short, so that what else runs on the machine hits all of them alike or falls out of the median.
    """
    shares: list[list[float]] = [[] for _ in measure]
    for number in range(rounds):
        order = list(enumerate(measure))
        spent = [0.0] * len(measure)
        for place, one in order if number % 2 else reversed(order):
            gc.collect(0)
            spent[place] = one()
        for place, seconds in enumerate(spent):
            shares[place].append(seconds / spent[0])
    return [median(share) for share in shares]


def coro_rounds(body: Callable[[int], Coroutine[Any, Any, None]], count: int) -> Callable[[], float]:
    """Return what times `body(count)`, a coroutine that never suspends, without a loop in between."""

    def once() -> float:
        coroutine = body(count)
        begun = perf_counter()
        try:
            coroutine.send(None)
        except StopIteration:
            return perf_counter() - begun
        coroutine.close()
        msg = "it suspended"
        raise AssertionError(msg)

    return once


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts its rounds."""

    rounds = 0

    def _run_once(self) -> None:
        self.rounds += 1
        super()._run_once()  # type: ignore[misc]  # private, and what a round is


def loadavg() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())
