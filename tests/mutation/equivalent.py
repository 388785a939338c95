"""The mutants that are known to change nothing, each with the reason."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True, order=True)
class Change:
    """A mutant, named by its text and not by its line number, so that the name survives edits elsewhere."""

    file: str
    operator: str
    line: str
    becomes: str


def equivalents(path: Path = LIST) -> dict[Change, str]:
    """Return the reason for each change in the list."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    return {
        Change(entry["file"], entry["operator"], entry["line"], entry["becomes"]): entry["reason"] for entry in entries
    }
