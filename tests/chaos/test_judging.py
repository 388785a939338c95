"""The rule by which a revoked grant is judged."""

from __future__ import annotations

from typing import Any

import pytest
from tests.chaos.judging import History, Life, excuse

FOREVER = float("inf")

# Each case: the records, and whether they excuse that the refresh token before "rt" was presented again at 100.
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "nobody had it": ({}, True),
    "its sender lived on": ({"had": {"rt": [("a", 90.0)]}}, False),
    "its sender lived on, though only just": ({"had": {"rt": [("a", 99.9)]}}, False),
    "its sender lived on through an outage": ({"had": {"rt": [("a", 80.0)]}, "outages": [(70.0, 99.9)]}, False),
    "its sender was killed at once": ({"lives": {"a": Life(0.0, 90.1)}, "had": {"rt": [("a", 90.0)]}}, True),
    "its sender was killed when it had had the time": (
        {"lives": {"a": Life(0.0, 94.0)}, "had": {"rt": [("a", 90.0)]}},
        False,
    ),
    "its sender was killed in the outage": (
        {"lives": {"a": Life(0.0, 94.0)}, "had": {"rt": [("a", 90.0)]}, "outages": [(89.0, 99.0)]},
        True,
    ),
    "its sender was frozen": (
        {"lives": {"a": Life(0.0, FOREVER, [(90.1, FOREVER)])}, "had": {"rt": [("a", 90.0)]}},
        True,
    ),
    "its sender was thawed just now": (
        {"lives": {"a": Life(0.0, FOREVER, [(90.1, 99.0)])}, "had": {"rt": [("a", 90.0)]}},
        True,
    ),
    "its sender was thawed a while ago, in an outage": (
        {"lives": {"a": Life(0.0, FOREVER, [(90.1, 95.0)])}, "had": {"rt": [("a", 90.0)]}, "outages": [(89.0, 99.9)]},
        False,
    ),
    "its sender was killed, and a peer that read it was not": (
        {"lives": {"a": Life(0.0, 90.1)}, "had": {"rt": [("a", 90.0), ("b", 90.1)]}},
        False,
    ),
    "the store had it": (
        {"lives": {"a": Life(0.0, 90.1)}, "had": {"rt": [("a", 90.0)]}, "kept": {"rt": [90.05]}},
        False,
    ),
    "the store lost it, and its sender was gone": (
        {"lives": {"a": Life(0.0, 90.1)}, "had": {"rt": [("a", 90.0)]}, "kept": {"rt": [90.05]}, "emptied": 95.0},
        True,
    ),
    "the store lost it, and its sender was there": (
        {"had": {"rt": [("a", 90.0)]}, "kept": {"rt": [90.05]}, "emptied": 99.9},
        False,
    ),
    "the store took it again": (
        {"lives": {"a": Life(0.0, 96.5)}, "had": {"rt": [("a", 90.0)]}, "kept": {"rt": [96.0]}, "emptied": 95.0},
        False,
    ),
    "it came too late": ({"had": {"rt": [("a", 101.0)]}, "kept": {"rt": [101.0]}}, True),
}


@pytest.mark.parametrize("case", CASES)
def test_rule(case):
    """K1: a second use is excused only if no process that had the answer lived until it could keep it."""
    given, excused = CASES[case]
    lives = {"a": Life(0.0), "b": Life(0.0), **given.get("lives", {})}
    history = History(**{**given, "lives": lives})
    assert (excuse(history, "rt", 100.0, within=3.0) is not None) is excused
