"""A table of the user's as rows of records, and the one door to SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

try:
    import sqlalchemy as sa
    from sqlalchemy import MetaData, Table
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncEngine
except ImportError as _error:
    msg = "evertoken.stores.SQLAlchemyStore needs SQLAlchemy: pip install 'evertoken[sqlalchemy]'"
    raise ImportError(msg) from _error

from evertoken._model.guarded import Hidden
from evertoken.stores._grants import PLAIN, SECRETS
from evertoken.stores._mapped import LEASE, WHOSE, Place, Row, as_instant, by_role, check_kind, length_of
from evertoken.stores._mapped_rows import MappedRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["FAILURES", "AsyncEngine", "MetaData", "OwnTable", "Table", "lease_table"]

#: The base of all that SQLAlchemy raises, and a broken constraint.
FAILURES: Final = (SQLAlchemyError, IntegrityError)

#: The time of the database's clock, in epoch seconds.
_NOW: Final = {
    "postgresql": "extract(epoch from clock_timestamp())::float8",
    "mysql": "timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) * 1e-6",
    "mariadb": "timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) * 1e-6",
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
}


def lease_table(metadata: MetaData, name: str, schema: str | None) -> Table:
    """Return the table of leases, as a part of *metadata*."""
    return Table(
        name,
        metadata,
        sa.Column("row", sa.String(64), primary_key=True),
        sa.Column("lease_owner", sa.Text, nullable=False),
        sa.Column("lease_fence", sa.BigInteger, nullable=False),
        sa.Column("lease_ends", sa.BigInteger, nullable=False),
        schema=schema,
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )


class _Veiled(sa.types.TypeDecorator[Any]):
    """A type whose values do not show in the log of an engine with echo="debug"."""

    impl: Any = sa.Text
    cache_ok: bool | None = True

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = self.impl = inner

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002 - the signature
        return None if value is None else Hidden(value)


class _Secret(str):
    """A text whose `repr` shows nothing, because an engine with echo logs it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@final
class OwnTable(MappedRows):
    """
    A mapped table, and the statements for it.

    Args:
        engine: Its dialect is used.

        table: A `Table` or a mapped class.

        columns: The roles of the columns.

        leases: The table of leases, or its name, unless the roles of a lease are mapped.
    """

    def __init__(self, engine: AsyncEngine, table: Any, columns: Mapping[str, Any], leases: Table | str | None) -> None:
        if not isinstance(engine, AsyncEngine):
            msg = f"engine must be an AsyncEngine, as create_async_engine() returns it, not a {type(engine).__name__}"
            raise TypeError(msg)
        if engine.dialect.name not in _NOW:
            msg = f"engine must be of PostgreSQL, MySQL, MariaDB or SQLite, not of {engine.dialect.name}"
            raise ValueError(msg)
        if engine.dialect.name == "sqlite" and engine.url.database in {None, "", ":memory:"}:
            msg = "engine must be of a database file: a database in memory has one connection; MemoryStore needs none"
            raise ValueError(msg)
        self.table, known = _table_of(table)
        roles = by_role(columns, known)
        self._check(roles)
        self.dialect: str = engine.dialect.name
        verbatim = "name" in roles
        keys = roles.pop("name", None) or roles.pop("key")
        held = {role: found for role, (found,) in roles.items()}
        super().__init__(keys, held, tuple(role for role in PLAIN if role in held), verbatim=verbatim)
        self.own_leases: Table | None = None
        if LEASE[0] not in self.columns:
            given = "evertoken_leases" if leases is None else leases
            made = lease_table(MetaData(), given, self.table.schema) if isinstance(given, str) else given
            self.own_leases = _lease_table_in(made)
        self.now: sa.ColumnElement[Any] = sa.literal_column(_NOW[self.dialect], sa.Double).label("now")

    def _check(self, roles: Mapping[str, Sequence[sa.Column[Any]]]) -> None:
        if ("name" in roles) == ("key" in roles):
            msg = "columns must map either 'key', to the keys of your own (as a user's id), or 'name', to whole names"
            raise ValueError(msg)
        if "record" not in roles:
            msg = "columns must map 'record' to a column of text that nothing else uses"
            raise ValueError(msg)
        if len([role for role in LEASE if role in roles]) not in {0, len(LEASE)}:
            msg = f"columns must map all of {', '.join(LEASE)}, or none of them"
            raise ValueError(msg)
        for role, found in roles.items():
            if len(found) > 1 and role != "key":
                msg = f"columns[{role!r}] must name one column; only 'key' may have several"
                raise ValueError(msg)
            for column in found:
                check_kind(role, column)
                if role in LEASE[1:] and not isinstance(column.type, sa.BigInteger):
                    msg = f"columns[{role!r}] must be a BigInteger, and {column.name!r} is {column.type!r}"
                    raise ValueError(msg)

    # Statements

    def select(self, places: Sequence[Place], *, lock: bool) -> sa.Select[Any]:
        """Return what reads the rows of *places*, those of nobody's identity included."""
        shown = [self._shown(role) for role in (*WHOSE, *self.plain, "record", *LEASE) if role in self.columns]
        wanted = sa.or_(*(sa.and_(*self._where(place)) for place in places))
        found = sa.select(*self._key_columns(), *shown, self.now).where(wanted)
        return found.with_for_update() if lock else found

    def listed(self, after: Any, limit: int) -> sa.Select[Any]:
        """Return what reads the keys of the next *limit* rows behind the row *after*."""
        whose = [self._shown(role) for role in (*WHOSE, "record") if role in self.columns]
        there = [self.columns["record"].is_not(None)]
        there += [sa.func.coalesce(self.columns[role], "") != "" for role in SECRETS if role in self.columns]
        found = sa.select(*self._key_columns(), *whose).where(sa.or_(*there)).order_by(*self._order()).limit(limit)
        if after is None:
            return found
        values = [*self.keys_in(after), *(after._mapping[role] or "" for role in WHOSE if role in self.columns)]  # noqa: SLF001
        bound = [sa.literal(value, column.type) for value, column in zip(values, self._order(), strict=True)]
        return found.where(sa.tuple_(*self._order()) > sa.tuple_(*bound))

    def select_lease(self, place: Place) -> sa.Select[Any]:
        """Return what reads and locks the lease of *place* in its own table."""
        leases = self.own_leases
        assert leases is not None  # noqa: S101 - there is one
        return sa.select(*(leases.c[role] for role in LEASE)).where(leases.c.row == place.row).with_for_update()

    def take_lock(self) -> sa.Update | None:
        """Return what takes the lock of a database that has but one, or None."""
        if self.dialect != "sqlite":
            return None
        record = self.columns["record"]
        return sa.update(self.table).where(sa.false()).values({record: record})

    def put_lease(self, place: Place, lease: tuple[str, int, int], *, there: bool) -> Any:
        """Return what writes *lease* into its own table."""
        leases = self.own_leases
        assert leases is not None  # noqa: S101 - there is one
        values: dict[str, Any] = dict(zip(LEASE, lease, strict=True))
        if there:
            return sa.update(leases).where(leases.c.row == place.row).values(values)
        return sa.insert(leases).values(row=place.row, **values)

    def put(self, place: Place, row: Row | None, values: Mapping[str, Any]) -> Any:
        """Return what writes *values*, by their roles, into *row*, or into a new one."""
        written = {self.columns[role]: self._written(role, value) for role, value in values.items()}
        if row is not None:
            # A row of nobody's identity is taken over by the first who reads it.
            found = sa.update(self.table).where(*self._where(place, exactly=row))
            if "identity" in self.columns:
                written[self.columns["identity"]] = row.identity = place.identity
            return found.values(written)
        known = zip(self.keys, place.keys, strict=True)
        whose = {self.columns[role]: getattr(place, role) for role in WHOSE if role in self.columns}
        empty = {self.columns[role]: self._written(role, None) for role in self.plain if role not in values}
        return sa.insert(self.table).values(dict(known) | whose | empty | written)

    def clock(self) -> sa.Select[Any]:
        """Return what reads the database's clock."""
        return sa.select(self.now)

    async def exists(self, connection: AsyncConnection) -> bool:
        """Tell whether the table is there."""
        return await _is_there(connection, self.table)

    async def has_leases(self, connection: AsyncConnection) -> bool:
        """Tell whether leases have a place."""
        return self.own_leases is None or await _is_there(connection, self.own_leases)

    async def create_leases(self, connection: AsyncConnection) -> None:
        """Make the table of leases, unless it is there."""
        if self.own_leases is not None:
            await connection.run_sync(self.own_leases.create, checkfirst=True)

    def _where(self, place: Place, exactly: Row | None = None) -> list[Any]:
        where = [column == value for column, value in zip(self.keys, place.keys, strict=True)]
        if "namespace" in self.columns:
            where.append(self.columns["namespace"] == place.namespace)
        if "identity" in self.columns:
            column = self.columns["identity"]
            if exactly is None:
                where.append(sa.or_(column == place.identity, column == "", column.is_(None)))
            else:
                where.append(column.is_(None) if exactly.identity is None else column == exactly.identity)
        return where

    def _key_columns(self) -> list[Any]:
        return [column.label(f"key{number}") for number, column in enumerate(self.keys)]

    def _order(self) -> list[Any]:
        return [*self.keys, *(sa.func.coalesce(self.columns[role], "") for role in WHOSE if role in self.columns)]

    def _shown(self, role: str) -> sa.ColumnElement[Any]:
        column = self.columns[role]
        return (sa.type_coerce(column, _Veiled(column.type)) if role in {*SECRETS, "record"} else column).label(role)

    def _written(self, role: str, value: Any) -> Any:
        column = self.columns[role]
        if role == "expires_at":
            return as_instant(column, value)
        if value is None:
            return None if column.nullable or role not in PLAIN else ""
        if not isinstance(value, str):
            return value
        longest = length_of(column)
        if longest is not None and len(value) > longest:
            msg = f"the column {column.name!r} holds {longest} characters, and {role} has {len(value)}: make it longer"
            raise ValueError(msg)
        return _Secret(value)


def _table_of(given: Any) -> tuple[Table, Mapping[str, Any]]:
    if isinstance(given, Table):
        return given, dict(given.c.items())
    mapper = sa.inspect(given, raiseerr=False) if isinstance(given, type) else None
    table = getattr(mapper, "local_table", None)
    if mapper is None or not isinstance(table, Table):
        msg = f"table must be a Table of SQLAlchemy or a mapped class, not {type(given).__name__}"
        raise TypeError(msg)
    # The attributes of the class, and what the table calls its columns.
    return table, {**dict(table.c.items()), **dict(mapper.columns.items())}


def _lease_table_in(given: Any) -> Table:
    if not isinstance(given, Table) or {"row", *LEASE} - set(given.c.keys()):
        msg = "leases must be a name, or a Table as SQLAlchemyStore.lease_table() makes it"
        raise TypeError(msg)
    return given


async def _is_there(connection: AsyncConnection, table: Table) -> bool:
    return await connection.run_sync(lambda sync: sa.inspect(sync).has_table(table.name, schema=table.schema))
