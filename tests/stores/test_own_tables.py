"""SQLAlchemyStore: what users' tables look like, and what their programs write into them meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.stores.own_tables import LONG, columns_of, engine_for, logins, made, store_in, url_of

from evertoken import GrantRejected, Held, Lease, Record, Token, TokenManager
from evertoken.sources import RefreshToken
from evertoken.stores import SQLAlchemyStore, UnreadableRecord
from evertoken.stores.encryption import AesGcm, generate_key
from evertoken.testing import TokenServer

ACCESS, REFRESH = "planted-access-value-1", "planted-refresh-value-2"


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg", "aiomysql", "asyncmy"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request.param, request, tmp_path)


@pytest.fixture
def here(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'own.db'}"


async def execute(engine: AsyncEngine, statement: Any) -> Any:
    async with engine.begin() as connection:
        result = await connection.execute(statement)
        return result.all() if result.returns_rows else None


async def row_of(engine: AsyncEngine, table: sa.Table) -> Any:
    (row,) = await execute(engine, sa.select(table))
    return row


def token(value: str = ACCESS, left: float = 3600.0, **changes: Any) -> Token:
    now = time.time()
    return Token(value, **{"issued_at": now, "expires_at": now + left, "refresh_token": REFRESH, **changes})


async def lease_of(store: SQLAlchemyStore, name: str, owner: str = "me") -> Lease:
    lease = (await store.begin(name, owner, 10.0)).lease
    assert isinstance(lease, Lease)
    return lease


async def names_in(store: SQLAlchemyStore) -> list[str]:
    return [name async for name in store.keys()]  # noqa: SIM118 - it is no mapping


NAME = '["app",7]'


async def test_a_program_reads_and_writes_its_own_columns(url):
    """K1, K6: mapped columns are plain; other tokens in them are a login, which wins, and empty ones a sign-out."""
    table = logins(sa.MetaData(), key=sa.Integer)
    async with made(url, table) as engine:
        store = store_in(engine, table, "key")
        first = token(scope="read", extra={"id_token": "more"})
        assert await store.commit(Record(NAME, 1, first, since=5.0, generation=3), await lease_of(store, NAME))
        row = await row_of(engine, table)
        assert (row.account, row.access, row.refresh, row.scope, row.kind) == (7, ACCESS, REFRESH, "read", "Bearer")
        expires = row.expires if row.expires.tzinfo else row.expires.replace(tzinfo=dt.UTC)
        assert abs(expires.timestamp() - first.expires_at) <= 1.0
        assert ACCESS not in row.rest
        assert REFRESH not in row.rest
        assert await store.read(NAME) == Record(NAME, 1, first, since=5.0, generation=3)

        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=600)
        await execute(engine, table.update().values(access="second", refresh="refresh-2", expires=until))
        found = await store.read(NAME)
        assert found is not None
        assert found == await store.read(NAME), "a login that was noticed is on record"
        assert (found.token.access_token, found.token.refresh_token) == ("second", "refresh-2")
        assert abs(found.token.expires_at - until.timestamp()) <= 1.0
        assert found.since > time.time() - 60.0
        assert (found.version, found.generation) == (2, 4)

        await execute(engine, table.update().values(access=None, refresh=""))
        out = await store.read(NAME)
        assert out is not None
        assert out.revoked
        assert out.token is None
        assert out.since > found.since
        assert await store.delete(NAME)
        assert await store.read(NAME) is None
        assert (await row_of(engine, table)).account == 7


async def test_rows_that_were_always_there_are_grants(url):
    """K6: a program's rows need no record: a grant is served, refreshed with its refresh token, and kept there."""
    table = logins(sa.MetaData(), key=sa.Integer)
    async with TokenServer(lifetime=60.0) as server, made(url, table) as engine:
        await execute(engine, table.insert().values(account=1, access="of-the-login", email="a@b"))
        await execute(engine, table.insert().values(account=2, refresh=server.issue_grant(), email="c@d"))
        await execute(engine, table.insert().values(account=3, email="e@f"))
        source = RefreshToken(server.oauth_client())
        store = store_in(engine, table, "key")
        async with TokenManager(source_for=lambda _: source, store=store, namespace="app") as tokens:
            assert (await tokens.get(1)).access_token == "of-the-login"
            second = await tokens.get(2)
            with pytest.raises(GrantRejected):
                await tokens.get(3)
        rows = {row.account: row for row in await execute(engine, sa.select(table))}
        assert rows[2].access == second.access_token
        assert rows[2].email == "c@d"
        names = await names_in(store)
        assert {'["app",1]', '["app",2]'} <= set(names)


async def test_a_login_in_the_middle_of_a_refresh_wins(url):
    """K1, K6: a commit does not write over what the program wrote since the lease was given."""
    table = logins(sa.MetaData(), key=sa.Integer, leases=True)
    async with made(url, table) as engine:
        store = store_in(engine, table, "key")
        assert await store.commit(Record(NAME, 1, token()), await lease_of(store, NAME))
        lease = await lease_of(store, NAME)
        await execute(engine, table.update().values(access="of-a-login", refresh="refresh-of-a-login"))
        for write in (store.mark, store.commit):
            assert not await write(Record(NAME, 2, token("fetched"), generation=1), lease)
        found = await store.read(NAME)
        assert found is not None
        assert found.token.access_token == "of-a-login"
        assert (await row_of(engine, table)).refresh == "refresh-of-a-login"


async def test_a_row_that_was_deleted_gives_no_lease_twice(url):
    """K2: a program may delete a row, and with it the fence: an older lease still writes nothing."""
    table = logins(sa.MetaData(), key=sa.Integer, leases=True)
    async with made(url, table) as engine:
        store = store_in(engine, table, "key")
        old = await lease_of(store, NAME)
        await execute(engine, table.delete())
        new = await lease_of(store, NAME)
        assert new.fence > old.fence
        assert not await store.commit(Record(NAME, 1, token()), old)
        assert await store.commit(Record(NAME, 1, token()), new)


async def test_rows_have_owners(url):
    """K5: a row without columns for it belongs to the first namespace and identity; with them each has its own."""
    names = ['["app",7,"one"]', '["app",7,"two"]', '["web",7,"one"]']
    for whose in (False, True):
        table = logins(sa.MetaData(), key=sa.Integer, whose=whose)
        async with made(url, table) as engine:
            store = store_in(engine, table, "key")
            assert await store.commit(Record(names[0], 1, token()), await lease_of(store, names[0]))
            for number, name in enumerate(names[1:]):
                if whose:
                    record = Record(name, 1, token(f"token-{number}"))
                    assert await store.commit(record, await lease_of(store, name))
                    assert await store.read(name) == record
                    continue
                for attempt in (store.read(name), store.begin(name, "other", 10.0), store.read_many([name])):
                    with pytest.raises(UnreadableRecord, match="another namespace or identity"):
                        await attempt
            held = await store.read_many([names[0]])
            assert held[names[0]].token.access_token == ACCESS
            assert sorted(await names_in(store)) == (sorted(names) if whose else names[:1])


async def test_a_row_of_nobodys_identity_is_taken_over(url):
    """K5: a program that knows no identity leaves it empty; the first member that reads the row fills it in."""
    table = logins(sa.MetaData(), key=sa.Integer, whose=True)
    async with made(url, table) as engine:
        store = store_in(engine, table, "key")
        await execute(engine, table.insert().values(account=7, app="app", issuer="", access=ACCESS))
        assert (await store.begin('["app",7,"one"]', "me", 10.0)).record.token.access_token == ACCESS
        assert (await row_of(engine, table)).issuer == "one"
        assert await store.read('["app",7,"two"]') is None


@pytest.mark.parametrize(
    ("kind", "key", "held"),
    [(sa.Integer, "7", 7), (sa.String(40), '"seven"', "seven"), (sa.Uuid, f'"{uuid.UUID(int=7)}"', uuid.UUID(int=7))],
)
async def test_keys_of_one_column(url, kind, key, held):
    """K1: a key is a number, a text or a UUID, as the column holds it, and is listed as it was given."""
    table = logins(sa.MetaData(), key=kind)
    async with made(url, table) as engine:
        store, name = store_in(engine, table, "key"), f'["app",{key}]'
        assert await store.commit(Record(name, 1, token()), await lease_of(store, name))
        assert (await row_of(engine, table)).account == held
        assert await names_in(store) == [name]
        for wrong in ('["app",null]', '["app",[1,2]]', '["app",{}]', "text"):
            with pytest.raises(ValueError, match=r"column|columns"):
                await store.read(wrong)


async def test_keys_of_several_columns(url):
    """K1: a key that is a tuple stands in as many columns, and lists page by page in their order."""
    table = sa.Table(
        f"pairs_{uuid.uuid4().hex[:8]}",
        sa.MetaData(),
        sa.Column("provider", sa.String(30), primary_key=True),
        sa.Column("account", sa.Integer, primary_key=True),
        sa.Column("rest", LONG),
    )
    async with made(url, table) as engine:
        store = SQLAlchemyStore(engine, table, {"key": ("provider", "account"), "record": "rest"})
        names = [f'["app",["{provider}",{number}]]' for provider in ("crm", "erp") for number in range(3)]
        for name in names:
            assert await store.commit(Record(name, 1, token()), await lease_of(store, name))
        assert await names_in(store) == names
        assert set(await store.read_many(names)) == set(names)


async def test_many_rows_are_listed_page_by_page(here):
    """L2: a listing that is longer than a page names each row once."""
    table = logins(sa.MetaData(), key=sa.Integer, whose=True)
    async with made(here, table) as engine:
        rows = [
            {"account": number // 2, "app": f"a{number % 2}", "issuer": "", "access": "t"} for number in range(1203)
        ]
        await execute(engine, table.insert().values(rows[0]))
        async with engine.begin() as connection:
            await connection.execute(table.insert(), rows[1:])
        names = await names_in(store_in(engine, table, "key"))
        assert len(names) == len(set(names)) == 1203


@pytest.mark.parametrize(
    "kind", [sa.DateTime(), sa.DateTime(timezone=True), sa.BigInteger, sa.Double, sa.Numeric(20, 6), sa.String(40)]
)
async def test_instants_in_any_form(url, kind):
    """T1: an expiry stands in the column in the form that it has, in UTC, and the record keeps it to the last bit."""
    columns = {"key": "account", "record": "rest", "access_token": "access", "expires_at": "expires"}
    table = sa.Table(
        f"times_{uuid.uuid4().hex[:8]}",
        sa.MetaData(),
        sa.Column("account", sa.Integer, primary_key=True),
        sa.Column("access", LONG),
        sa.Column("expires", kind),
        sa.Column("rest", LONG),
    )
    async with made(url, table) as engine:
        if isinstance(kind, sa.String):
            with pytest.raises(ValueError, match=r"columns\['expires_at'\] must be a column of datetime"):
                SQLAlchemyStore(engine, table, columns)
            return
        store = SQLAlchemyStore(engine, table, columns)
        record = Record(NAME, 1, token(expires_at=1_900_000_000.7654321))
        assert await store.commit(record, await lease_of(store, NAME))
        assert await store.read(NAME) == record
        held = (await row_of(engine, table)).expires
        if isinstance(held, dt.datetime):
            held = (held if held.tzinfo else held.replace(tzinfo=dt.UTC)).timestamp()
        assert abs(float(held) - 1_900_000_000.7654321) <= 1.0
        # The program's own.
        await execute(engine, table.update().values(access="other", rest=None))
        found = await store.read(NAME)
        assert found is not None
        assert abs(found.token.expires_at - 1_900_000_000.7654321) <= 1.0
        forever = Record(NAME, 9, token(expires_at=None))
        assert await store.commit(forever, await lease_of(store, NAME))
        assert await store.read(NAME) == forever
        assert (await row_of(engine, table)).expires is None


class Base(DeclarativeBase):
    """The models of a program."""


class Login(Base):
    __tablename__ = "model_of_logins"

    id: Mapped[int] = mapped_column(primary_key=True)
    access: Mapped[str] = mapped_column("access_token", LONG)
    refresh: Mapped[str] = mapped_column(LONG)
    until: Mapped[dt.datetime] = mapped_column(sa.DateTime(timezone=True))
    rest: Mapped[str | None] = mapped_column(LONG)


async def test_a_mapped_class_whose_columns_take_no_null(url):
    """K1: names are those of attributes. If a column may not be NULL, a missing value is written as empty."""
    leases = SQLAlchemyStore.lease_table(Base.metadata, "leases_of_the_program")
    engine = engine_for(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        columns = {
            "key": Login.id, "access_token": Login.access, "refresh_token": "refresh", "expires_at": "until",
            "record": "rest",
        }  # fmt: skip
        store = SQLAlchemyStore(engine, Login, columns, leases=leases)
        assert await store.exists()
        record = Record(NAME, 1, token())
        assert await store.commit(record, await lease_of(store, NAME))
        out = Record(NAME, 2, None, revoked=True)
        assert await store.commit(out, await lease_of(store, NAME))
        assert await store.read(NAME) == out
        assert (await row_of(engine, Login.__table__)).access_token == ""
        assert await store.holder(NAME) is None
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        Base.metadata.remove(leases)
        await engine.dispose()


async def test_the_rest_is_sealed(here):
    """S3: with a codec the record is sealed, and bound to its key; tokens without a column are in it."""
    table = logins(sa.MetaData(), key=sa.Integer)
    codec = AesGcm(generate_key())
    async with made(here, table) as engine:
        columns = {"key": "account", "record": "rest", "access_token": "access"}
        store = SQLAlchemyStore(engine, table, columns, codec)
        record = Record(NAME, 1, token())
        assert await store.commit(record, await lease_of(store, NAME))
        row = await row_of(engine, table)
        assert row.access == ACCESS
        assert REFRESH not in row.rest
        assert await store.read(NAME) == record
        with pytest.raises(UnreadableRecord):
            await SQLAlchemyStore(engine, table, columns, AesGcm(generate_key())).read(NAME)
        # A program that writes another access token alone keeps the refresh token.
        await execute(engine, table.update().values(access="second"))
        found = await store.read(NAME)
        assert found is not None
        assert (found.token.access_token, found.token.refresh_token) == ("second", REFRESH)


async def test_neither_logs_nor_errors_show_a_token(url, caplog):
    """S1: an engine that logs all it does logs no token, and what a database says of a row is not passed on."""
    table = logins(sa.MetaData(), key=sa.Integer)
    async with made(url, table) as engine:
        loud = create_async_engine(url, echo="debug")
        caplog.set_level(logging.DEBUG)
        store = store_in(loud, table, "key")
        assert await store.commit(Record(NAME, 1, token()), await lease_of(store, NAME))
        assert (await store.read(NAME)).token.refresh_token == REFRESH
        assert await store.read_many([NAME])
        assert "SELECT" in caplog.text
        assert "UPDATE" in caplog.text or "INSERT" in caplog.text
        for secret in (ACCESS, REFRESH):
            assert secret not in caplog.text
        await loud.dispose()
        # A column of the program's own that the store knows nothing of.
        strict = sa.Table(
            f"strict_{uuid.uuid4().hex[:8]}",
            sa.MetaData(),
            sa.Column("account", sa.Integer, primary_key=True),
            sa.Column("access", sa.String(300)),
            sa.Column("rest", LONG),
            sa.Column("email", sa.String(30), nullable=False),
        )
        async with made(url, strict):
            columns = {"key": "account", "record": "rest", "access_token": "access"}
            store = SQLAlchemyStore(engine, strict, columns, leases=f"{table.name}_l")
            lease = await lease_of(store, NAME)
            with pytest.raises(OSError, match=r"the database failed: (Integrity|Operational)Error") as caught:
                await store.commit(Record(NAME, 1, token()), lease)
            assert "email" in str(caught.value)
            with pytest.raises(ValueError, match="'access' holds 300 characters, and access_token has 400") as longer:
                await store.commit(Record(NAME, 1, token("x" * 400)), lease)
            for error in (caught.value, longer.value):
                assert error.__context__ is error.__cause__ is None
                assert ACCESS not in str(error)
                assert REFRESH not in str(error)


async def test_a_database_that_is_gone_is_an_error_of_the_store(tmp_path, here):
    """K3: what a driver raises comes out as an OSError, and a table that is missing is told by its name."""
    table = logins(sa.MetaData(), key=sa.Integer)
    engine = engine_for(here)
    store = store_in(engine, table, "key")
    assert not await store.exists()
    with pytest.raises(OSError, match="no such table"):
        await store.read(NAME)
    with pytest.raises(OSError, match="no such table"):
        await store.begin(NAME, "me", 10.0)
    await engine.dispose()
    gone = create_async_engine("postgresql+psycopg://someone:hunter2-planted@127.0.0.1:9/db")
    with pytest.raises(OSError, match="the database failed") as caught:
        await store_in(gone, table, "key").read(NAME)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(store_in(gone, table, "key"))


async def test_a_collation_that_takes_keys_for_one(mariadb_server, request, tmp_path):
    """K1: keys that differ in case alone are not mixed up, where the table's collation compares them as equal."""
    table = logins(sa.MetaData(), key=sa.String(200))
    async with made(url_of("asyncmy", request, tmp_path), table) as engine:
        store = store_in(engine, table, "key")
        assert await store.commit(Record('["app","a"]', 1, token()), await lease_of(store, '["app","a"]'))
        with pytest.raises(ValueError, match="takes different keys for one: give it a collation"):
            await store.read('["app","A"]')


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"record": "rest"}, "either 'key'"),
        ({"key": "account", "name": "account", "record": "rest"}, "either 'key'"),
        ({"key": "account"}, "map 'record'"),
        ({"key": "account", "record": "rest", "password": "rest"}, "no role 'password'; there are"),
        ({"key": "acount", "record": "rest"}, "no column 'acount'; it has"),
        ({"key": "account", "record": "expires"}, "must be a column of str"),
        ({"key": "account", "record": ("rest", "scope")}, "must name one column"),
        ({"key": "account", "record": "rest", "lease_owner": "scope"}, "all of lease_owner"),
        ({"name": "kind", "record": "rest"}, "130 characters"),
    ],
)
def test_what_is_wrong_with_a_mapping(here, columns, said):
    """L1: each mistake is told when the store is made, and names the role."""
    table = logins(sa.MetaData(), key=sa.Integer)
    with pytest.raises(ValueError, match=said):
        SQLAlchemyStore(create_async_engine(here), table, columns)


def test_what_is_no_engine_and_no_table(here):
    """
    L1: a blocking engine, another database, one in memory, and an object that is no table are refused by their names.
    """
    table = logins(sa.MetaData(), key=sa.Integer)
    columns = columns_of(table, "key")
    with pytest.raises(TypeError, match="engine must be an AsyncEngine"):
        SQLAlchemyStore(sa.create_engine("sqlite:///x.db"), table, columns)
    with pytest.raises(ValueError, match="MemoryStore needs none"):
        SQLAlchemyStore(create_async_engine("sqlite+aiosqlite://"), table, columns)
    with pytest.raises(TypeError, match="table must be a Table of SQLAlchemy or a mapped class"):
        SQLAlchemyStore(create_async_engine(here), "logins", columns)
    with pytest.raises(TypeError, match="leases must be a name"):
        SQLAlchemyStore(create_async_engine(here), table, columns, leases=table)


async def test_a_fleet_on_a_table_makes_one_fetch(url):
    """K2: managers that share a table fetch once, rotate once, and adopt a sign-out of the program's own code."""
    table = logins(sa.MetaData(), key=sa.Integer)
    async with TokenServer(lifetime=3600.0, rotate=True) as server, made(url, table) as engine:
        source = server.refresh_token()
        stores = [store_in(engine, table, "key") for _ in range(2)]
        one, other = (TokenManager({7: source}, store=store, namespace="app", check_every=0.2) for store in stores)
        async with one, other:
            found = await asyncio.gather(one.get(7), other.get(7))
            assert found[0] == found[1]
            assert server.stats.token_requests == 1
            newer = await one.refresh(7)
            assert (await row_of(engine, table)).access == newer.access_token
            await execute(engine, table.update().values(access=None, refresh=None))
            end = time.monotonic() + 20.0
            while one.peek(7) is not None or other.peek(7) is not None:
                assert time.monotonic() < end, "a sign-out is not noticed"
                await asyncio.sleep(0.05)
        assert server.stats.token_requests == 2


async def test_a_held_lease_in_the_row_of_the_program(url):
    """K2: leases in columns of the table are bounded by the database's clock, and a stranger's values bar nobody."""
    table = logins(sa.MetaData(), key=sa.Integer, leases=True)
    async with made(url, table) as engine:
        store = store_in(engine, table, "key")
        await lease_of(store, NAME)
        held = (await store.begin(NAME, "other", 10.0)).lease
        assert isinstance(held, Held)
        await execute(engine, table.update().values(holder=None, fence=None, ends=None))
        await lease_of(store, NAME, "other")


async def test_a_lease_that_nobody_waits_for_is_not_taken(here, tmp_path):
    """K4, L1: a transaction of SQLite that begins after its caller has gone changes nothing."""
    table = logins(sa.MetaData(), key=sa.Integer, leases=True)
    async with made(here, table) as engine:
        store = store_in(engine, table, "key")
        with contextlib.closing(sqlite3.connect(tmp_path / "own.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.begin(NAME, "one", 10.0), 0.2)
            other.execute("ROLLBACK")
        await asyncio.sleep(0.5)
        begun = await store.begin(NAME, "two", 10.0)
        assert not isinstance(begun.lease, Held)


async def test_an_answer_that_nobody_waits_for_is_kept(here, tmp_path):
    """K1: a commit of SQLite goes on after its caller has gone, because the token may be nowhere else."""
    table = logins(sa.MetaData(), key=sa.Integer, leases=True)
    async with made(here, table) as engine:
        store = store_in(engine, table, "key")
        lease = await lease_of(store, NAME)
        with contextlib.closing(sqlite3.connect(tmp_path / "own.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.commit(Record(NAME, 1, token(), since=5.0, generation=3), lease), 0.2)
            other.execute("ROLLBACK")
        await asyncio.sleep(0.5)
        found = await store.read(NAME)
        assert found is not None
        assert found.version == 1
