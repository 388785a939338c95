"""The programs of a page that name their file in the first line, as in `# heating.py`."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def files_of(page: str) -> dict[str, str]:
    """Return the files that *page* shows, by their names."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = [re.match(r"# (\S+\.\w+)\n", body) for _, body in FENCE.findall(text)]
    return {match[1]: match.string for match in found if match is not None}


def fences_of(page: str, language: str) -> list[str]:
    """Return the blocks of *page* in *language*."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [body for name, body in FENCE.findall(text) if name == language]


def environ(**more: str) -> dict[str, str]:
    """Return the environment for a program of a page."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error", **more}
