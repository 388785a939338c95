"""Files with secrets that the user provides. They are read where nobody else could have written them."""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cannot_change", "check_secret_file", "read_secret_file"]

_ROOT: Final = 0

_log = logging.getLogger("evertoken")

#: Files of which this process has warned.
_said: set[str] = set()


def read_secret_file(path: Path, limit: int = -1, /) -> bytes:
    """
    Return what the file *path* holds, at most *limit* bytes of it.

    Links are followed, as to the secrets that Kubernetes mounts. The file that they lead to has to belong to this user
    or to root, and nobody else may write to it. If it is this user's, and all may read it, a warning says so once, but
    not of what is mounted: nobody can change its mode. A file on a read-only file system, as containers mount their
    secrets, is whoever's it may be: nobody here can change it. Where the system has no owners and modes, as on
    Windows, the file is read as it is.

    Raises:
        PermissionError: It is another user's, or others may write to it.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        _check(file.fileno(), path)
        return file.read(limit)


def check_secret_file(path: Path, /) -> None:
    """Raise as `read_secret_file` does, for a file that a library reads by itself. One that is missing it will miss."""
    if path.is_file():
        read_secret_file(path, 0)


def cannot_change(fd: int, /) -> bool:
    """Tell whether the open file *fd* is on a read-only file system: what is in it is up to whoever mounted that."""
    return hasattr(os, "fstatvfs") and bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)


def _check(fd: int, path: Path) -> None:
    found = os.fstat(fd)
    # A pipe, as of a shell's <(...), has no mode that says anything.
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
    # Kubernetes leads to the content of a secret by links, and mounts it read-only.
    links = any(place.is_symlink() for place in (path, *path.parents))
    return links or cannot_change(fd)
