"""A copy of the tree in which one mutant at a time lives, and the tests that look for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant
from tests.mutation.selection import Selection, read

ROOT = Path(__file__).parent.parent.parent
# The part of the suite that needs no server, but for the tests of clients and of the command line.
TESTS = (
    "tests/unit", "tests/machinery", "tests/kinds", "tests/fleet", "tests/races", "tests/properties", "tests/sources",
    "tests/testing", "tests/observability", "tests/test_secrets.py", "tests/stores/test_conformance.py",
    "tests/stores/test_conformance_suite.py", "tests/stores/test_memory.py", "tests/stores/test_own_tables.py",
    "tests/stores/test_file.py", "tests/enumeration",
)  # fmt: skip
# A test that fails once and passes when it runs again has caught nothing. So often is another one asked.
ROUNDS = 4
# The seconds that an import may take, and how much longer than without a mutant a test may take, and how long at least.
IMPORT, ONE_SLOWER, ONE_AT_LEAST = 120, 10, 30
# How much longer than without a mutant the tests may take, and how much longer at least, in seconds.
SLOWER, AT_LEAST = 3, 120

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

    def record(self, folder: Path, longest: float) -> Selection:
        """
        Run all the tests without a mutant, past every failure, and return which of them run which lines.

        What is recorded stays in *folder*, and a recording that is there is used instead of another run. Tests that
        took more than *longest* seconds are left out.
        """
        data, seconds, source = folder / "coverage.data", folder / "seconds.json", folder / "source.txt"
        if not source.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._record(data, seconds)
            source.write_text(self._digest(), encoding="utf-8")
        if source.read_text(encoding="utf-8") != self._digest():
            sys.exit(f"what is recorded in {folder} belongs to other source code; name another folder")
        return read(data, seconds, self._collected(), longest)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for path in sorted(self._package.rglob("*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def _collected(self) -> list[str]:
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *self._tests]
        ran = subprocess.run(
            command, cwd=self._root, env=self._environment, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            sys.exit(f"the tests cannot be collected:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")
        return [line for line in ran.stdout.splitlines() if "::" in line]

    def _record(self, data: Path, seconds: Path) -> None:
        settings = self._root / "coverage.ini"
        settings.write_text("[run]\ncore = ctrace\nconcurrency = thread\n", encoding="utf-8")
        command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", f"--data-file={data}"]
        command += [f"--source={self._package}", "-m", "pytest", "-q", "--tb=no", "--timeout=0"]
        command += ["-p", "tests.mutation.recorder"]
        environment = {**self._environment, "EVERTOKEN_MUTATION_SECONDS": str(seconds)}
        ran = subprocess.run(
            [*command, *self._tests], cwd=self._root, env=environment, capture_output=True, text=True, check=False
        )
        if not data.exists() or not seconds.exists():
            sys.exit(f"the tests cannot run without a mutant:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")

    def imports(self, mutant: Mutant) -> bool:
        """Whether the mutant can be imported without a warning. Any test would catch it otherwise."""
        path = self._package / mutant.change.file
        kept = path.read_text(encoding="utf-8")
        path.write_text(mutant.text, encoding="utf-8")
        try:
            command = [sys.executable, "-W", "error", "-c", f"import {mutant.module}, evertoken._manager"]
            ran = subprocess.run(
                command, cwd=self._root, env=self._environment, capture_output=True, check=False, timeout=IMPORT
            )
        except subprocess.TimeoutExpired:
            return False
        finally:
            path.write_text(kept, encoding="utf-8")
        return ran.returncode == 0

    def judge(self, mutant: Mutant, selection: Selection) -> Verdict:
        """Run the tests that run the changed lines, until one fails twice."""
        path = self._package / mutant.change.file
        kept = path.read_text(encoding="utf-8")
        path.write_text(mutant.text, encoding="utf-8")
        began = time.perf_counter()
        try:
            outcome, by = self._judge(selection, selection.running(mutant.change.file, mutant.lines))
        finally:
            path.write_text(kept, encoding="utf-8")
        return Verdict(mutant, outcome, by, time.perf_counter() - began)

    def _judge(self, selection: Selection, lots: list[list[str]]) -> tuple[str, str]:
        left_out: set[str] = set()
        for lot in lots:
            seconds = [selection.seconds.get(name, 0.0) for name in lot]
            one = max(ONE_AT_LEAST, ONE_SLOWER * max(seconds, default=0.0))
            limit = AT_LEAST + SLOWER * sum(seconds)
            for _ in range(ROUNDS):
                selected = [name for name in lot if name not in left_out]
                if not selected:
                    break
                ran = self._pytest(selected, one, limit)
                if ran.passed:
                    break
                if ran.timed_out:
                    return TIMED_OUT, ""
                if not ran.failed:
                    return CAUGHT, "pytest itself"
                again = self._pytest([ran.failed[0]], one, limit)
                if not again.passed:
                    return (TIMED_OUT if again.timed_out else CAUGHT), ran.failed[0]
                left_out.add(ran.failed[0])
        return SURVIVED, ""

    def _pytest(self, selected: Sequence[str], one: float, limit: float) -> Outcome:
        # In a file, because thousands of names are too long for a command line.
        names = self._root / "selected.txt"
        names.write_text("\n".join(selected), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", f"--override-ini=cache_dir={self._cache}"]
        command += ["-x", f"--timeout={one}", f"@{names}"]
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
        failed = self._failed()
        # 5: all that was selected is left out. 1 without a failure: a warning after the last test, of no test's.
        passed = process.returncode in {0, 5} or (process.returncode == 1 and not failed)
        return Outcome(passed, failed, "+ Timeout +" in printed)

    def _failed(self) -> tuple[str, ...]:
        noted = self._cache / "v" / "cache" / "lastfailed"
        return tuple(json.loads(noted.read_text(encoding="utf-8"))) if noted.exists() else ()
