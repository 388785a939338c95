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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.mutation.forking import Outcome
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


# Runs tests until one fails, or takes more than some seconds.
Run = Callable[[Sequence[str], float], Outcome]


class Forks:
    """A process that has collected the tests, and runs them in forks (see `forking`)."""

    def __init__(self, root: Path, tests: Sequence[str], environment: Mapping[str, str]) -> None:
        asked, requests = os.pipe()
        answers, answering = os.pipe()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutation.forking", "-p", "no:cacheprovider"]
        self._process = subprocess.Popen(
            [*command, *tests],
            cwd=root,
            env={**environment, "EVERTOKEN_MUTATION_PIPES": f"{asked},{answering}"},
            pass_fds=(asked, answering),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(asked)
        os.close(answering)
        self._requests, self._answers = os.fdopen(requests, "w"), os.fdopen(answers)
        # It must have imported all modules before a mutant is written into one.
        self.run([], ONE_AT_LEAST)

    def change(self, module: str, before: str, after: str) -> bool:
        """Let later runs have the text *after* of a module. Return False if that needs an import."""
        return bool(self._ask(module=module, before=before, after=after)["done"])

    def run(self, selected: Sequence[str], one: float) -> Outcome:
        """Run *selected* until one fails, or takes more than *one* seconds."""
        return Outcome(**self._ask(names=selected, limit=one))

    def close(self) -> None:
        """End the process."""
        self._requests.close()
        self._process.wait()
        self._answers.close()

    def _ask(self, **request: object) -> dict[str, Any]:
        print(json.dumps(request), file=self._requests, flush=True)
        answer: dict[str, Any] = json.loads(self._answers.readline())
        return answer


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
        self._forks: Forks | None = None
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
        command = [sys.executable, "-W", "error", "-c", f"import {mutant.module}, evertoken._manager"]
        with self._having(mutant):
            try:
                ran = subprocess.run(
                    command, cwd=self._root, env=self._environment, capture_output=True, check=False, timeout=IMPORT
                )
            except subprocess.TimeoutExpired:
                return False
        return ran.returncode == 0

    def close(self) -> None:
        """End what runs in the copy."""
        if self._forks is not None:
            self._forks.close()

    def judge(self, mutant: Mutant, selection: Selection) -> Verdict:
        """Run the tests that run the changed lines, until one fails twice."""
        if self._forks is None:
            self._forks = Forks(self._root, self._tests, self._environment)
        began = time.perf_counter()
        run: Run = partial(self._pytest, selection.seconds)
        with self._having(mutant) as kept:
            if self._forks.change(mutant.module, kept, mutant.text):
                run = self._forks.run
            outcome, by = _judge(run, selection, selection.running(mutant.change.file, mutant.lines))
        return Verdict(mutant, outcome, by, time.perf_counter() - began)

    @contextmanager
    def _having(self, mutant: Mutant) -> Iterator[str]:
        """Have the mutant in the copy. Yield the text that stands there otherwise."""
        path = self._package / mutant.change.file
        kept = path.read_text(encoding="utf-8")
        path.write_text(mutant.text, encoding="utf-8")
        try:
            yield kept
        finally:
            path.write_text(kept, encoding="utf-8")

    def _pytest(self, seconds: Mapping[str, float], selected: Sequence[str], one: float) -> Outcome:
        limit = AT_LEAST + SLOWER * sum(seconds.get(name, 0.0) for name in selected)
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
                return Outcome(hung=True)
        noted = self._cache / "v" / "cache" / "lastfailed"
        failed = [*json.loads(noted.read_text(encoding="utf-8"))] if noted.exists() else []
        if process.returncode in {0, 1, 5}:
            # 5: all that was selected is left out. 1 without a failure: a warning after the last test, of no test's.
            return Outcome(failed[0] if failed else "", hung="+ Timeout +" in printed)
        return Outcome(failed[0] if failed else "pytest itself", hung="+ Timeout +" in printed)


def _judge(run: Run, selection: Selection, lots: list[list[str]]) -> tuple[str, str]:
    left_out: set[str] = set()
    for lot in lots:
        seconds = [selection.seconds.get(name, 0.0) for name in lot]
        one = max(ONE_AT_LEAST, ONE_SLOWER * max(seconds, default=0.0))
        for _ in range(ROUNDS):
            selected = [name for name in lot if name not in left_out]
            if not selected:
                # pytest would take no name for all tests.
                break
            ran = run(selected, one)
            if not ran.failed and not ran.hung:
                break
            if not ran.failed or "::" not in ran.failed:
                return (TIMED_OUT if ran.hung else CAUGHT), ran.failed
            again = run([ran.failed], one)
            if again.failed or again.hung:
                return (TIMED_OUT if again.hung else CAUGHT), ran.failed
            left_out.add(ran.failed)
    return SURVIVED, ""
