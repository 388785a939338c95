"""The conformance suite, on tables of users in SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.stores.own_tables import columns_of, engine_for, logins, url_of

from evertoken.stores import SQLAlchemyStore
from evertoken.testing.conformance import StoreConformance


class OwnTable(StoreConformance):
    """A table with a column for the name of a record."""

    short = 1.0
    many = 30
    database = ""
    leases = False
    secrets = False

    @pytest.fixture(autouse=True)
    def place(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        self.url = url_of(self.database, request, tmp_path)
        self.table = logins(sa.MetaData(), leases=self.leases, secrets=self.secrets)
        self.lease_table = SQLAlchemyStore.lease_table(sa.MetaData(), f"{self.table.name}_leases")
        self.engine: Any = None

    async def make(self) -> SQLAlchemyStore:
        if self.engine is None:
            self.engine = engine_for(self.url)
            async with self.engine.begin() as connection:
                await connection.run_sync(self.table.create)
        leases = None if self.leases else self.lease_table.name
        return SQLAlchemyStore(self.engine, self.table, columns_of(self.table), leases=leases)

    async def clean(self) -> None:
        if self.engine is not None:
            async with self.engine.begin() as connection:
                await connection.run_sync(self.table.drop)
                await connection.run_sync(self.lease_table.drop, checkfirst=True)
            await self.engine.dispose()

    async def set_lease(self, key: str, seconds: float) -> None:
        store = await self.make()
        place = store._table.place(key)
        async with self.engine.begin() as connection:
            now = (await connection.execute(store._table.clock())).scalar_one()
            ends = int((now + seconds) * 1000)
            if self.leases:
                found = sa.update(self.table).where(self.table.c.account == place.keys[0]).values(ends=ends)
            else:
                found = sa.update(self.lease_table).where(self.lease_table.c.row == place.row).values(lease_ends=ends)
            await connection.execute(found)

    async def plant(self, key: str, data: bytes) -> None:
        if self.secrets:
            pytest.skip("the tokens stand in columns of their own")
        text = data.decode(errors="backslashreplace").replace("\0", "?")
        async with self.engine.begin() as connection:
            mine = self.table.c.account == key
            there = (await connection.execute(sa.select(self.table.c.account).where(mine))).first() is not None
            found = sa.update(self.table).where(mine) if there else sa.insert(self.table).values(account=key)
            await connection.execute(found.values(rest=text))


class TestSQLite(OwnTable):
    """Records whole, and leases in a table of their own."""

    database = "sqlite"


class TestPostgres(OwnTable):
    """Tokens in columns, through psycopg."""

    database, secrets = "psycopg", True


class TestPostgresOneTable(OwnTable):
    """Records whole, and leases in columns, through asyncpg."""

    database, leases = "asyncpg", True


class TestMariaDB(OwnTable):
    """Records whole, through aiomysql."""

    database = "aiomysql"


class TestMariaDBOneTable(OwnTable):
    """Tokens and leases in columns, through asyncmy."""

    database, leases, secrets = "asyncmy", True, True
