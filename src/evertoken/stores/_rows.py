"""The work of `SQLiteStore` in worker threads: records and leases as rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.protocols import Begun, Held, Lease
from evertoken._model.tally import Tally
from evertoken.stores._host_clock import Deadline
from evertoken.stores._reading import opened, report, written
from evertoken.stores._record import TornRecord

if TYPE_CHECKING:
    import sqlite3

    from evertoken._model.leases import Quota, Unused
    from evertoken._model.protocols import Record
    from evertoken.stores._connections import Connections
    from evertoken.stores._host_clock import HostClock
    from evertoken.stores._offload import Abandoned
    from evertoken.stores._record import Codec

__all__ = ["Rows"]

#: The largest value of the column.
_LAST_FENCE: Final = 2**63 - 1

_NEXT: Final = "(SELECT coalesce(max(change), 0) + 1 FROM evertoken)"


@final
class Rows:
    """
    The rows of a store. All methods block.

    Args:
        connections: The connections to the file.

        codec: The codec that seals records, if any.

        clock: The clock for leases.
    """

    def __init__(self, connections: Connections, codec: Codec | None, clock: HostClock) -> None:
        self._connections = connections
        self._codec = codec
        self._clock = clock

    def read(self, key: str) -> Record | None:
        """Return the record of *key*."""
        with self._connections.reading() as db:
            try:
                return self._record(db, key)
            except TornRecord:
                db.execute("BEGIN IMMEDIATE")
                found = self._mended(db, key)
                db.execute("COMMIT")
                return found

    def begin(self, key: str, owner: str, ttl: float, abandoned: Abandoned, quota: Quota | None = None) -> Begun:
        """
        Read the record of *key*. Take its lease and its part of *quota*, if both are free and the caller still waits.
        """
        # A lease need not be durable, because its holder does not survive a loss of power. A count of tokens must be.
        wait, spent = 0.0, None
        with self._connections.writing(durable=quota is not None and quota.per is not None) as db:
            record = self._mended(db, key)
            fence, holder, ends = self._lease(db, key)
            remaining = self._clock.binding(ends)
            if abandoned.is_set() or (remaining > 0.0 and holder != owner):
                return Begun(Held(remaining), record)
            if quota is not None:
                tally = self._tally(db, quota.name)
                wait, spent = tally.take(quota, self._clock.wall())
                self._put_tally(db, quota.name, tally)
                if wait > 0.0:
                    return Begun(Held(wait), record, wait, spent)
            db.execute(
                "INSERT INTO evertoken (key, owner, fence, ends) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, fence = excluded.fence, ends = excluded.ends",
                (key, owner, fence + 1, self._after(ttl)),
            )
        return Begun(Lease(key, owner, fence + 1), record, wait, spent)

    def keep(self, record: Record, lease: Lease, *, ending: bool) -> bool:
        """Keep *record* durably, if the lease and the version allow it. With *ending*, also end the lease."""
        # This comes before the transaction, because the codec may have to fetch its keys.
        data = written(record, self._codec)
        with self._connections.writing() as db:
            fence, owner, _ = self._lease(db, record.key)
            if (record.key, owner, fence) != (lease.key, lease.owner, lease.fence):
                return False
            before = self._mended(db, record.key)
            if record.version <= (0 if before is None else before.version):
                return False
            db.execute(
                f"UPDATE evertoken SET record = ?, change = {_NEXT} WHERE key = ?",  # noqa: S608 - a constant
                (data, record.key),
            )
            if record.revoked:
                db.execute("UPDATE evertoken SET torn = NULL WHERE key = ?", (record.key,))
            if ending:
                db.execute("UPDATE evertoken SET ends = NULL WHERE key = ?", (record.key,))
        return True

    def renew(self, lease: Lease, ttl: float) -> bool:
        """Let *lease* end *ttl* seconds from now, if its owner still holds it."""
        with self._connections.writing(durable=False) as db:
            fence, owner, ends = self._lease(db, lease.key)
            if (owner, fence) != (lease.owner, lease.fence) or self._clock.remaining(ends) <= 0.0:
                return False
            db.execute("UPDATE evertoken SET ends = ? WHERE key = ?", (self._after(ttl), lease.key))
        return True

    def abandon(self, lease: Lease, unused: Unused | None = None) -> None:
        """End *lease* without a write, if its owner holds it, and give *unused* back."""
        with self._connections.writing(durable=False) as db:
            if unused is not None:
                tally = self._tally(db, unused.quota.name)
                tally.give_back(unused, self._clock.wall())
                self._put_tally(db, unused.quota.name, tally)
            db.execute(
                "UPDATE evertoken SET ends = NULL WHERE key = ? AND owner = ? AND fence = ?",
                (lease.key, lease.owner, lease.fence),
            )

    def holder(self, key: str) -> tuple[str, float] | None:
        """Return the holder of the lease of *key*, and the seconds that are left."""
        with self._connections.reading() as db:
            _, owner, ends = self._lease(db, key)
        remaining = self._clock.binding(ends)
        return None if owner is None or remaining <= 0.0 else (owner, remaining)

    def delete(self, key: str) -> bool:
        """Delete the record of *key*, readable or not, and its torn copy."""
        with self._connections.writing() as db:
            done = db.execute(
                f"UPDATE evertoken SET record = NULL, torn = NULL, change = {_NEXT}"  # noqa: S608 - a constant
                " WHERE key = ? AND (record IS NOT NULL OR torn IS NOT NULL)",
                (key,),
            )
        if done.rowcount <= 0:
            return False
        self._connections.wipe()
        return True

    def keys(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Return the keys of the next *limit* records, each with its place."""
        with self._connections.reading() as db:
            return db.execute(
                "SELECT rowid, key FROM evertoken WHERE rowid > ? AND record IS NOT NULL AND typeof(key) = 'text'"
                " ORDER BY rowid LIMIT ?",
                (after, limit),
            ).fetchall()

    def changes(self, since: tuple[object, int] | None) -> tuple[tuple[object, int], list[str | None]]:
        """Return the place of the newest change, and the keys changed after *since*. A None stands for any key."""
        with self._connections.reading() as db:
            file = self._connections.file()
            newest = int(db.execute("SELECT coalesce(max(change), 0) FROM evertoken").fetchone()[0])
            if since is None or since[0] != file or newest < since[1]:
                return (file, newest), [None]
            found = db.execute("SELECT key FROM evertoken WHERE change > ? AND change <= ?", (since[1], newest))
            return (file, newest), [key for (key,) in found if isinstance(key, str)]

    def _record(self, db: sqlite3.Connection, key: str) -> Record | None:
        data = _data(db, key)
        return None if data is None else opened(key, data, self._codec)

    def _mended(self, db: sqlite3.Connection, key: str) -> Record | None:
        try:
            return self._record(db, key)
        except TornRecord as error:
            torn = error.with_traceback(None)
        db.execute("UPDATE evertoken SET torn = record, record = NULL WHERE key = ?", (key,))
        report(str(self._connections.path), key, torn, "it is now in the column torn")
        return None

    def _lease(self, db: sqlite3.Connection, key: str) -> tuple[int, str | None, Deadline | None]:
        found = db.execute("SELECT fence, owner, ends FROM evertoken WHERE key = ?", (key,)).fetchone()
        if found is None:
            return 0, None, None
        fence, owner, ends = found
        if not isinstance(fence, int) or not 0 <= fence < _LAST_FENCE or not isinstance(owner, str | None):
            # A stranger wrote it. The lease starts again, and its owner distinguishes it from others.
            return 0, None, None
        return fence, owner, _deadline(ends)

    def _tally(self, db: sqlite3.Connection, name: str) -> Tally:
        # It is in a separate row, which has no record and never a lease.
        found = db.execute("SELECT ends FROM evertoken WHERE key = ?", (name,)).fetchone()
        try:
            return Tally.of(None if found is None or found[0] is None else json.loads(found[0]))
        except (ValueError, TypeError, RecursionError):
            return Tally()

    def _put_tally(self, db: sqlite3.Connection, name: str, tally: Tally) -> None:
        db.execute(
            "INSERT INTO evertoken (key, owner, fence, ends) VALUES (?, '', 0, ?)"
            " ON CONFLICT (key) DO UPDATE SET ends = excluded.ends",
            (name, json.dumps(tally.fields())),
        )

    def _after(self, ttl: float) -> str:
        return json.dumps(self._clock.after(ttl).fields())


def _deadline(ends: Any) -> Deadline | None:
    try:
        return None if ends is None else Deadline.of(json.loads(ends))
    except (ValueError, TypeError, RecursionError):
        return None


def _data(db: sqlite3.Connection, key: str) -> memoryview | None:
    # It is a view, from a frame that has ended when it is read, because tracebacks show locals.
    for (data,) in db.execute("SELECT record FROM evertoken WHERE key = ? AND record IS NOT NULL", (key,)):
        return memoryview(data if isinstance(data, bytes) else str(data).encode())
    return None
