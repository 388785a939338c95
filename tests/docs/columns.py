"""The pages, and the lines of their examples that are too long for the site. `ruff format` shortens Python."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PAGES", "WIDTH", "too_long"]

WIDTH = 88
ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))

# An example in any language, or a directive, which has its name between braces and is no example.
FENCE = re.compile(
    r"^(?P<indent>[ ]*)(?P<fence>`{3,}|:{3,})(?P<language>[^\n]*)\n(?P<body>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.DOTALL | re.MULTILINE,
)


def too_long(text: str) -> Iterator[str]:
    """Yield the lines of examples that are too long."""
    for found in FENCE.finditer(text):
        indent = len(found["indent"])
        if not found["language"].startswith("{"):
            yield from (line[indent:] for line in found["body"].splitlines() if len(line) - indent > WIDTH)
