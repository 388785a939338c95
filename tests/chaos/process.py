"""A member as its parent sees it: a process that is told what to do, frozen, thawed and killed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.chaos.judging import Life

ROOT = Path(__file__).parents[2]


class Member:
    """One process and its life."""

    def __init__(self, name: str, folder: Path, task: dict[str, Any]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.life = Life(time.time())
        command = [sys.executable, "-m", "tests.chaos.member", json.dumps({**task, "name": name, "log": str(self.log)})]
        with (folder / f"{name}.err").open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT
            )
        self.thaws_at: float | None = None

    @property
    def frozen(self) -> bool:
        return self.thaws_at is not None

    def freeze(self, until: float) -> None:
        self.life.frozen.append((time.time(), float("inf")))
        self.process.send_signal(signal.SIGSTOP)
        self.thaws_at = until

    def thaw(self) -> None:
        if self.frozen:
            self.thaws_at = None
            self.process.send_signal(signal.SIGCONT)
            self.life.frozen[-1] = (self.life.frozen[-1][0], time.time())

    def kill(self) -> None:
        self.life.ended = time.time()
        self.clear()

    def clear(self) -> None:
        """End the process if it has not ended, and close what leads to it."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()

    def tell(self, *words: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write((" ".join(words) + "\n").encode())
            self.process.stdin.flush()
