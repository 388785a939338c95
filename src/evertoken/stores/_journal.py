"""
A file that says which keys were written, so that whoever watches need not look at every record.

A writer says so before it replaces a record and again when it has. Where the second is missing, because the writer
was killed in between, watchers take it for said after a while.
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

#: Bytes from which on it is begun anew.
LIMIT: Final = 128 * 1024

#: Looks after which a write that was begun and not ended is told of.
_PATIENCE: Final = 2


def begin(folder: Folder, key: str) -> None:
    """Say that the record of *key* is about to be replaced."""
    _append(folder, b"~" + json.dumps(key).encode() + b"\n")


def end(folder: Folder, key: str, lock: Callable[[], AbstractContextManager[object]]) -> None:
    """Say that the record of *key* was replaced, and shorten what has become long if *lock* is free."""
    size = _append(folder, json.dumps(key).encode() + b"\n")
    if size < LIMIT:
        return
    try:
        with lock():
            found = folder.stat(NAME)
            if found is not None and found.st_size >= LIMIT:
                folder.replace(NAME, memoryview(_header()), durable=False)
    except TimeoutError:
        # Another is at it.
        return


def _append(folder: Folder, line: bytes) -> int:
    while True:
        file, size = folder.append(NAME, line)
        found = folder.stat(NAME)
        # If it was begun anew meanwhile, nobody reads what was added to the old one.
        if found is not None and found.st_ino == file:
            return size


@final
class Follower:
    """One watcher's place in the journal."""

    def __init__(self) -> None:
        self._started = False
        self._seen: tuple[int, int, int] | None = None
        self._first: bytes | None = None
        self._offset = 0
        self._begun: dict[str, int] = {}

    def look(self, folder: Folder) -> list[str | None]:
        """Return which keys were written since the last look, with None where it may have been any: so at first."""
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
        # What was written before is not told of.
        if folder.stat(NAME) is None:
            # So that the first write is told of by its key.
            with suppress(OSError):
                folder.append(NAME, _header())
        data = self._read(folder)
        self._first = _first_line(data)
        # Where a line is being written, its beginning.
        self._offset = data.rfind(b"\n") + 1
        # What is under way is told of when it ends.
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
    # A first line of its own tells one from those before it.
    return b"#" + os.urandom(16).hex().encode() + b"\n"


def _first_line(data: bytes) -> bytes | None:
    line, newline, _ = data.partition(b"\n")
    return line if newline else None
