"""What is written to the log at WARNING and above, counted by its first word."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

__all__ = ["lines"]


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.found[record.getMessage().split()[0]] += 1


@pytest.fixture
def lines() -> Iterator[Counter[str]]:
    logger, handler = logging.getLogger("evertoken"), _Lines()
    logger.addHandler(handler)
    yield handler.found
    logger.removeHandler(handler)
