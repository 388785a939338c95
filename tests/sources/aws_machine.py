"""A machine for the sources of AWS: clocks that a test sets ahead, and none of this machine's own settings."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ARN", "Ahead", "nowhere"]

ARN = "arn:aws:iam::123456789012:role/r"


class Ahead:
    """The system's clocks, a number of seconds ahead."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self) -> float:
        return time.time() + self.seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.seconds

    def call_later(self, delay: float, callback: Any, *args: object) -> Any:
        return asyncio.get_running_loop().call_later(delay, callback, *args)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this machine's own settings out."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
