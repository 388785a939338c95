"""The list of mutants that change nothing: all entries must exist."""

from __future__ import annotations

from pathlib import Path

from tests.mutation.equivalent import Change, equivalents

import evertoken

PACKAGE = Path(evertoken.__file__).parent


def test_entries_are_read(tmp_path):
    """An entry is found by file, operator, line and replacement."""
    listed = tmp_path / "equivalent.toml"
    listed.write_text('[[mutant]]\nfile = "a.py"\noperator = "o"\nline = "x"\nbecomes = "y"\nreason = "why"\n')
    assert equivalents(listed) == {Change("a.py", "o", "x", "y"): "why"}


def test_entries_are_not_stale():
    """Each mutant in the list has a reason, and the line that it changes still exists."""
    for change, reason in equivalents().items():
        lines = (PACKAGE / change.file).read_text(encoding="utf-8").splitlines()
        assert change.line in map(str.strip, lines), change
        assert reason.strip(), change
