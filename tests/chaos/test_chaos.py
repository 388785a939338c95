"""
Chaos in short: one run for each store, which is stopped while members are killed, frozen and replaced.

The full check is `nox -s chaos`.
"""

from __future__ import annotations

import sys

import pytest
from tests.chaos.play import Plan, playing
from tests.chaos.verdict import judge
from tests.stores.servers import postgres, valkey

pytestmark = [
    pytest.mark.breakage,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals"),
]

#: Seconds that a member may take to keep an answer, on a machine with much to do.
GENEROUS = 15.0


@pytest.mark.parametrize("kind", ["valkey", "postgres"])
def test_no_answer_is_lost(kind, tmp_path):
    """K1, K2, K3: no grant is revoked whose answer reached a process that lived on, and all get a token in the end."""
    plan = Plan(kind, "killed", 5.0, seed=1, grants=3, before=3.0, after=6.0, calm=3.0, longest_freeze=3.0)
    with (valkey if kind == "valkey" else postgres)() as store, playing(plan, store, tmp_path) as played:
        verdict = judge(played, GENEROUS)
    assert verdict.faults == [], str(verdict)
    assert verdict.survivors >= plan.members
    assert verdict.requests >= verdict.families
