"""The tests that run a line of the core, the quickest first."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coverage.numbits import numbits_to_nums

# A test that took more seconds than this, when it was recorded, comes last.
_QUICK: Final = 3.0


@dataclass(frozen=True)
class Selection:
    """The tests that there are, and the content of a recorded run of them."""

    #: By file (below the package) and line: the tests that run it.
    tests: dict[tuple[str, int], tuple[str, ...]]
    seconds: dict[str, float]
    #: Tests that fail without a mutant.
    failed: frozenset[str]
    #: Tests that exist, but are not recorded.
    new: tuple[str, ...]
    #: Tests that take so long that no mutant is worth it.
    long: frozenset[str]

    def running(self, file: str, lines: range) -> list[list[str]]:
        """
        Return the tests that run one of *lines* in three lots, each from the quickest to the slowest.

        The first lot has one case of each quick test function. The second has the tests that are not recorded, and the
        third all other cases. A line that runs when its module is imported concerns all.
        """
        found = {name for line in lines for name in self.tests.get((file, line), ())}
        every = set(self.seconds) if "" in found or not found else found & self.seconds.keys()
        ordered = sorted(every - self.failed - self.long, key=lambda name: (self.seconds[name], name))
        first: dict[str, str] = {}
        for name in ordered:
            if self.seconds[name] <= _QUICK:
                first.setdefault(name.partition("[")[0], name)
        ahead = set(first.values())
        return [list(first.values()), list(self.new), [name for name in ordered if name not in ahead]]


# Where the package stands in the copy of the tree that was recorded.
_PACKAGE: Final = "/src/evertoken/"


def read(data: Path, seconds: Path, collected: Sequence[str], longest: float) -> Selection:
    """
    Return the selection that *data* (a coverage file with contexts) and *seconds* (the recorder's file) tell.

    Of recorded tests, those count that are *collected* today.
    """
    lines: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    # Not CoverageData.contexts_by_lineno(): that takes minutes for thousands of contexts.
    with closing(sqlite3.connect(data)) as database:
        # With branches there are arcs, and without them lines.
        rows = database.execute(
            "select file.path, context.context, line_bits.numbits from line_bits "
            "join file on file.id = line_bits.file_id join context on context.id = line_bits.context_id"
        )
        for path, context, numbits in rows:
            _, found, file = path.rpartition(_PACKAGE)
            if not found:
                continue
            for line in numbits_to_nums(numbits):
                lines[file, line].append(context)
    recorded = json.loads(seconds.read_text(encoding="utf-8"))
    known = recorded["seconds"]
    return Selection(
        tests={place: tuple(names) for place, names in lines.items()},
        seconds={name: known[name] for name in collected if name in known},
        failed=frozenset(recorded["failed"]),
        new=tuple(name for name in collected if name not in known),
        long=frozenset(name for name, took in known.items() if took > longest),
    )
