"""
A store in PostgreSQL: for processes on many hosts, whose tokens should be as durable as their other data.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, final

from evertoken._model.protocols import Held, Lease
from evertoken.stores._per_loop import PerLoop
from evertoken.stores._reading import key_in, opened, report, written
from evertoken.stores._record import TornRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from evertoken._model.protocols import Record
    from evertoken.stores._record import Codec

__all__ = ["PostgresStore"]

#: Seconds that a connection, a lock or an answer is waited for: less than a manager waits for a store.
TIMEOUT: Final = 4.0

#: Seconds of silence after which a watch asks whether the server is still there.
SILENCE: Final = 5.0

#: The longest key that fits in a notification, in bytes; for a longer one everybody looks at everything.
_LONGEST_NOTICE: Final = 7000

#: The longest key that is a row's own, in bytes: an index takes no more than 2704.
_LONGEST_KEY: Final = 2000

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS {table} (
    key text PRIMARY KEY,
    version bigint NOT NULL DEFAULT 0,
    record bytea,
    fence bigint NOT NULL DEFAULT 0,
    owner text NOT NULL DEFAULT '',
    ends timestamptz NOT NULL DEFAULT '-infinity',
    torn bytea
)
"""

_ACQUIRE: Final = """
INSERT INTO {table} AS held (key, fence, owner, ends)
VALUES (%(key)s, 1, %(owner)s, clock_timestamp() + make_interval(secs => %(ttl)s))
ON CONFLICT (key) DO UPDATE
SET fence = held.fence + 1, owner = excluded.owner, ends = clock_timestamp() + make_interval(secs => %(ttl)s)
WHERE held.ends <= clock_timestamp()
RETURNING fence
"""

_LEFT: Final = """
SELECT owner, extract(epoch FROM ends - clock_timestamp())::float FROM {table}
WHERE key = %(key)s AND ends > clock_timestamp()
"""

_WRITE: Final = """
WITH done AS (
    UPDATE {table} SET version = %(version)s, record = %(record)s
    WHERE key = %(key)s AND fence = %(fence)s AND owner = %(owner)s AND version < %(version)s
    RETURNING key
)
SELECT pg_notify(%(channel)s, %(notice)s) FROM done
"""

_RENEW: Final = """
UPDATE {table} SET ends = clock_timestamp() + make_interval(secs => %(ttl)s)
WHERE key = %(key)s AND fence = %(fence)s AND owner = %(owner)s AND ends > clock_timestamp()
RETURNING 1
"""

_RELEASE: Final = """
UPDATE {table} SET ends = '-infinity' WHERE key = %(key)s AND fence = %(fence)s AND owner = %(owner)s RETURNING 1
"""

_READ: Final = "SELECT record FROM {table} WHERE key = %(key)s AND record IS NOT NULL"

_SET_ASIDE: Final = """
UPDATE {table} SET torn = record, record = NULL, version = 0 WHERE key = %(key)s AND record = %(record)s RETURNING 1
"""

_DELETE: Final = """
UPDATE {table} SET record = NULL, torn = NULL, version = 0 WHERE key = %(key)s AND record IS NOT NULL RETURNING 1
"""

_KEYS: Final = """
SELECT key, CASE WHEN octet_length(key) > %(longest)s THEN record END FROM {table}
WHERE record IS NOT NULL AND key > %(after)s ORDER BY key LIMIT 500
"""


@final
class PostgresStore:
    """
    A `TokenStore` in a table of PostgreSQL (13 or later), shared by all who reach the server.

    Writes and leases are single statements, by the server's clock; peers are told of a write at once by LISTEN and
    NOTIFY. The table is made with the first lease if it is missing, and this user may. Needs the extra `postgres`.

    A row that is no record is moved to the column `torn`, reported as a warning to the log "evertoken", and counts as
    missing. One that cannot be read with the keys at hand is an `UnreadableRecord`, and stays as it is.

    A manager enters the store and leaves it; between, connections are kept (four at most, and one to listen), for each
    event loop its own.

    Args:
        conninfo: How to connect: a URL (`postgresql://`) or what libpq takes, such as "host=db dbname=app".

        codec: What seals records, such as `evertoken.stores.encryption.AesGcm`.

        table: The table's name, with its schema if need be.

    Raises:
        ImportError: The extra is not installed.
        ValueError: *conninfo* is empty, or *table* is no name.
    """

    def __init__(self, conninfo: str, codec: Codec | None = None, *, table: str = "evertoken") -> None:
        if not isinstance(conninfo, str) or not conninfo.strip():
            msg = "conninfo must say how to connect, as in 'postgresql://user@host/database'"
            raise ValueError(msg)
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", table, re.ASCII):
            msg = f"table must be a plain name, with its schema if need be, not {table!r}"
            raise ValueError(msg)
        self._psycopg, self._pool = _library()
        self._conninfo = _bounded(self._psycopg, conninfo)
        self._codec = codec
        self._table = table
        self._channel = table.replace(".", "_")
        self._pools: PerLoop[Any] = PerLoop(self._make, self._close)

    async def read(self, key: str, /) -> Record | None:
        """
        Return the record of *key*, or None.
        """
        row = await self._one(_READ, key)
        if row is None:
            return None
        data = memoryview(bytes(row[0]))
        try:
            return opened(key, data, self._codec)
        except TornRecord as error:
            torn = error.with_traceback(None)
        await self._one(_SET_ASIDE, key, record=data.tobytes())
        report(repr(self), key, torn, "it was moved to the column 'torn'")
        return None

    async def write(self, record: Record, lease: Lease, /) -> bool:
        """
        Keep *record* durably, and tell those who watch; return False where the lease or the version is outdated.
        """
        data = written(record, self._codec)
        if record.key != lease.key:
            return False
        # What is not for this reader is not overwritten, and what is no record is out of the way.
        await self.read(record.key)
        notice = record.key if len(record.key.encode()) <= _LONGEST_NOTICE else ""
        values = {"fence": lease.fence, "owner": lease.owner, "channel": self._channel, "notice": notice}
        return await self._one(_WRITE, record.key, version=record.version, record=data.tobytes(), **values) is not None

    async def acquire(self, key: str, owner: str, ttl: float, /) -> Lease | Held:
        """
        Take the lease of *key* for *ttl* seconds, or say for how long it is somebody else's.
        """
        row = await self._one(_ACQUIRE, key, owner=owner, ttl=ttl)
        if row is not None:
            return Lease(key, owner, int(row[0]))
        found = await self._one(_LEFT, key)
        return Held(0.0 if found is None else max(float(found[1]), 0.0))

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """
        Let *lease* end *ttl* seconds from now; return False where it is no longer held.
        """
        return await self._one(_RENEW, lease.key, fence=lease.fence, owner=lease.owner, ttl=ttl) is not None

    async def release(self, lease: Lease, /) -> None:
        """
        End *lease*, if it is still held by its owner.
        """
        await self._one(_RELEASE, lease.key, fence=lease.fence, owner=lease.owner)

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* with each key that was written, until cancelled.

        Raises:
            OSError: The server has not answered for four seconds.
        """
        connection = await self._psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        async with connection:
            await connection.execute(f'LISTEN "{self._channel}"')
            changed(None)
            while True:
                async for notice in connection.notifies(timeout=SILENCE, stop_after=1):
                    changed(notice.payload or None)
                # A connection that was cut without a word looks like one where nothing happens.
                async with asyncio.timeout(TIMEOUT):
                    await connection.execute("SELECT 1")

    async def keys(self) -> AsyncIterator[str]:
        """
        Yield the key of every record.
        """
        after = ""
        while rows := await self._all(_KEYS, after=after, longest=_LONGEST_KEY):
            for after, record in rows:
                yield after if record is None else key_in(memoryview(bytes(record))) or after

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """
        Return who holds the lease of *key* and for how many seconds yet, or None.
        """
        row = await self._one(_LEFT, key)
        return None if row is None or not row[1] > 0.0 else (str(row[0]), float(row[1]))

    async def delete(self, key: str, /) -> bool:
        """
        Take the record of *key* out; tell whether there was one.
        """
        return await self._one(_DELETE, key) is not None

    async def create_table(self) -> None:
        """
        Make the table, unless it is there. Done by itself with the first lease.
        """
        errors = self._psycopg.errors
        async with self._pools.use() as pool, pool.connection() as connection:
            # "If not exists" does not keep two from making it at once.
            with suppress(errors.UniqueViolation, errors.DuplicateTable, errors.DuplicateObject):
                await connection.execute(self._sql(_TABLE))

    async def __aenter__(self) -> Self:
        self._pools.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pools.leave()

    def __repr__(self) -> str:
        known = self._psycopg.conninfo.conninfo_to_dict(self._conninfo)
        place = " ".join(f"{name}={known[name]}" for name in ("host", "port", "dbname") if name in known)
        return f"PostgresStore({place!r}, table={self._table!r})"

    # How

    async def _make(self) -> Any:
        pool = self._pool.AsyncConnectionPool(
            self._conninfo,
            min_size=0,
            max_size=4,
            timeout=TIMEOUT,
            kwargs={"autocommit": True},
            check=self._pool.AsyncConnectionPool.check_connection,
            open=False,
        )
        await pool.open()
        return pool

    async def _close(self, pool: Any) -> None:
        await pool.close()

    async def _one(self, query: str, key: str, **values: object) -> Any:
        rows = await self._all(query, key=_row_of(key), **values)
        return rows[0] if rows else None

    async def _all(self, query: str, **values: object) -> list[Any]:
        with suppress(self._psycopg.errors.UndefinedTable):
            return await self._run(query, values)
        # Who only looks, perhaps under a mistyped name, makes none.
        if query is not _ACQUIRE:
            return []
        await self.create_table()
        return await self._run(query, values)

    async def _run(self, query: str, values: dict[str, object]) -> list[Any]:
        async with self._pools.use() as pool, pool.connection() as connection:
            cursor = await connection.execute(self._sql(query), values)
            rows: list[Any] = await cursor.fetchall()
            return rows

    def _sql(self, query: str) -> str:
        # The name was checked to be one.
        return query.format(table=self._table)


def _row_of(key: str) -> str:
    data = key.encode()
    if len(data) <= _LONGEST_KEY:
        return key
    # Longer than any that is its own, so that it is nobody's.
    return f"{data[:_LONGEST_KEY].decode(errors='ignore')}#{hashlib.sha256(data).hexdigest()}"


def _library() -> tuple[Any, Any]:
    try:
        import psycopg  # noqa: PLC0415 - needed for an instance, not for the name
        import psycopg_pool  # noqa: PLC0415
    except ImportError as error:
        msg = "evertoken.stores.PostgresStore needs psycopg: pip install 'evertoken[postgres]'"
        raise ImportError(msg) from error
    return psycopg, psycopg_pool


def _bounded(psycopg: Any, conninfo: str) -> str:
    milliseconds = int(TIMEOUT * 1000.0)
    bounds = {
        "connect_timeout": int(TIMEOUT),
        "tcp_user_timeout": milliseconds,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
        "application_name": "evertoken",
    }
    try:
        known = psycopg.conninfo.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        msg = "conninfo is neither a URL nor what libpq takes"
        raise ValueError(msg) from None
    # What the user says counts.
    text: str = psycopg.conninfo.make_conninfo(**{**bounds, **known})
    return text
