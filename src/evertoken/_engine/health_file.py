"""Writes the health of a manager to a file, for probes that run a command."""

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

#: Seconds between two writes, and the shorter time while the manager is not ready.
EVERY: Final = BEAT
SOON: Final = 1.0


@final
class HealthFile:
    """
    Writes a file every few seconds, and removes it at the end.

    The file is replaced as a whole, so that readers never see half of it. It is written on the event loop. So it
    becomes old if the loop is blocked or the supervisor has ended. It contains no key.

    Args:
        path: The path, on a file system that does not block, such as one in memory.

        health: A function that returns the health.

        clock: The source of time.
    """

    def __init__(self, path: str | os.PathLike[str], health: Callable[[], Health], clock: Clock) -> None:
        self._path = os.fspath(path)
        self._health = health
        self._clock = clock
        self._pid = os.getpid()
        self._failing = False

    def write(self) -> float:
        """Write the file. Return when to write it next (epoch seconds)."""
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
        """Delete the file, but only in the process that wrote it."""
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108
