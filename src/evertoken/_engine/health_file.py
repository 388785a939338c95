"""The health of a manager in a file, for probes that run a command."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.observers import say
from evertoken._engine.supervisor import BEAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import Clock
    from evertoken._model.snapshot import Health

__all__ = ["HealthFile"]

#: Seconds between two writes, and while it is not ready.
EVERY: Final = BEAT
SOON: Final = 1.0


@final
class HealthFile:
    """
    Writes a file every few seconds, and removes it at the end.

    It is replaced as a whole, so that no reader sees half of it. It is written on the event loop, so that a loop that
    is blocked, or a supervisor that has ended, lets it grow old. It names no key.

    Args:
        path: Where, on a file system that does not block, such as one in memory.

        health: Returns the health.

        clock: When.
    """

    def __init__(self, path: str | os.PathLike[str], health: Callable[[], Health], clock: Clock) -> None:
        self._path = os.fspath(path)
        self._health = health
        self._clock = clock
        self._pid = os.getpid()
        self._failing = False

    def write(self) -> float:
        """Write it, and return when to write it next (epoch seconds)."""
        health, now = self._health(), self._clock.time()
        body = {
            "at": now,
            "alive": health.alive,
            "ready": health.ready,
            "degraded": len(health.degraded),
            "failing": len(health.failing),
            "rejected": len(health.rejected),
        }
        folder, name = os.path.split(self._path)
        draft = os.path.join(folder, f".{name}.{self._pid}")  # noqa: PTH118 - pathlib is slow to import
        try:
            with open(draft, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write(json.dumps(body) + "\n")
            os.replace(draft, self._path)  # noqa: PTH105
        except OSError as error:
            if not self._failing:
                say(logging.WARNING, "the health file %s cannot be written: %s", self._path, error.strerror)
            self._failing = True
        else:
            self._failing = False
        return now + (EVERY if health.ready else SOON)

    def remove(self) -> None:
        """Take it away, in the process that wrote it."""
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108
