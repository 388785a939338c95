"""Paths of files with secrets. It also recognises the content of such a file in place of its path."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["is_content", "wrong_path"]

# Names in a file system are never longer than this.
_LONGEST_NAME: Final = 255
_MARKS: Final = ("{", "-----BEGIN", "eyJ")


def is_content(text: str, /) -> bool:
    """Tell whether *text* is the content of a credentials file, a key or a token, instead of a path."""
    start = text.lstrip("\ufeff \t\r\n")
    parts = text.replace("\\", "/").split("/")
    return start.startswith(_MARKS) or "\n" in text.strip() or any(len(part) > _LONGEST_NAME for part in parts)


def wrong_path(parameter: str, path: object, /) -> str | None:
    """Return the fault of *path*, without repeating the path, or None if it may be a path."""
    if not isinstance(path, str | Path) or not str(path).strip():
        return f"{parameter} must name a file"
    if is_content(str(path)):
        return f"{parameter} is the content of a file, not a path: give the path of the file"
    return None
