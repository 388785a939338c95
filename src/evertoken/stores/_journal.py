"""
A file that lists the written keys, so that watchers need not look at every record.

A writer adds a line before it replaces a record, and another one afterwards. If the writer was killed in between, the
second line is missing. After a while, watchers treat the record as written.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from evertoken.stores._folder import Folder

__all__ = ["Follower", "begin", "end"]

NAME: Final = "changes"

#: The size in bytes from which the file is started again.
LIMIT: Final = 128 * 1024

#: After this many looks, a write that began but did not end is reported.
_PATIENCE: Final = 2


def begin(folder: Folder, key: str) -> None:
    """Note that the record of *key* is about to be replaced."""
    _append(folder, b"~" + json.dumps(key).encode() + b"\n")


def end(folder: Folder, key: str, lock: Callable[[], AbstractContextManager[object]]) -> None:
    """Note that the record of *key* was replaced. If the file has become long and *lock* is free, shorten it."""
    size = _append(folder, json.dumps(key).encode() + b"\n")
    if size < LIMIT:
        return
    try:
        with lock():
            found = folder.stat(NAME)
            if found is not None and found.st_size >= LIMIT:
                folder.replace(NAME, memoryview(_header()), durable=False)
    except TimeoutError:
        # Another process is already doing it.
        return


def _append(folder: Folder, line: bytes) -> int:
    while True:
        file, size = folder.append(NAME, line)
        found = folder.stat(NAME)
        # If the file was started again meanwhile, nobody reads the line that was added to the old one.
        if found is not None and found.st_ino == file:
            return size


@final
class Follower:
    """The place of one watcher in the journal."""

    def __init__(self) -> None:
        self._started = False
        self._seen: tuple[int, int, int] | None = None
        self._first: bytes | None = None
        self._offset = 0
        self._begun: dict[str, int] = {}

    def look(self, folder: Folder) -> list[str | None]:
        """Return the keys written since the last look. A None stands for any key, as at the first look."""
        if not self._started:
            self._start(folder)
            self._started = True
            return [None]
        told: list[str | None] = []
        if self._moved(folder):
            data = self._read(folder)
            if _first_line(data) != self._first or len(data) < self._offset:
                self._first, self._offset = _first_line(data), 0
                told.append(None)
            upto = data.rfind(b"\n") + 1
            for line in data[self._offset : upto].splitlines():
                self._take(line, told)
            self._offset = max(upto, self._offset)
        for key, looks in list(self._begun.items()):
            if looks <= 0:
                del self._begun[key]
                told.append(key)
            else:
                self._begun[key] = looks - 1
        return [None] if None in told else list(dict.fromkeys(told))

    def _start(self, folder: Folder) -> None:
        # Earlier writes are not reported.
        if folder.stat(NAME) is None:
            # The file is created, so that the first write is reported by its key.
            with suppress(OSError):
                folder.append(NAME, _header())
        data = self._read(folder)
        self._first = _first_line(data)
        # If a line is being written, this is its beginning.
        self._offset = data.rfind(b"\n") + 1
        # A write that is under way is reported when it ends.
        for line in data.splitlines():
            self._take(line, [])

    def _take(self, line: bytes, told: list[str | None]) -> None:
        if line.startswith(b"#"):
            return
        begun = line.startswith(b"~")
        try:
            key = json.loads(line.removeprefix(b"~"))
        except ValueError:
            key = None
        if not isinstance(key, str):
            told.append(None)
        elif begun:
            self._begun[key] = _PATIENCE
        else:
            self._begun.pop(key, None)
            told.append(key)

    def _moved(self, folder: Folder) -> bool:
        found = folder.stat(NAME)
        seen = None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)
        if seen == self._seen:
            return False
        self._seen = seen
        return True

    def _read(self, folder: Folder) -> bytes:
        return bytes(folder.read(NAME) or b"")


def _header() -> bytes:
    # The first line is unique, so that a new file can be told from earlier ones.
    return b"#" + os.urandom(16).hex().encode() + b"\n"


def _first_line(data: bytes) -> bytes | None:
    line, newline, _ = data.partition(b"\n")
    return line if newline else None
