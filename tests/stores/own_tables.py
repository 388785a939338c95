"""Tables as users have them, in the databases that SQLAlchemy reaches, and stores in them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from evertoken.stores import SQLAlchemyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

#: Longer than MySQL's texts by default, and compared byte by byte.
LONG = sa.Text().with_variant(MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")
NAME = sa.String(700).with_variant(sa.String(700, collation="utf8mb4_nopad_bin"), "mysql", "mariadb")

DATABASES = ["sqlite", "asyncpg", "psycopg", "aiomysql", "asyncmy"]


def url_of(database: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """Return where a database is, which is started if need be."""
    if database == "sqlite":
        return f"sqlite+aiosqlite:///{folder / 'own.db'}"
    if database in {"asyncpg", "psycopg"}:
        return f"postgresql+{database}://evertoken@127.0.0.1:{request.getfixturevalue('postgres_server').port}/postgres"
    return (
        f"mysql+{database}://root@127.0.0.1:{request.getfixturevalue('mariadb_server').port}/evertoken?charset=utf8mb4"
    )


def engine_for(url: str, **options: Any) -> AsyncEngine:
    """Return an engine for *url*. A SQLite file is not synchronised each time, because no test cuts the power."""
    engine = create_async_engine(url, **options)
    if url.startswith("sqlite"):

        @sa.event.listens_for(engine.sync_engine, "connect")
        def quick(connection: Any, record: Any) -> None:
            cursor = connection.cursor()
            for pragma in ("journal_mode=WAL", "synchronous=OFF"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    return engine


def logins(
    metadata: sa.MetaData,
    *,
    key: Any = NAME,
    leases: bool = False,
    whose: bool = False,
    secrets: bool = True,
    name: str = "",
) -> sa.Table:
    """Return a table of logins, as a user's program has one."""
    columns = [sa.Column("account", key, primary_key=True)]
    if whose:
        columns += [sa.Column(name, sa.String(40), primary_key=True) for name in ("app", "issuer")]
    columns.append(sa.Column("email", sa.String(100)))
    if secrets:
        columns += [
            sa.Column("access", LONG),
            sa.Column("refresh", LONG),
            sa.Column("expires", sa.DateTime(timezone=True)),
            sa.Column("scope", LONG),
            sa.Column("kind", sa.String(30)),
        ]
    columns.append(sa.Column("rest", LONG))
    if leases:
        columns += [sa.Column("holder", LONG)]
        columns += [sa.Column(name, sa.BigInteger) for name in ("fence", "ends")]
    return sa.Table(name or f"logins_{uuid4().hex[:12]}", metadata, *columns, mysql_charset="utf8mb4")


def columns_of(table: sa.Table, key: str = "name") -> dict[str, Any]:
    """Return which column of *table* has which role."""
    roles = {
        key: "account", "namespace": "app", "identity": "issuer", "record": "rest", "access_token": "access",
        "refresh_token": "refresh", "expires_at": "expires", "scope": "scope", "token_type": "kind",
        "lease_owner": "holder", "lease_fence": "fence", "lease_ends": "ends",
    }  # fmt: skip
    return {role: name for role, name in roles.items() if name in table.c}


@contextlib.asynccontextmanager
async def made(url: str, table: sa.Table) -> AsyncIterator[AsyncEngine]:
    """Make *table*, and give an engine."""
    engine = engine_for(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(table.create)
        yield engine
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(table.drop)
        await engine.dispose()


def store_in(engine: AsyncEngine, table: sa.Table, key: str = "name", **options: Any) -> SQLAlchemyStore:
    return SQLAlchemyStore(engine, table, columns_of(table, key), **options)
