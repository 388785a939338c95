"""Whether a file or a directory is ours alone, so that nobody else could have planted, read or replaced it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OTHERS", "check_directory", "check_file", "check_owner", "make_directory"]

#: The bits of a mode that let others read, write or run a file.
OTHERS: Final = 0o077


def check_owner(found: os.stat_result, path: Path, *, forbidden: int = 0o022) -> None:
    """
    Raise unless what was *found* at *path* is ours alone.

    Raises:
        PermissionError: It is another user's, or its mode has one of the *forbidden* bits.
    """
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid != os.geteuid():
        msg = f"{path} belongs to another user (uid {found.st_uid}), who could read or replace what is kept there"
        raise PermissionError(msg)
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden:
        msg = f"{path} is open to others (mode {mode:04o}); take that away with chmod {mode & ~OTHERS:o}"
        raise PermissionError(msg)


def check_directory(path: Path) -> None:
    """
    Raise unless the directory *path* is ours, and nobody else can make files in it.

    The sticky bit, as of the temporary folder, keeps nobody from making a file, so it changes nothing.

    Raises:
        PermissionError: It is a symbolic link, another user's, or one that others may write to.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        msg = f"{path} is a symbolic link; name the directory itself"
        raise PermissionError(msg)
    check_owner(found, path)


def check_file(path: Path) -> None:
    """
    Raise unless *path* is a file of ours that nobody else may read or write, and that has no other name.

    Raises:
        FileNotFoundError: There is none.
        PermissionError: It is a symbolic link, no file, another user's, open to others, or has a second name.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        msg = f"{path} is a symbolic link, or no file; name the file itself"
        raise PermissionError(msg)
    check_owner(found, path, forbidden=OTHERS)
    if found.st_nlink > 1:
        msg = f"{path} has {found.st_nlink} names (hard links); remove the others, through which it can be read"
        raise PermissionError(msg)


def make_directory(path: Path) -> None:
    """Make the directory *path* (mode 0700) with those above it (mode 0755), whatever the umask allows."""
    for above in reversed(path.parents):
        if not above.exists():
            with suppress(FileExistsError):
                above.mkdir(0o755)
    with suppress(FileExistsError):
        path.mkdir(0o700)
