"""The events of a run, and the rule by which a revoked grant is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Interval: TypeAlias = tuple[float, float]

#: Seconds in which a member that runs keeps an answer while the store is well.
KEEPS_WITHIN = 3.0


@dataclass
class Life:
    """One process: from when to when it lived, and when it was frozen."""

    begun: float
    ended: float = float("inf")
    frozen: list[Interval] = field(default_factory=list)


@dataclass
class History:
    """The times of each life and of each outage of the store, and who had which refresh token since when."""

    lives: dict[str, Life] = field(default_factory=dict)
    outages: list[Interval] = field(default_factory=list)
    #: When the store lost all that it had, if it did.
    emptied: float | None = None
    #: Members by the fingerprint of a refresh token: the one whose request brought it, and those that read it.
    had: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    #: When the store took a refresh token.
    kept: dict[str, list[float]] = field(default_factory=dict)


def excuse(history: History, successor: str, until: float, within: float = KEEPS_WITHIN) -> str | None:
    """
    Return the excuse for presenting the predecessor of *successor* again at *until*, or None if nothing excuses it.

    The answer with *successor* had left the server. Nothing excuses the second use

    - if the store had taken *successor*, and did not lose it since; or
    - if a process that had it ran from then until the second use, also without a store: the others could hear it; or
    - if a process that had it ran during *within* seconds before the second use, or at any time during *within* seconds
      while the store was well: it had the time to keep it.

    A process that sent the request has its answer from the moment the server got it: two at a time are no excuse. If
    the store came back empty, earlier writes do not count. Only processes that lived on remember them.
    """
    emptied = history.emptied if history.emptied is not None and history.emptied < until else None
    if any(at < until and (emptied is None or at > emptied) for at in history.kept.get(successor, [])):
        return None
    holders = [(name, at) for name, at in history.had.get(successor, []) if at < until]
    for name, at in holders:
        since = at if emptied is None else max(at, emptied)
        running = _without([(since, until)], [*history.lives[name].frozen, *_dead(history.lives[name])])
        if running and running[-1][1] == until and running[-1][0] <= max(since, until - within):
            return None
        if any(end - begin >= within for begin, end in _without(running, history.outages)):
            return None
    if not holders:
        return "no process ever had the answer"
    how = "; ".join(f"{name} {_fate(history.lives[name], at, until)}" for name, at in holders)
    return f"{how}; the store was {'emptied' if emptied is not None else 'not told'}"


def _fate(life: Life, at: float, until: float) -> str:
    if life.ended < until:
        return f"was killed {life.ended - at:.2f} s after the answer"
    frozen = [(begin, end) for begin, end in life.frozen if begin < until and end > at]
    return f"was frozen {', '.join(f'from {begin - at:.2f} s to {end - at:.2f} s' for begin, end in frozen)} after it"


def _dead(life: Life) -> list[Interval]:
    return [(float("-inf"), life.begun), (life.ended, float("inf"))]


def _without(parts: list[Interval], gaps: list[Interval]) -> list[Interval]:
    for first, last in gaps:
        cut = [((begin, min(end, first)), (max(begin, last), end)) for begin, end in parts]
        parts = [part for pair in cut for part in pair if part[0] < part[1]]
    return sorted(parts)
