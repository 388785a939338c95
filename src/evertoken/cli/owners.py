"""Checks whether other users could change a file or a folder."""

from __future__ import annotations

import os

__all__ = ["owner_fault"]


def owner_fault(path: str | os.PathLike[str], found: os.stat_result) -> str | None:
    """Return the reason why others could change the file with the status *found*, or None."""
    if not hasattr(os, "geteuid"):
        return None
    if found.st_uid not in {0, os.geteuid()}:
        return f"{os.fspath(path)!r} belongs to another user (uid {found.st_uid}), who could change it"
    # In a folder with the sticky bit, users cannot remove or rename files of others.
    if found.st_mode & 0o022 and not found.st_mode & 0o1000:
        return f"others may write to {os.fspath(path)!r} (mode {found.st_mode & 0o7777:04o}): chmod go-w"
    return None
