"""
A plugin of pytest that records which test runs which lines, and how many seconds each test takes.

`-p tests.mutation.recorder`, under `coverage run`. The seconds go to the file that EVERTOKEN_MUTATION_SECONDS names.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

_seconds: defaultdict[str, float] = defaultdict(float)
_failed: set[str] = set()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have the lines that run from now on count for *item*."""
    running = coverage.Coverage.current()
    if running is None:
        msg = "the recorder needs `coverage run`"
        raise RuntimeError(msg)
    running.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        running.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the time of a test, and remember whether it failed."""
    _seconds[report.nodeid] += report.duration
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write the recording."""
    text = json.dumps({"seconds": _seconds, "failed": sorted(_failed)})
    Path(os.environ["EVERTOKEN_MUTATION_SECONDS"]).write_text(text, encoding="utf-8")
