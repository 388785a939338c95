"""The store in PostgreSQL, on a real server: the conformance suite, and a server that is stopped and frozen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from uuid import uuid4

import psycopg
import pytest
from tests.stores.servers import Server, postgres

from evertoken import FetchRequest, Grant, Held, Lease, Record, Token, TokenManager
from evertoken.stores import PostgresStore, _postgres_statements, _postgres_watch, _postgres_wire
from evertoken.testing import TokenServer
from evertoken.testing.conformance import StoreConformance

TOKEN = Token("opaque", issued_at=1.0)


def version_in(data: bytes) -> int:
    try:
        return int(json.loads(data)["version"])
    except (ValueError, TypeError):
        return 0


def conninfo(server: Server) -> str:
    return f"postgresql://evertoken@127.0.0.1:{server.port}/postgres"


class OnPostgres(StoreConformance):
    """A table that the store makes for itself."""

    conninfo: str
    table: str

    async def make(self) -> PostgresStore:
        return PostgresStore(self.conninfo, table=self.table)

    async def clean(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True) as connection:
            await connection.execute(f"DROP TABLE IF EXISTS {self.table}")

    async def set_lease(self, key: str, seconds: float) -> None:
        async with await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True) as connection:
            await connection.execute(
                f"UPDATE {self.table} SET ends = clock_timestamp() + make_interval(secs => %s) WHERE key = %s",
                (seconds, key),
            )

    async def plant(self, key: str, data: bytes) -> None:
        await PostgresStore(self.conninfo, table=self.table).create_table()
        async with await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True) as connection:
            await connection.execute(
                f"INSERT INTO {self.table} (key, record, version) VALUES (%s, %s, %s) "
                "ON CONFLICT (key) DO UPDATE SET record = excluded.record, version = excluded.version",
                (key, data, version_in(data)),
            )


class TestPostgresStore(OnPostgres):
    """The server itself."""

    @pytest.fixture(autouse=True)
    def place(self, postgres_server: Server) -> None:
        self.conninfo = conninfo(postgres_server)
        self.table = f"t{uuid4().hex}"


@pytest.mark.breakage
@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_the_server_goes_and_comes(how, monkeypatch):
    """K3: with the server gone or silent each step ends within its bound, and works again after; the watch says so."""
    monkeypatch.setattr(_postgres_wire, "TIMEOUT", 2.0)
    monkeypatch.setattr(_postgres_watch, "SILENCE", 1.0)
    with postgres() as server:
        async with PostgresStore(conninfo(server)) as store, PostgresStore(conninfo(server)) as peer:
            lease = (await store.begin("k", "me", 10.0)).lease
            assert isinstance(lease, Lease)
            assert await store.mark(Record("k", 1, TOKEN), lease)
            seen: list[str | None] = []

            async def watch() -> None:
                while True:
                    with contextlib.suppress(Exception):
                        await peer.watch(seen.append)
                    await asyncio.sleep(0.05)

            watching = asyncio.ensure_future(watch())
            while not seen:
                await asyncio.sleep(0.01)
            (server.stop if how == "stopped" else server.freeze)()
            for call in (lambda: store.read("k"), lambda: store.renew(lease, 5.0)):
                begun = time.monotonic()
                with pytest.raises((OSError, psycopg.Error)):
                    # As a manager bounds it. It does not wait for what psycopg then does to cancel the statement.
                    async with asyncio.timeout(2.5):
                        await call()
                assert time.monotonic() - begun < 20.0
            (server.start if how == "stopped" else server.thaw)()
            end = time.monotonic() + 20.0
            while True:
                with contextlib.suppress(OSError, psycopg.Error):
                    if (record := await store.read("k")) is not None:
                        break
                assert time.monotonic() < end
            assert await store.mark(Record("k", record.version + 1, TOKEN), lease)
            end = time.monotonic() + 20.0
            while "k" not in seen and seen.count(None) < 2:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            watching.cancel()
            await asyncio.wait([watching])


@pytest.mark.breakage
async def test_managers_and_a_server_that_restarts():
    """K3: tokens are there while the server is gone; after that they are kept, and peers are told at once again."""
    with postgres() as server, TokenServer(lifetime=2.0) as idp:
        source = idp.client_credentials()
        async with (
            TokenManager(source, store=PostgresStore(conninfo(server)), namespace="", start="require") as one,
            TokenManager(source, store=PostgresStore(conninfo(server)), namespace="", start="require") as other,
        ):
            assert await one.get() == await other.get()
            await asyncio.to_thread(server.stop)
            end = time.monotonic() + 4.0
            while time.monotonic() < end:
                assert (await one.get()).valid_at(time.time())
                assert (await other.get()).valid_at(time.time())
                await asyncio.sleep(0.02)
            idp.lifetime = 3600.0
            await asyncio.to_thread(server.start)
            end = time.monotonic() + 30.0
            while not (
                one.peek() == other.peek()
                and one.snapshot().keys[None].kept
                and other.snapshot().keys[None].kept
                and (await one.get()).remaining(time.time()) > 1000.0
            ):
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            newest = await one.refresh()
            end = time.monotonic() + 10.0
            while other.peek() != newest:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)


async def test_made_by_many_at_once(postgres_server):
    """K2: members that all start on an empty database make the table once, and none of them fails."""
    table = f"t{uuid4().hex}"
    stores = [PostgresStore(conninfo(postgres_server), table=table) for _ in range(12)]
    answers = await asyncio.gather(*(store.begin("k", f"o{number}", 10.0) for number, store in enumerate(stores)))
    assert sum(isinstance(answer.lease, Lease) for answer in answers) == 1


async def test_truncated(postgres_server):
    """K2: after TRUNCATE a lease from before is no longer good, though the new one has the same fence."""
    table = f"t{uuid4().hex}"
    async with PostgresStore(conninfo(postgres_server), table=table) as store:
        old = (await store.begin("k", "old", 10.0)).lease
        assert isinstance(old, Lease)
        async with await psycopg.AsyncConnection.connect(conninfo(postgres_server), autocommit=True) as connection:
            await connection.execute(f"TRUNCATE {table}")
        assert not await store.mark(Record("k", 1, TOKEN), old)
        new = (await store.begin("k", "new", 10.0)).lease
        assert isinstance(new, Lease)
        assert new.fence == old.fence
        assert isinstance((await store.begin("k", "old", 10.0)).lease, Held)
        assert not await store.mark(Record("k", 1, TOKEN), old)
        assert await store.mark(Record("k", 1, TOKEN), new)


async def test_torn_is_set_aside(postgres_server, caplog):
    """K1: a broken record is moved aside and reported once, and a write above nothing works again."""
    table = f"t{uuid4().hex}"
    async with PostgresStore(conninfo(postgres_server), table=table) as store:
        await store.create_table()
        async with await psycopg.AsyncConnection.connect(conninfo(postgres_server), autocommit=True) as connection:
            await connection.execute(f"INSERT INTO {table} (key, record, version) VALUES ('k', 'torn', 9)")
        with caplog.at_level(logging.WARNING, "evertoken"):
            assert await store.read("k") is None
            assert await store.read("k") is None
        assert len([record for record in caplog.records if record.name == "evertoken"]) == 1
        lease = (await store.begin("k", "me", 5.0)).lease
        assert isinstance(lease, Lease)
        assert await store.mark(Record("k", 1, TOKEN), lease)


@pytest.mark.parametrize("bad", ["", " ", "nonsense words", "mysql://h/db"])
def test_bad_conninfo(bad):
    """S1: what does not say how to connect is refused, and not shown."""
    with pytest.raises(ValueError, match="conninfo"):
        PostgresStore(bad)


def test_repr():
    """S1: a password is in no repr."""
    store = PostgresStore("postgresql://user:p4ss@h:1/db")
    assert repr(store) == "PostgresStore('host=h port=1 dbname=db', table='evertoken')"


async def prepared(store: PostgresStore) -> list[str]:
    """Return what the server has prepared for the connection that *store* uses next."""
    async with store._pools.use() as pool, pool.use() as wire:
        rows = await wire.run(_postgres_statements.Statement(b"SELECT statement FROM pg_prepared_statements"))
    return [text for (text,) in rows]


async def refreshed(store: PostgresStore, version: int) -> None:
    lease = (await store.begin("k", "me", 10.0)).lease
    assert isinstance(lease, Lease)
    assert await store.commit(Record("k", version, TOKEN), lease)
    assert await store.read_many(["k"]) == {"k": Record("k", version, TOKEN)}


async def test_a_step_that_is_repeated_is_planned_once(postgres_server):
    """F6: in our own sessions, the server prepares a repeated statement, but not a statement that is used once."""
    async with PostgresStore(conninfo(postgres_server), table=f"t{uuid4().hex}", max_connections=1) as store:
        await store.create_table()
        await refreshed(store, 1)
        await store.read("k")
        assert await prepared(store) == []
        for version in range(2, 9):
            await refreshed(store, version)
        assert len(await prepared(store)) == 3


@pytest.mark.parametrize("change", ["DROP TABLE {table}", "ALTER TABLE {table} ADD more text", "TRUNCATE {table}"])
async def test_a_table_that_changes_under_prepared_statements(postgres_server, change):
    """K3: a table that was dropped, truncated or given a column is used as before, by connections that know it."""
    table = f"t{uuid4().hex}"
    async with PostgresStore(conninfo(postgres_server), table=table, max_connections=1) as store:
        for version in range(1, 9):
            await refreshed(store, version)
        async with await psycopg.AsyncConnection.connect(conninfo(postgres_server), autocommit=True) as admin:
            await admin.execute(change.format(table=table))
        for version in range(9, 18):
            await refreshed(store, version)


@pytest.mark.asyncio
async def test_ten_thousand_grants_are_imported_in_seconds(postgres_server: Server):
    """L2: an import of 10,000 takes 15 s at most, opens no key, and a long key is written like any other."""
    keys = [*(f"tenant-{number}" for number in range(9_998)), "long-" + "k" * 3000, "\u043a\u043b\u044e\u0447"]
    presented = []

    class Presenting:
        identity = "import"
        rotates = True

        async def fetch(self, request: FetchRequest, /) -> dict[str, object]:
            presented.append(request.current and request.current.refresh_token)
            return {"access_token": "opaque", "expires_in": 3600, "refresh_token": "next"}

    def source_for(key: str) -> Presenting:
        return Presenting()

    store = PostgresStore(conninfo(postgres_server), table=f"t{uuid4().hex}")
    async with TokenManager(source_for=source_for, store=store) as tokens:
        begun = time.monotonic()
        result = await tokens.import_grants((key, Grant(f"first-{key}")) for key in keys)
        took = time.monotonic() - begun
        assert (result.imported, result.kept, result.failed) == (10_000, 0, ())
        assert took < 15.0
        again = await tokens.import_grants([(key, Grant("second")) for key in keys[-20:]])
        assert (again.imported, again.kept) == (0, 20)
        assert not tokens.snapshot().keys
        assert (await tokens.status(keys[-2])).status == "connected"
        await tokens.get(keys[-2])
        assert presented == [f"first-{keys[-2]}"]
