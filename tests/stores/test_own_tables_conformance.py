"""The conformance suite, on tables of users in SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.stores.own_tables import columns_of, engine_for, logins, url_of

from evertoken import Begun, Lease, Record
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
        self.begin(request, tmp_path)

    def begin(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        self.url = url_of(self.database, request, tmp_path)
        self.table = logins(sa.MetaData(), leases=self.leases, secrets=self.secrets)
        self.lease_table = SQLAlchemyStore.lease_table(sa.MetaData(), f"{self.table.name}_leases")
        self.engine: Any = None

    async def make(self) -> Any:
        if self.engine is None:
            self.engine = engine_for(self.url)
            async with self.engine.begin() as connection:
                await connection.run_sync(self.table.create)
        leases = None if self.leases else self.lease_table.name
        return self.store_in(leases)

    def store_in(self, leases: str | None) -> Any:
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


class Keyed:
    """A store as a manager with the namespace "app" uses it: the suite's keys are the keys of its tokens."""

    def __init__(self, store: SQLAlchemyStore) -> None:
        self.store = store

    def name(self, key: str) -> str:
        return json.dumps(["app", key], separators=(",", ":"))

    def back(self, record: Record | None) -> Record | None:
        return None if record is None else replace(record, key=json.loads(record.key)[1])

    def lease(self, lease: Lease) -> Lease:
        return Lease(self.name(lease.key), lease.owner, lease.fence)

    async def read(self, key: str) -> Record | None:
        return self.back(await self.store.read(self.name(key)))

    async def read_many(self, keys: Sequence[str]) -> dict[str, Any]:
        found = await self.store.read_many([self.name(key) for key in keys])
        return {json.loads(name)[1]: self.back(record) for name, record in found.items()}

    async def begin(self, key: str, owner: str, ttl: float) -> Begun:
        begun = await self.store.begin(self.name(key), owner, ttl)
        lease = begun.lease
        return Begun(Lease(key, owner, lease.fence) if isinstance(lease, Lease) else lease, self.back(begun.record))

    async def mark(self, record: Record, lease: Lease) -> bool:
        return await self.store.mark(replace(record, key=self.name(record.key)), self.lease(lease))

    async def commit(self, record: Record, lease: Lease) -> bool:
        return await self.store.commit(replace(record, key=self.name(record.key)), self.lease(lease))

    async def abandon(self, lease: Lease) -> None:
        await self.store.abandon(self.lease(lease))

    async def renew(self, lease: Lease, ttl: float) -> bool:
        return await self.store.renew(self.lease(lease), ttl)

    async def keys(self) -> AsyncIterator[str]:
        async for name in self.store.keys():
            yield json.loads(name)[1]

    async def holder(self, key: str) -> tuple[str, float] | None:
        return await self.store.holder(self.name(key))

    async def delete(self, key: str) -> bool:
        return await self.store.delete(self.name(key))


class TestKeys(OwnTable):
    """A column that holds the keys of tokens, beside columns for the namespace and the identity."""

    database, secrets = "sqlite", True

    def begin(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        super().begin(request, tmp_path)
        self.table = logins(sa.MetaData(), key=sa.Text, whose=True)

    def store_in(self, leases: str | None) -> Any:
        return Keyed(SQLAlchemyStore(self.engine, self.table, columns_of(self.table, "key"), leases=leases))

    async def set_lease(self, key: str, seconds: float) -> None:
        store = (await self.make()).store
        row = store._table.place(Keyed(store).name(key)).row
        async with self.engine.begin() as connection:
            now = (await connection.execute(store._table.clock())).scalar_one()
            ends = int((now + seconds) * 1000)
            found = sa.update(self.lease_table).where(self.lease_table.c.row == row).values(lease_ends=ends)
            await connection.execute(found)
