"""Connections to a private SQLite file. They are made when needed, and kept while the store is entered."""

from __future__ import annotations

import glob
import os
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, final

from evertoken.stores._permissions import check_directory, check_file, make_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Connections"]

#: The number of connections that are kept. Further ones are closed after use.
_KEPT: Final = 4

#: The files of a database while it is open. A person, or a restored copy, may replace each of them.
_FILES: Final = ("", "-wal", "-shm")

#: Files beside the database whose content SQLite trusts, and to which it writes.
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")

#: Milliseconds for which the close of a store waits for other users, to empty the log.
_PARTING: Final = 500

#: The number of attempts to connect to a file that is replaced meanwhile.
_TRIES: Final = 3

#: The device and inode of each file, which identify the files.
_Identity: TypeAlias = tuple[tuple[int, int] | None, ...]

_SCHEMA: Final = (
    # The fence of a key outlives its record. Each change has a number, so that watchers find new changes.
    """
    CREATE TABLE IF NOT EXISTS evertoken (
        key TEXT NOT NULL UNIQUE,
        record BLOB,
        change INTEGER,
        fence INTEGER NOT NULL,
        owner TEXT NOT NULL,
        ends TEXT,
        torn BLOB
    )
    """,
    "CREATE INDEX IF NOT EXISTS evertoken_change ON evertoken (change)",
)


@final
@dataclass(slots=True)
class _Kept:
    """A connection, and the files that were in place when it was made."""

    connection: sqlite3.Connection
    identity: _Identity


@final
class Connections:
    """
    The connections of one store. All methods block.

    Args:
        path: The file.

        timeout: Seconds to wait for another user's transaction.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self._timeout = timeout
        self._lock = threading.Lock()
        self._users = 0
        self._free: list[_Kept] = []
        self._inherited: list[_Kept] = []
        self._pid = os.getpid()

    def enter(self) -> None:
        """From now on, keep connections."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Close the connections, if all who entered have left."""
        with self._lock:
            self._users -= 1
            self._forked()
            free, self._free = ([], self._free) if self._users else (self._free, [])
        for kept in free[:1]:
            with suppress(sqlite3.Error):
                kept.connection.execute(f"PRAGMA busy_timeout = {_PARTING}")
            _empty_log(kept.connection)
        for kept in free:
            kept.connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection to the file that is now at the path."""
        kept = self._take()
        try:
            yield kept.connection
        finally:
            # After an error too, the next user must find no open transaction.
            with suppress(sqlite3.Error):
                kept.connection.rollback()
            self._give(kept)

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """
        Give a connection with an exclusive write transaction, and commit it.

        Raises:
            OSError: The file was removed meanwhile, so that the written data is in no file.
        """
        with self.reading() as connection:
            file, log, _ = self._identity()
            # A file without a log could be damaged by a loss of power.
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable or log is None else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
            if file is None or self.file() != file:
                msg = f"{self.path} was moved, replaced or removed during a write"
                raise OSError(msg)

    def wipe(self) -> None:
        """Remove deleted data from the log too, unless another process reads it all the time."""
        with self.reading() as connection:
            _empty_log(connection)

    def file(self) -> object:
        """Return a value that identifies the file at the path, or None if there is no file."""
        return self._identity()[0]

    def exists(self) -> bool:
        """
        Tell whether there is a file with the table. This creates neither of them.

        Raises:
            PermissionError: Other users can access the file.
        """
        try:
            self.path.lstat()
        except FileNotFoundError:
            return False
        _check_private(self.path)
        address = f"{self.path.as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=self._timeout)) as connection:
            return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'evertoken'").fetchone() is not None

    def _take(self) -> _Kept:
        outdated = []
        taken = None
        with self._lock:
            self._forked()
            now = self._identity() if self._free else ()
            while self._free and taken is None:
                kept = self._free.pop()
                if kept.identity == now:
                    taken = kept
                else:
                    outdated.append(kept)
        for kept in outdated:
            kept.connection.close()
        return self._opened() if taken is None else taken

    def _forked(self) -> None:
        # SQLite's connections do not survive a fork. They cannot even be closed.
        if self._pid != os.getpid():
            self._inherited += self._free
            self._free, self._pid = [], os.getpid()

    def _give(self, kept: _Kept) -> None:
        now = self._identity()
        # The first user of the log creates it. Nothing else may have changed.
        pairs = zip(kept.identity, now, strict=True)
        same = now[0] is not None and all(before in {None, after} for before, after in pairs)
        with self._lock:
            if same and self._users and len(self._free) < _KEPT:
                kept.identity = now
                self._free.append(kept)
                return
        kept.connection.close()

    def _opened(self) -> _Kept:
        for _ in range(_TRIES):
            _make_private(self.path)
            before = self.file()
            connection = self._connect()
            try:
                # It is checked again, because the directory may have been replaced since the first check.
                now = self._identity()
                if now[0] == before:
                    _check_private(self.path)
                    return _Kept(connection, now)
            except BaseException:
                connection.close()
                raise
            connection.close()
        msg = f"{self.path} is replaced again and again"
        raise OSError(msg)

    def _identity(self) -> _Identity:
        return tuple(_identity_of(self.path.with_name(f"{self.path.name}{ending}")) for ending in _FILES)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        # A row written by a stranger must not hide the other rows.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            # Deleted and replaced data is overwritten with zeros.
            connection.execute("PRAGMA secure_delete = ON")
            with closing(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'evertoken_change'")) as found:
                made = found.fetchone() is not None
            if not made:
                _write_ahead(connection)
                connection.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _empty_log(connection: sqlite3.Connection) -> None:
    # If other users read all the time, the log stays, and they or the next user can empty it.
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _write_ahead(connection: sqlite3.Connection) -> None:
    while True:
        try:
            # On a file system without shared memory the mode does not change, and works.
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            # While another transaction writes, SQLite refuses this at once. So an exclusive transaction is awaited
            # instead, up to the timeout, and then committed.
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        else:
            return


def _make_private(path: Path) -> None:
    # The file is never opened and closed here, because closing it would remove the locks of this process on it.
    try:
        path.lstat()
    except FileNotFoundError:
        make_directory(path.parent)
        check_directory(path.parent)
        _make(path)
    _check_private(path)


def _check_private(path: Path) -> None:
    check_directory(path.parent)
    try:
        check_file(path)
    except PermissionError:
        # The file has a second name while it is created. It keeps that name if its creator was killed in that moment.
        for temporary in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
            with suppress(FileNotFoundError):
                if temporary.samefile(path):
                    temporary.unlink()
        check_file(path)
    for ending in _SIDE_FILES:
        with suppress(FileNotFoundError):
            check_file(path.with_name(f"{path.name}{ending}"))


def _make(path: Path) -> None:
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}.tmp")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        # It gets a second name instead of being renamed, so that a file that appeared meanwhile is not replaced.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
