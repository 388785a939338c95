"""Connections to an SQLite file that is ours alone: made when needed, kept while the store is entered."""

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

#: Connections that are kept; more are closed after use.
_KEPT: Final = 4

#: The files of a database while it is open. Each may be taken away by a person, or by a restored copy.
_FILES: Final = ("", "-wal", "-shm")

#: The files that SQLite believes what they say, and writes to, if they lie beside the database.
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")

#: Milliseconds for which the close of a store waits for others, to empty the log.
_PARTING: Final = 500

#: Attempts to connect to a file that is replaced meanwhile.
_TRIES: Final = 3

#: Which files are there: device and inode of each.
_Identity: TypeAlias = tuple[tuple[int, int] | None, ...]

_SCHEMA: Final = (
    # The fence of a key outlives its record. A change is numbered, so that watchers find what is new to them.
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
    """A connection, and the files that it was made to."""

    connection: sqlite3.Connection
    identity: _Identity


@final
class Connections:
    """
    The connections of one store. All methods block.

    Args:
        path: The file.

        timeout: Seconds that another's transaction is waited for.
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
        """Keep connections from now on."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Close the connections, if everyone who entered has left."""
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
        """Give a connection to the file that is under the path now."""
        kept = self._take()
        try:
            yield kept.connection
        finally:
            # Whatever went wrong, the next one finds no transaction open.
            with suppress(sqlite3.Error):
                kept.connection.rollback()
            self._give(kept)

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """
        Give a connection with a transaction that nobody else writes beside, and commit it.

        Raises:
            OSError: The file was taken away meanwhile, so that what was written is in no file.
        """
        with self.reading() as connection:
            file, log, _ = self._identity()
            # A file without a log of its own could be damaged by a loss of power.
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable or log is None else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
            if file is None or self.file() != file:
                msg = f"{self.path} was moved, replaced or taken away while it was written to"
                raise OSError(msg)

    def wipe(self) -> None:
        """Take what was deleted out of the log too, unless another process reads it all the while."""
        with self.reading() as connection:
            _empty_log(connection)

    def file(self) -> object:
        """Return what tells the file under the path from others, or None where there is none."""
        return self._identity()[0]

    def exists(self) -> bool:
        """
        Tell whether there is a file with the table, without making either.

        Raises:
            PermissionError: The file is not ours alone.
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
        # SQLite's connections do not survive a fork, not even to be closed.
        if self._pid != os.getpid():
            self._inherited += self._free
            self._free, self._pid = [], os.getpid()

    def _give(self, kept: _Kept) -> None:
        now = self._identity()
        # The log is made by the first who uses it. Nothing else may have changed.
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
                # Again: the directory may have been replaced after the first look.
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
        # A row of a stranger must not hide the others.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            # What is deleted or replaced is overwritten with zeros.
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
    # Where others read all the while it stays, for them or for the next one to empty.
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _write_ahead(connection: sqlite3.Connection) -> None:
    while True:
        try:
            # On a file system without shared memory it stays what it was, and works.
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            # Beside a transaction that writes SQLite refuses this at once. It waits for a transaction of its own, at
            # most as long as it may, which is then the end of it.
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        else:
            return


def _make_private(path: Path) -> None:
    # Never opened and closed here: closing a file takes away the locks that this process has on it.
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
        # It has a second name while it is made, and keeps it if whoever made it was killed just then.
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
        # A second name, and not another: what appeared there meanwhile is not replaced.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
