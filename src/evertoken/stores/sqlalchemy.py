"""A store in a table of the user's own, through SQLAlchemy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from evertoken._model.guarded import Guarded
from evertoken._model.protocols import LONGEST_LEASE, Begun, Held, Lease
from evertoken.stores._offload import Abandoned
from evertoken.stores._row_records import RowRecords
from evertoken.stores._transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from evertoken._model.protocols import Record
    from evertoken.stores._own_table import AsyncEngine, MetaData, Table
    from evertoken.stores._record import Codec

__all__ = ["SQLAlchemyStore"]

T = TypeVar("T")

#: Rows that are read at once when they are listed.
_BATCH: Final = 500

#: Seconds by which an end in milliseconds may be late.
_GRAIN: Final = 0.01


@final
class SQLAlchemyStore(Guarded):
    """
    A `TokenStore` in a table of your own, in PostgreSQL, MySQL, MariaDB or SQLite, through an engine of your own.

    *columns* says which column has which role. A column with the role of a token's field holds that field as it is,
    for your program to read. Your program may write it too: other tokens are a login, and empty ones are a sign-out,
    which members notice when they next look (`TokenManager(check_every=)`). All else of a record is JSON in the column
    with the role "record".

    Each step is one transaction, READ COMMITTED, that locks the row first. Leases are counted by the clock of the
    database, and stand in columns of the table or in a table of their own, which is made with the first lease if it is
    missing. A row is made where a token is kept for a key that has none; it is never deleted, only emptied.

    The engine stays yours: the store neither makes nor disposes of it. Its connections belong to one event loop; calls
    from other loops are made there. With `echo` it logs no token. Needs the extra `sqlalchemy`, and a driver.

    Args:
        engine: An `AsyncEngine` of PostgreSQL, MySQL, MariaDB, or of a SQLite file.

        table: A `Table`, or a mapped class.

        columns:
            Names of columns, or attributes of the class, by their roles:

            - "key": the key of a token, as in `tokens.get(7)`: a whole number, a text or a UUID. Several columns hold
              keys that are tuples. Or instead "name": a text of at least 130 characters for the whole name of a
              record, for managers with one source.
            - "record": a text for all values without a column of their own. It may be NULL, and belongs to the store.
            - "access_token", "refresh_token", "scope", "token_type": texts, each if you want to read it. A token
              without such a column is in "record".
            - "expires_at": a date and time, in UTC where it has no time zone; or a number of epoch seconds.
            - "namespace", "identity": texts, where several managers keep records of the same keys. Without them, a row
              belongs to the first that reads it, and others are refused.
            - "lease_owner" (text), "lease_fence" and "lease_ends" (BigInteger): all three for leases in this table.

        codec: The codec that seals the column "record", such as `evertoken.stores.encryption.AesGcm`. It seals no
            other column.

        leases: The name of the table of leases, or that table, as `lease_table` makes it. "evertoken_leases" by
            default, in the schema of *table*. It is not used where leases have columns.

    Raises:
        ImportError: The extra is not installed.
        TypeError: The engine, the table, the mapping or *leases* has another type.
        ValueError: The database is of another kind, a role or a column is missing, or of the wrong kind.

    The operations raise `OSError` where the database failed: the message says how, and quotes no value.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        table: Table | type[Any],
        columns: Mapping[str, Any],
        codec: Codec | None = None,
        *,
        leases: Table | str | None = None,
    ) -> None:
        # Imported here, so that those who use other stores need not have it.
        from evertoken.stores._own_table import FAILURES, OwnTable  # noqa: PLC0415

        self._table = OwnTable(engine, table, columns, leases)
        names = [self._table.table.name, *self._table.table.c.keys()]
        self._transactions = Transactions(engine, FAILURES, [*names, *(column.name for column in self._table.table.c)])
        self._records = RowRecords(self._table, codec, repr(self))

    @staticmethod
    def lease_table(metadata: MetaData, name: str = "evertoken_leases", *, schema: str | None = None) -> Table:
        """
        Return the table of leases as a part of *metadata*, so that your migrations make it.

        Args:
            metadata: Such as `Base.metadata`.

            name: The name of the table.

            schema: The schema of the table, if need be.
        """
        from evertoken.stores._own_table import lease_table  # noqa: PLC0415

        return lease_table(metadata, name, schema)

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None. Tokens that your program wrote are put on record."""
        place = self._table.place(key)

        async def look(connection: Any) -> tuple[Record | None, bool]:
            row = await self._records.row(connection, place, lock=False)
            return await self._records.opened(place, row)

        async def adopt(connection: Any) -> Record | None:
            row = await self._records.row(connection, place, lock=True)
            return await self._records.adopted(connection, place, row)

        record, is_new = await self._transactions.run(look)
        return await self._write(adopt) if is_new else record

    async def read_many(self, keys: Sequence[str], /) -> dict[str, Record]:
        """Return the records of those *keys* that have one."""
        if not keys:
            return {}
        places = [self._table.place(key) for key in dict.fromkeys(keys)]

        async def look(connection: Any) -> dict[str, tuple[Record | None, bool]]:
            found = (await connection.execute(self._table.select(places, lock=False))).all()
            rows = self._table.rows(places, found)
            return {place.name: await self._records.opened(place, rows[place.name]) for place in places}

        seen = await self._transactions.run(look)
        records = {key: await self.read(key) if is_new else record for key, (record, is_new) in seen.items()}
        return {key: record for key, record in records.items() if record is not None}

    async def begin(self, key: str, owner: str, ttl: float, /) -> Begun:
        """Take the lease of *key*, if it is free or *owner* holds it; and read the record."""
        place, abandoned = self._table.place(key), Abandoned()

        async def work(connection: Any) -> Begun:
            (holder, fence, ends), there, row = await self._records.locked(connection, place)
            record, now = await self._records.adopted(connection, place, row), await self._records.now(connection)
            remaining = ends / 1000.0 - now
            if abandoned.is_set() or (_binds(remaining) and holder != owner):
                return Begun(Held(max(remaining, 0.0)), record)
            # A row that was deleted does not give an older fence again.
            fence = max(fence + 1, int(now * 1e6))
            lease = owner, fence, math.ceil((now + ttl) * 1000.0)
            await self._records.put_lease(connection, place, row, lease, there)
            return Begun(Lease(key, owner, fence), record)

        try:
            return await self._write(work, abandoned)
        except FileNotFoundError:
            # The other steps make no table: its name may be mistyped.
            await self.create_leases()
        return await self._write(work, abandoned)

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record*, and the lease; return False where the lease or the version is outdated."""
        return await self._keep(record, lease, ending=False)

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record*, and end the lease; return False where the lease or the version is outdated."""
        return await self._keep(record, lease, ending=True)

    async def abandon(self, lease: Lease, /) -> None:
        """End *lease* without a write, if its owner still holds it."""
        await self._end(lease, None)

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now; return False where it is no longer held."""
        return await self._end(lease, ttl)

    async def keys(self) -> AsyncIterator[str]:
        """Yield the name of every record, and of every row that your program wrote."""
        last: Any = None
        while True:
            page = self._table.listed(last, _BATCH)

            async def look(connection: Any, page: Any = page) -> list[Any]:
                return list((await connection.execute(page)).all())

            rows = await self._transactions.run(look)
            for row in rows:
                yield self._table.name_in(row)
            if len(rows) < _BATCH:
                return
            last = rows[-1]

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """Return who holds the lease of *key* and for how many seconds yet, or None."""
        place = self._table.place(key)

        async def work(connection: Any) -> tuple[str, float] | None:
            (owner, _, ends), _, _ = await self._records.locked(connection, place)
            remaining = ends / 1000.0 - await self._records.now(connection)
            return (owner, remaining) if _binds(remaining) else None

        try:
            return await self._write(work)
        except FileNotFoundError:
            return None

    async def delete(self, key: str, /) -> bool:
        """Empty the mapped columns of the row of *key*; tell whether there was a record. The row stays."""
        place = self._table.place(key)

        async def work(connection: Any) -> bool:
            row = await self._records.row(connection, place, lock=True)
            if row is None or (row.record is None and not any(row.plain.values())):
                return False
            values = dict.fromkeys(("record", *self._table.plain))
            await connection.execute(self._table.put(place, row, values))
            return True

        return await self._write(work)

    async def exists(self) -> bool:
        """Tell whether the table is there. This makes none."""
        return await self._transactions.run(self._table.exists)

    async def create_leases(self) -> None:
        """Make the table of leases, unless it is there or leases have columns. Done by itself with the first lease."""
        try:
            await self._transactions.run(self._table.create_leases)
        except OSError:
            # Two may make it at once.
            if not await self._transactions.run(self._table.has_leases):
                raise

    def __repr__(self) -> str:
        return f"SQLAlchemyStore({self._table.dialect!r}, table={self._table.table.fullname!r})"

    # How

    async def _write(self, work: Callable[[Any], Awaitable[T]], abandoned: Abandoned | None = None) -> T:
        return await self._transactions.run(work, first=self._table.take_lock(), abandoned=abandoned)

    async def _keep(self, record: Record, lease: Lease, *, ending: bool) -> bool:
        if record.key != lease.key:
            return False
        place = self._table.place(record.key)
        # Before the transaction: vaults may be slow.
        rest = await self._records.sealed(record)

        async def work(connection: Any) -> bool:
            (owner, fence, _), there, row = await self._records.locked(connection, place)
            if (owner, fence) != (lease.owner, lease.fence):
                return False
            before, is_new = await self._records.opened(place, row)
            if is_new:
                # Your program wrote it meanwhile, and nobody has seen it.
                await self._records.adopted(connection, place, row)
                return False
            if record.version <= (0 if before is None else before.version):
                return False
            await self._records.put(connection, place, row, record, rest)
            if ending:
                await self._records.put_lease(connection, place, row, (owner, fence, 0), there)
            return True

        try:
            return await self._write(work)
        except FileNotFoundError:
            return False

    async def _end(self, lease: Lease, ttl: float | None) -> bool:
        place = self._table.place(lease.key)

        async def work(connection: Any) -> bool:
            (owner, fence, ends), there, row = await self._records.locked(connection, place)
            if not there or (owner, fence) != (lease.owner, lease.fence):
                return False
            until = 0
            if ttl is not None:
                now = await self._records.now(connection)
                if ends <= now * 1000.0:
                    return False
                until = math.ceil((now + ttl) * 1000.0)
            await self._records.put_lease(connection, place, row, (owner, fence, until), there)
            return True

        try:
            return await self._write(work)
        except FileNotFoundError:
            return False


def _binds(remaining: float) -> bool:
    return 0.0 < remaining <= LONGEST_LEASE + _GRAIN
