"""A store in PostgreSQL, for processes on many hosts whose tokens must be as durable as their other data."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, final

from evertoken._model.guarded import Guarded
from evertoken._model.protocols import Begun, Held, Lease
from evertoken.stores import _postgres_quota as quotas
from evertoken.stores._offload import offload
from evertoken.stores._per_loop import PerLoop
from evertoken.stores._postgres_pool import Pool
from evertoken.stores._postgres_statements import Statements
from evertoken.stores._reading import key_in, opened, report, written
from evertoken.stores._record import TornRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from evertoken._model.leases import Quota, Unused
    from evertoken._model.protocols import Record
    from evertoken.stores._postgres_statements import Statement
    from evertoken.stores._record import Codec

__all__ = ["PostgresStore"]

#: The length in bytes up to which a key itself identifies a row. An index accepts at most 2704 bytes.
_LONGEST_KEY: Final = 2000

#: Whether a record of another writer was read before it is replaced.
_SEEN, _NOT_SEEN = True, False


@final
class PostgresStore(Guarded):
    """
    A `TokenStore` in a table of PostgreSQL (13 or later), shared by all processes that can reach the server.

    Each step is one statement in one round trip, and uses the server's clock. A write counts as done only when it is on
    disk. The server's default for that does not matter. Peers learn of a write at once by LISTEN and NOTIFY. If the
    table is missing, the first lease creates it, if this user has the right. It needs the extra `postgres`.

    The settings of the role do not matter, because statements run as READ COMMITTED and READ WRITE. A pooler such as
    PgBouncer may be in front of the server, in session or transaction mode. Then a statement brings its settings along,
    and peers look for writes every `poll` seconds, because notices may not get through.

    A row that is not a record is moved to the column `torn`, is reported as a warning to the log "evertoken", and
    counts as missing. A record that cannot be read with the available keys raises `UnreadableRecord`, and stays as it
    is.

    A manager enters the store and leaves it. In between, connections are kept for each event loop.

    Args:
        conninfo: How to connect: a URL (`postgresql://`) or a text for libpq, such as "host=db dbname=app". Across a
            network, use `sslmode=verify-full`, because libpq does not verify the host name in other modes. If TLS is
            used without it, a warning is logged once.

        codec: A codec that seals records, such as `evertoken.stores.encryption.AesGcm`.

        table: The name of the table, with its schema if necessary, such as "app.tokens". Case matters. Put special
            parts into double quotes.

        max_connections: The largest number of connections of an event loop, besides the one that listens. If none is
            free, a statement waits for one. If the server allows fewer, the store works with these.

        poll: Seconds between two looks for writes of other processes, if there is a pooler.

    Raises:
        ImportError: The extra is not installed.
        ValueError: *conninfo* is empty, libpq does not accept it, or a part of a password with special characters is in
            another field. Or *table* is not a name, or a number is not above zero.
    """

    def __init__(
        self,
        conninfo: str,
        codec: Codec | None = None,
        *,
        table: str = "evertoken",
        max_connections: int = 4,
        poll: float = 1.0,
    ) -> None:
        # It is imported here, so that users of other stores do not need the extra.
        from evertoken.stores import _postgres_watch, _postgres_wire  # noqa: PLC0415

        if not isinstance(conninfo, str) or not conninfo.strip():
            msg = "conninfo must state how to connect, as in 'postgresql://user@host/database'"
            raise ValueError(msg)
        for name, number in (("max_connections", max_connections), ("poll", poll)):
            if not number > 0:
                msg = f"{name} must be above zero, not {number!r}"
                raise ValueError(msg)
        #: Whether each write is reported once to each watch. This is False for a watch that has to poll.
        self.tells_each_write: bool = False
        #: This store keeps the rates and budgets of providers, in a second table.
        self.keeps_quotas: bool = True
        self._sql = Statements(table)
        self._wire, self._watch = _postgres_wire, _postgres_watch
        self._conninfo = _postgres_wire.bounded(conninfo)
        self._codec = codec
        self._table = table
        self._poll = poll
        self._connections = max_connections
        self._pools: PerLoop[Pool] = PerLoop(self._make, Pool.close)

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None."""
        rows = await self._run(self._sql.read, _row_of(key))
        return await self._opened(key, rows[0][0]) if rows else None

    async def read_many(self, keys: Sequence[str], /) -> dict[str, Record]:
        """Return the records of those *keys* that have one."""
        rows = dict(await self._run(self._sql.read_many, [_row_of(key) for key in keys]))
        found = {key: data for key in keys if (data := rows.get(_row_of(key))) is not None}
        records = {key: await self._opened(key, data) for key, data in found.items()}
        return {key: record for key, record in records.items() if record is not None}

    async def begin(self, key: str, owner: str, ttl: float, /, *, quota: Quota | None = None) -> Begun:
        """Take the lease of *key*, if it is free or *owner* holds it, with a part of *quota*, and read the record."""
        statement, values, taken = self._sql.begin, [_row_of(key), owner, ttl], None
        if quota is not None:
            statement, values = self._sql.begin_with, [*values, _row_of(quota.name), *quotas.taken(quota)]
        # Only this step creates the table, because its name may be mistyped.
        ((holder, fence, remaining, data, _, *said),) = await self._run(statement, *values, make=True)
        if quota is not None:
            taken = quotas.Taking(quota, *said)
        wait, spent = (0.0, None) if taken is None else (taken.wait, taken.spent)
        given = holder == owner and not wait
        lease = Lease(key, owner, fence) if given else Held(wait or max(remaining, 0.0))
        if taken is not None and taken.is_idle(given=given):
            # Two members began the first lease of a key at the same time.
            await self.abandon(Lease(key, owner, 0), unused=taken.unused)
            spent = None
        if data is None:
            return Begun(lease, None, wait, spent)
        try:
            return Begun(lease, await self._opened(key, data), wait, spent)
        except Exception:
            # Other members may be able to read it.
            if isinstance(lease, Lease):
                await self.abandon(lease, unused=None if taken is None else taken.unused)
            raise

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* durably, and the lease. Return False if the lease or the version is outdated."""
        return await self._keep(self._sql.mark, record, lease)

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* durably, and end the lease. Return False if the lease or the version is outdated."""
        return await self._keep(self._sql.commit, record, lease)

    async def add_many(self, records: Sequence[Record], /) -> list[bool]:
        """
        Keep each record whose key has no record and whose lease is free, all in one statement. Return which were kept.
        """

        def sealed() -> str:
            return json.dumps(
                [
                    {
                        "row": _row_of(record.key),
                        "version": record.version,
                        "record": base64.b64encode(written(record, self._codec)).decode(),
                        "notice": self._notice(record.key),
                    }
                    for record in records
                ]
            )

        given = sealed() if self._codec is None else await offload(sealed)
        kept = {row for row, *_ in await self._run(self._sql.add, given, make=True)}
        return [_row_of(record.key) in kept for record in records]

    async def abandon(self, lease: Lease, /, *, unused: Unused | None = None) -> None:
        """End *lease* without a write, if its owner still holds it, and give *unused* back."""
        values = _row_of(lease.key), lease.fence, lease.owner
        if unused is None:
            await self._run(self._sql.abandon, *values)
        else:
            more = _row_of(unused.quota.name), *quotas.given_back(unused)
            await self._run(self._sql.give_back, *values, *more)

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now. Return False if it is no longer held."""
        return bool(await self._run(self._sql.renew, _row_of(lease.key), lease.fence, lease.owner, ttl))

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* with each key that was written, until cancelled.

        Raises:
            OSError: The server has not answered for four seconds.
        """

        def listening(*, listens: bool) -> None:
            self.tells_each_write = listens

        await self._watch.watch(self._conninfo, self._sql, self._poll, _LONGEST_KEY, changed, listening=listening)

    async def keys(self) -> AsyncIterator[str]:
        """Yield the key of every record."""
        after = ""
        while rows := await self._run(self._sql.keys, after, _LONGEST_KEY):
            for after, record in rows:
                yield after if record is None else key_in(record) or after

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """Return the owner that holds the lease of *key* and the seconds until it ends, or None."""
        rows = await self._run(self._sql.holder, _row_of(key))
        return (rows[0][0], rows[0][1]) if rows and rows[0][1] > 0.0 else None

    async def delete(self, key: str, /) -> bool:
        """Delete the record of *key* and its torn copy. Return whether there was one."""
        return bool(await self._run(self._sql.delete, _row_of(key), self._notice(key)))

    async def exists(self) -> bool:
        """Tell whether the table exists."""
        return await self._run(self._sql.exists, self._sql.name) == [(True,)]

    async def create_table(self) -> None:
        """Create the table and the one for quotas, if they do not exist. The first lease does this automatically."""
        errors = self._wire.errors
        for statement in (self._sql.create, self._sql.create_quotas):
            # "If not exists" does not prevent two sessions from creating it at the same time.
            with suppress(errors.UniqueViolation, errors.DuplicateTable, errors.DuplicateObject):
                await self._asked(statement)

    async def __aenter__(self) -> Self:
        self._pools.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pools.leave()

    def __repr__(self) -> str:
        return f"PostgresStore({self._wire.place_of(self._conninfo)!r}, table={self._table!r})"

    # How

    async def _keep(self, statement: Statement, record: Record, lease: Lease) -> bool:
        key = record.key
        if key != lease.key:
            return False
        # The codec may ask a vault, which may be slow.
        seal = partial(written, record, self._codec)
        data = seal() if self._codec is None else await offload(seal)
        values = (_row_of(key), lease.fence, lease.owner, record.version, data, self._notice(key))
        if await self._run(statement, *values, _NOT_SEEN, record.revoked):
            return True
        # The version is outdated, or a stranger wrote the record. Reading raises an error if this reader cannot read
        # the record, and sets a torn one aside.
        await self.read(key)
        return bool(await self._run(statement, *values, _SEEN, record.revoked))

    async def _opened(self, key: str, data: memoryview) -> Record | None:
        try:
            if self._codec is None:
                return opened(key, data, None)
            return await offload(opened, key, data, self._codec)
        except TornRecord as error:
            torn = error.with_traceback(None)
        await self._run(self._sql.set_aside, _row_of(key), data)
        report(repr(self), key, torn, "it was moved to the column 'torn'")
        return None

    async def _run(self, statement: Statement, *values: Any, make: bool = False) -> list[tuple[Any, ...]]:
        try:
            return await self._asked(statement, *values)
        except self._wire.errors.UndefinedTable:
            if not make:
                return []
        await self.create_table()
        return await self._asked(statement, *values)

    async def _asked(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]:
        async with self._pools.use() as pool, pool.use() as wire:
            return await wire.run(statement, *values)

    async def _make(self) -> Pool:
        return Pool(partial(self._wire.connect, self._conninfo), self._connections)

    def _notice(self, key: str) -> str:
        return key if len(key.encode()) <= self._watch.LONGEST_NOTICE else ""


def _row_of(key: str) -> str:
    data = key.encode()
    if len(data) <= _LONGEST_KEY:
        return key
    # This is longer than any key that identifies a row itself, so it belongs to no other key.
    return f"{data[:_LONGEST_KEY].decode(errors='ignore')}#{hashlib.sha256(data).hexdigest()}"
