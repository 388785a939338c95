"""
Connections to an SQLite file that is ours alone: made when needed, kept while the store is entered.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final, final

from evertoken.stores._folder import check_owner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Connections"]

#: Connections that are kept; more are closed after use.
_KEPT: Final = 4

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
        self._free: list[sqlite3.Connection] = []
        self._inherited: list[sqlite3.Connection] = []
        self._pid = os.getpid()

    def enter(self) -> None:
        """
        Keep connections from now on.
        """
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """
        Close the connections, if everyone who entered has left.
        """
        with self._lock:
            self._users -= 1
            free, self._free = ([], self._free) if self._users else (self._free, [])
        for connection in free:
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """
        Give a connection.
        """
        connection = self._take()
        try:
            yield connection
        finally:
            # Whatever went wrong, the next one finds no transaction open.
            with suppress(sqlite3.Error):
                connection.rollback()
            self._give(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """
        Give a connection with a transaction that nobody else writes beside, and commit it.
        """
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._pid != os.getpid():
                # SQLite's connections do not survive a fork, not even to be closed.
                self._inherited += self._free
                self._free, self._pid = [], os.getpid()
            if self._free:
                return self._free.pop()
        return self._connect()

    def _give(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if self._users and len(self._free) < _KEPT:
                self._free.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        _make_private(self.path)
        connection = sqlite3.connect(self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = FULL")
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
        found = path.lstat()
    except FileNotFoundError:
        _make(path)
        found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        msg = f"{path} is a symbolic link, or no file; name the file itself"
        raise PermissionError(msg)
    check_owner(found, path, forbidden=0o077)
    folder = path.parent.stat()
    if hasattr(os, "geteuid") and folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX:
        msg = f"{path.parent} may be written to by others, who could replace what is kept there"
        raise PermissionError(msg)


def _make(path: Path) -> None:
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}.tmp")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        # A second name, and not another: what appeared there meanwhile is not replaced.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
