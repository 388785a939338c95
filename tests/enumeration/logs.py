"""The errors that the engine logs."""

from __future__ import annotations

import logging

__all__ = ["LOGGER", "Errors"]

LOGGER = logging.getLogger("evertoken")


class Errors(logging.Handler):
    """Keeps the messages of errors that the engine contains. There should be none, rejections aside."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if not message.startswith("RefreshRejected"):
            self.messages.append(message)
