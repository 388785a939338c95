"""
Random use of a fleet: `nox -s enumeration -- --stress 10000` plays more seeds.

A failure names its seed. `python -m tests.enumeration --run stress:SEED` plays it alone and shows all that happens.
"""

from __future__ import annotations

import pytest
from tests.enumeration.stress import stress


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_random_use(first, capsys):
    """R3, F5, K1, L1: no key without a deadline, no replay, no waiter or task left behind, and close in its bounds."""
    failed = [f"stress:{seed}: {faults[:2]}" for seed in range(first, first + 50) if (faults := stress(seed))]
    with capsys.disabled():
        print(f"\nrandom use: 50 runs from seed {first}", end="")
    assert not failed, "\n".join(failed)
