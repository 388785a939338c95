"""
`pytest tests/benchmarks` (and so `nox -s benchmarks`) runs this file.

It measures and prints every row, and asserts none.
"""

from __future__ import annotations

import pytest
from tests.benchmarks.__main__ import NAMES, main


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_measured(name: str) -> None:
    """A benchmark runs to its end. Its figures are printed and not judged, because time is no test."""
    assert main([name]) != 2
