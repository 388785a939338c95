"""Checks whether a file or directory is private, so that no other user could have planted, read or replaced it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OTHERS", "check_directory", "check_file", "check_owner", "make_directory"]

#: The mode bits that let other users read, write or run a file.
OTHERS: Final = 0o077


def check_owner(found: os.stat_result, path: Path, *, forbidden: int = 0o022) -> None:
    """
    Raise an error unless the file *found* at *path* is private.

    Raises:
        PermissionError: It belongs to another user, or its mode has one of the *forbidden* bits.
    """
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid != os.geteuid():
        msg = f"{path} belongs to another user (uid {found.st_uid}), who could read or replace its content"
        raise PermissionError(msg)
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden:
        msg = f"{path} is open to others (mode {mode:04o}); take that away with chmod {mode & ~OTHERS:o}"
        raise PermissionError(msg)


def check_directory(path: Path) -> None:
    """
    Raise an error unless the directory *path* belongs to this user and nobody else can create files in it.

    The sticky bit, as on the temporary folder, prevents nobody from creating a file, so it does not help.

    Raises:
        PermissionError: It is a symbolic link, belongs to another user, or other users can write to it.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        msg = f"{path} is a symbolic link; name the directory itself"
        raise PermissionError(msg)
    check_owner(found, path)


def check_file(path: Path) -> None:
    """
    Raise an error unless *path* is a private file with a single name.

    Raises:
        FileNotFoundError: There is no file.
        PermissionError: It is a symbolic link or not a file, belongs to another user, is open to others, or has a
            second name.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        msg = f"{path} is a symbolic link, or not a file; name the file itself"
        raise PermissionError(msg)
    check_owner(found, path, forbidden=OTHERS)
    if found.st_nlink > 1:
        msg = f"{path} has {found.st_nlink} names (hard links); remove the others, which give access to it"
        raise PermissionError(msg)


def make_directory(path: Path) -> None:
    """Make the directory *path* (mode 0700) and its missing parents (mode 0755). The umask may restrict these modes."""
    for above in reversed(path.parents):
        if not above.exists():
            with suppress(FileExistsError):
                above.mkdir(0o755)
    with suppress(FileExistsError):
        path.mkdir(0o700)
