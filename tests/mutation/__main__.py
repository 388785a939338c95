"""
Change the package's core at a sample of places, one at a time, and count the changes that a test notices.

A change that none notices is printed. It gets a test, or an entry in `tests/mutation/equivalent.toml` that says why it
changes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

from tests.mutation.equivalent import Change, equivalents
from tests.mutation.mutants import Mutant, sample
from tests.mutation.selection import Selection
from tests.mutation.trial import CAUGHT, ROOT, SURVIVED, TESTS, TIMED_OUT, Copy, Verdict

# The share that must be caught.
LEAST = 0.92


class Caught:
    """
    A file that names the mutants that a test has caught, or with which it hung: a line of JSON for each with the test.

    A run that was interrupted goes on there. After new tests, only the mutants that no test had caught are judged.
    """

    def __init__(self, path: Path, selection: Selection) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found = ((Change(*change), test) for change, test in map(json.loads, lines))
        #: By change: the test, which still exists.
        self.tests: dict[Change, str] = {change: test for change, test in found if test in selection.seconds}

    def add(self, verdict: Verdict) -> None:
        """Remember a mutant that a test caught."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([astuple(verdict.mutant.change), verdict.by]) + "\n")


class Campaign:
    """One run: a sample, a copy of the tree for each worker, and what became of each mutant."""

    def __init__(self, mutants: Iterator[Mutant], wanted: int, known: dict[Change, str], caught: Caught) -> None:
        self._mutants = mutants
        self._left = wanted
        self._known = known
        self._caught = caught
        self._lock = threading.Lock()
        self.verdicts: list[Verdict] = []
        self.harmless: list[Mutant] = []
        self.broken = 0

    def work(self, copy: Copy, selection: Selection) -> None:
        """Judge mutants until there are as many as are wanted."""
        with closing(copy):
            while (mutant := self._next(copy)) is not None:
                self._note(copy.judge(mutant, selection))

    def _note(self, verdict: Verdict) -> None:
        with self._lock:
            self.verdicts.append(verdict)
            if verdict.outcome != SURVIVED:
                self._caught.add(verdict)
            seconds, said = f"{verdict.seconds:5.0f} s", f"{verdict.mutant} {verdict.by}"
            print(f"{len(self.verdicts):4} {verdict.outcome:<9} {seconds}  {said}", flush=True)

    def _next(self, copy: Copy) -> Mutant | None:
        while True:
            with self._lock:
                mutant = next(self._mutants, None) if self._left else None
                if mutant is None:
                    return None
                self._left -= 1
                if mutant.change in self._known:
                    self.harmless.append(mutant)
                    continue
                if mutant.change in self._caught.tests:
                    self.verdicts.append(Verdict(mutant, CAUGHT, self._caught.tests[mutant.change]))
                    continue
            if copy.imports(mutant):
                return mutant
            with self._lock:
                self._left += 1
                self.broken += 1

    def report(self) -> float:
        """Print the result, and return the share that was caught."""
        counts = Counter(verdict.outcome for verdict in self.verdicts)
        total = len(self.verdicts) + len(self.harmless)
        share = (counts[CAUGHT] + counts[TIMED_OUT]) / total if total else 1.0
        for verdict in self.verdicts:
            if verdict.outcome != CAUGHT:
                print(f"{verdict.outcome}: {verdict.mutant}")
        print(
            f"{total} mutants: {counts[CAUGHT]} caught, {counts[TIMED_OUT]} timed out, {counts[SURVIVED]} survived, "
            f"{len(self.harmless)} known to change nothing; {self.broken} more could not be imported"
        )
        print(f"{share:.1%} caught or timed out; at least {LEAST:.0%} must be")
        return share


def main() -> int:
    """Run the campaign; return 1 if too few mutants were caught, or one survived, or a test fails without any."""
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__)
    parser.add_argument("--mutants", type=int, default=300, metavar="N", help="how many; 300 by default")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="how many at a time")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="the tests that look; see trial.py")
    parser.add_argument(
        "--longest", type=float, default=math.inf, metavar="SECONDS", help="leave out tests that take longer than this"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="FOLDER",
        help="keep here which tests run which lines, and what was caught; another run with the same folder goes on",
    )
    parser.add_argument("--list", action="store_true", help="print the sample, and run nothing")
    options = parser.parse_args()
    mutants = sample(ROOT / "src" / "evertoken", options.seed)
    if options.list:
        for _, mutant in zip(range(options.mutants), mutants, strict=False):
            print(mutant)
        return 0
    with tempfile.TemporaryDirectory(prefix="evertoken-mutation-") as temporary:
        folder = Path(temporary) if options.folder is None else options.folder.resolve()
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(options.jobs):
            copies.put(Copy(Path(temporary) / str(number), options.tests))
        selection = _recorded(copies, folder, options.longest)
        campaign = Campaign(mutants, options.mutants, equivalents(), Caught(folder / "caught.jsonl", selection))
        with ThreadPoolExecutor(options.jobs) as workers:
            jobs = [workers.submit(campaign.work, copies.get(), selection) for _ in range(options.jobs)]
        for job in jobs:
            job.result()
    share = campaign.report()
    survived = any(verdict.outcome == SURVIVED for verdict in campaign.verdicts)
    return 1 if selection.failed or survived or share < LEAST else 0


def _recorded(copies: queue.SimpleQueue[Copy], folder: Path, longest: float) -> Selection:
    copy = copies.get()
    began = time.perf_counter()
    selection = copy.record(folder, longest)
    copies.put(copy)
    count, seconds = len(selection.seconds), time.perf_counter() - began
    print(f"without a mutant: {count} tests, {seconds:.0f} s, {len(selection.failed)} failed", flush=True)
    print(
        f"    not recorded: {len(selection.new)}; left out, because they take long: {len(selection.long)}", flush=True
    )
    for name in sorted(selection.failed):
        print(f"    left out, because it fails by itself: {name}", flush=True)
    return selection


if __name__ == "__main__":
    sys.exit(main())
