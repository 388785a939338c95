"""A directory that nobody else can change, and files that are replaced as a whole or not at all."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, final

from evertoken.stores._permissions import OTHERS, check_owner, make_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Folder", "private_directory"]

#: The size in bytes that no file of a store reaches.
LARGEST: Final = 16 * 1024 * 1024

#: If names can be looked up in an open directory, nobody can replace the directory meanwhile.
_RELATIVE: Final = {os.open, os.stat, os.unlink, os.rename} <= os.supports_dir_fd

_READ: Final = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # A pipe in a file's place must not stop us.
    | getattr(os, "O_BINARY", 0)
)
_WRITE: Final = os.O_WRONLY | (_READ & ~getattr(os, "O_NONBLOCK", 0))


@contextmanager
def private_directory(path: Path) -> Iterator[Folder]:
    """
    Open the directory *path*, create it if it is missing, and give it.

    Raises:
        PermissionError: It is a symbolic link, belongs to another user, or other users can write to it.
    """
    try:
        fd = _open_directory(path)
    except FileNotFoundError:
        make_directory(path)
        fd = _open_directory(path)
    try:
        if fd is not None:
            check_owner(os.fstat(fd), path)
        yield Folder(path, fd)
    finally:
        if fd is not None:
            os.close(fd)


@final
class Folder:
    """
    An open directory.

    Args:
        path: The path of the directory.

        fd: Its descriptor, or None on systems without descriptors for directories.
    """

    def __init__(self, path: Path, fd: int | None) -> None:
        self.path = path
        self._fd = fd
        self._at = fd if _RELATIVE else None

    def read(self, name: str) -> memoryview | None:
        """
        Return the content of the file *name*, or None if there is no file.

        The result is a view, because its text in a traceback does not show the content.

        Raises:
            PermissionError: It is a symbolic link, belongs to another user, is open to others, or is not a file.
        """
        try:
            with self._opened(name, _READ) as fd, os.fdopen(os.dup(fd), "rb") as file:
                return memoryview(file.read(LARGEST))
        except FileNotFoundError:
            return None

    def stat(self, name: str) -> os.stat_result | None:
        """Return the status of the file *name*, or None if there is no file."""
        try:
            return os.stat(self._name(name), dir_fd=self._at, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def replace(self, name: str, data: memoryview, *, durable: bool) -> None:
        """
        Replace the file *name* by *data*, as a whole. Only one thread may do this at a time.

        With *durable*, the file survives a loss of power from here on.
        """
        temporary = f"{name}.tmp"
        self.remove(temporary)
        try:
            with self._opened(temporary, _WRITE | os.O_CREAT | os.O_EXCL) as fd:
                _write_all(fd, data)
                if durable:
                    os.fsync(fd)
            self.rename(temporary, name)
        except BaseException:
            with suppress(OSError):
                self.remove(temporary)
            raise
        if durable:
            self.sync()

    def append(self, name: str, data: bytes) -> tuple[int, int]:
        """Append *data* to the file *name* in one piece. Return the inode of that file, and its size."""
        with self._opened(name, _WRITE | os.O_CREAT | os.O_APPEND) as fd:
            _write_all(fd, memoryview(data))
            found = os.fstat(fd)
            return found.st_ino, found.st_size

    def rename(self, name: str, new: str) -> None:
        """Rename the file *name* to *new*. An existing file of that name is replaced."""
        os.replace(self._name(name), self._name(new), src_dir_fd=self._at, dst_dir_fd=self._at)

    def remove(self, name: str) -> bool:
        """Remove the file *name*. Return whether it existed."""
        try:
            os.unlink(self._name(name), dir_fd=self._at)
        except FileNotFoundError:
            return False
        return True

    def sync(self) -> None:
        """Make changes of names durable."""
        if self._fd is not None:
            os.fsync(self._fd)

    @contextmanager
    def _opened(self, name: str, flags: int) -> Iterator[int]:
        try:
            fd = os.open(self._name(name), flags, 0o600, dir_fd=self._at)
        except OSError as error:
            # O_NOFOLLOW only fails for a symbolic link, but the error number differs between systems.
            found = self.stat(name)
            if found is None or not stat.S_ISLNK(found.st_mode):
                raise
            msg = f"{self.path / name} is a symbolic link, which is not followed"
            raise PermissionError(msg) from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                msg = f"{self.path / name} is not a file"
                raise PermissionError(msg)
            check_owner(found, self.path / name, forbidden=OTHERS)
            yield fd
        finally:
            os.close(fd)

    def _name(self, name: str) -> str:
        return name if self._at is not None else str(self.path / name)


def _open_directory(path: Path) -> int | None:
    if not hasattr(os, "O_DIRECTORY"):
        if not stat.S_ISDIR(path.lstat().st_mode):
            msg = f"{path} is not a directory"
            raise NotADirectoryError(msg)
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        if path.is_symlink():
            msg = f"{path} is a symbolic link; name the directory itself"
            raise PermissionError(msg) from None
        raise


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
