"""Reads files with secrets. It refuses files that other users could have written."""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import TYPE_CHECKING, Final

from evertoken._engine.flight import INSIDE
from evertoken._engine.read_files import ReadFiles

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cannot_change", "check_secret_file", "note_file", "read_secret_file"]

_ROOT: Final = 0

_log = logging.getLogger("evertoken")

#: Files for which this process has already logged a warning.
_said: set[str] = set()


def read_secret_file(path: Path, limit: int = -1, /) -> bytes:
    """
    Return the content of the file *path*, at most *limit* bytes of it.

    Links are followed, because Kubernetes mounts secrets through links. The target must belong to this user or to root,
    and other users must not be able to write to it. If it belongs to this user and all users may read it, a warning is
    logged once. Mounted files cause no warning, because their mode cannot be changed. A file on a read-only file
    system, as containers mount their secrets, may belong to any user, because nobody here can change it. On systems
    without owners and modes, such as Windows, nothing is checked.

    Raises:
        PermissionError: The file belongs to another user, or others may write to it.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        _check(file.fileno(), path)
        content = file.read(limit)
        _note(path, file.fileno(), content)
    return content


def check_secret_file(path: Path, /) -> None:
    """Raise as `read_secret_file` does, for a file that a library reads itself. A missing file is no error here."""
    if path.is_file():
        read_secret_file(path)


def note_file(path: Path, /) -> None:
    """Note that the present fetch reads the file *path*, which holds no secret and is read by a library."""
    if path.is_file():
        with path.open("rb") as file:
            _note(path, file.fileno(), file.read())


def _note(path: Path, fd: int, content: bytes) -> None:
    inside = INSIDE.get()
    if inside is not None and stat.S_ISREG(os.fstat(fd).st_mode):
        if inside.files is None:
            inside.files = ReadFiles()
        inside.files.note(path, content)


def cannot_change(fd: int, /) -> bool:
    """
    Tell whether the open file *fd* is on a read-only file system, so that only the one who mounted it can change it.
    """
    return hasattr(os, "fstatvfs") and bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)


def _check(fd: int, path: Path) -> None:
    found = os.fstat(fd)
    # The mode of a pipe, such as that of a shell's <(...), means nothing.
    if not hasattr(os, "geteuid") or not stat.S_ISREG(found.st_mode):
        return
    mode, fault = stat.S_IMODE(found.st_mode), None
    if found.st_uid not in {_ROOT, os.geteuid()}:
        fault = (
            f"it belongs to another user (uid {found.st_uid}), who could change it: let it belong to this user or to"
            " root, mount it read-only, or give a function that reads it"
        )
    elif mode & (stat.S_IWGRP | stat.S_IWOTH):
        fault = f"others may write to it (mode {mode:04o}): take that away with chmod go-w"
    if fault is not None and not cannot_change(fd):
        raise PermissionError(errno.EPERM, fault, str(path))
    if mode & stat.S_IROTH and found.st_uid == os.geteuid() and str(path) not in _said and not _is_mounted(fd, path):
        _said.add(str(path))
        _log.warning("evertoken: all users may read the secret in %s (mode %04o): use chmod go-r", path, mode)


def _is_mounted(fd: int, path: Path) -> bool:
    # Kubernetes mounts secrets read-only, and reaches their content through links.
    links = any(place.is_symlink() for place in (path, *path.parents))
    return links or cannot_change(fd)
