"""A copy of the tree in which one mutant at a time lives, and the tests that look for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant

ROOT = Path(__file__).parent.parent.parent
# The part of the suite that needs no server. What is short and tells most stands first.
TESTS = (
    "tests/unit", "tests/machinery", "tests/kinds", "tests/fleet", "tests/races", "tests/sources/test_callables.py",
    "tests/enumeration",
)  # fmt: skip
# So many files that caught others of the same module are asked before all.
FAVOURITES = 3
# A test that fails once and passes when it runs again has caught nothing. So often is another one asked.
ROUNDS = 4
# What one test may take with a mutant, in seconds.
ONE_TEST = 120

CAUGHT, SURVIVED, TIMED_OUT = "caught", "survived", "timed out"


@dataclass(frozen=True)
class Verdict:
    """How a mutant ended, and the test that caught it."""

    mutant: Mutant
    outcome: str
    by: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a run of pytest ended."""

    passed: bool
    failed: tuple[str, ...]
    timed_out: bool
    printed: str = ""


class Copy:
    """A copy of the tree; the checkout itself is never touched."""

    def __init__(self, root: Path, tests: Sequence[str] = TESTS) -> None:
        self._root = root
        self._tests = tuple(tests)
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        for name in ("src", "tests", "docs"):
            shutil.copytree(ROOT / name, root / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md", "noxfile.py"):
            shutil.copy2(ROOT / name, root / name)
        # Where pytest notes what failed.
        self._cache = root / "cache"
        self._package = root / "src" / "evertoken"
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(root / "src"),
            # A mutant is written within the second in which the file was, and must not be taken for it.
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def suite(self) -> Outcome:
        """Run all the tests without a mutant, past every failure."""
        return self._pytest(self._tests, first=False)

    def imports(self, mutant: Mutant) -> bool:
        """Whether the mutant can be imported without a warning. Any test would catch it otherwise."""
        path = self._package / mutant.change.file
        kept = path.read_text(encoding="utf-8")
        path.write_text(mutant.text, encoding="utf-8")
        try:
            command = [sys.executable, "-W", "error", "-c", f"import {mutant.module}, evertoken._manager"]
            ran = subprocess.run(
                command, cwd=self._root, env=self._environment, capture_output=True, check=False, timeout=ONE_TEST
            )
        except subprocess.TimeoutExpired:
            return False
        finally:
            path.write_text(kept, encoding="utf-8")
        return ran.returncode == 0

    def judge(self, mutant: Mutant, favourites: Counter[str], without: frozenset[str], limit: float) -> Verdict:
        """Run the tests against *mutant* until one fails twice."""
        path = self._package / mutant.change.file
        kept = path.read_text(encoding="utf-8")
        path.write_text(mutant.text, encoding="utf-8")
        began = time.perf_counter()
        try:
            outcome, by = self._judge([name for name, _ in favourites.most_common(FAVOURITES)], without, limit)
        finally:
            path.write_text(kept, encoding="utf-8")
        return Verdict(mutant, outcome, by, time.perf_counter() - began)

    def _judge(self, favourites: list[str], without: frozenset[str], limit: float) -> tuple[str, str]:
        left_out = set(without)
        for selected in (favourites, self._tests):
            for _ in range(ROUNDS if selected else 0):
                ran = self._pytest([*selected, *(f"--deselect={name}" for name in sorted(left_out))], limit=limit)
                if ran.passed:
                    break
                if ran.timed_out:
                    return TIMED_OUT, ""
                if not ran.failed:
                    return CAUGHT, "pytest itself"
                again = self._pytest([ran.failed[0]], limit=limit)
                if not again.passed:
                    return (TIMED_OUT if again.timed_out else CAUGHT), ran.failed[0]
                left_out.add(ran.failed[0])
        return SURVIVED, ""

    def _pytest(self, arguments: Sequence[str], *, first: bool = True, limit: float | None = None) -> Outcome:
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", f"--override-ini=cache_dir={self._cache}"]
        command += [*(["-x", f"--timeout={ONE_TEST}"] if first else []), *arguments]
        shutil.rmtree(self._cache, ignore_errors=True)
        with subprocess.Popen(
            command,
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                printed, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return Outcome(passed=False, failed=(), timed_out=True)
        # 5: all that was selected is left out.
        passed = process.returncode in {0, 5}
        return Outcome(passed, self._failed(), "+ Timeout +" in printed, printed)

    def _failed(self) -> tuple[str, ...]:
        noted = self._cache / "v" / "cache" / "lastfailed"
        return tuple(json.loads(noted.read_text(encoding="utf-8"))) if noted.exists() else ()
