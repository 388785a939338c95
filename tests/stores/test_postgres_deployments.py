"""The store in PostgreSQL as it is found: roles with settings of their own, poolers, odd names, and few connections."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from tests.stores.pooler import pooler
from tests.stores.test_postgres import OnPostgres

from evertoken import Begun, Held, Lease, Record, Token
from evertoken.stores import PostgresStore
from evertoken.stores._postgres_wire import Wire
from evertoken.stores.encryption import AesGcm, generate_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.stores.servers import Server

TOKEN = Token("planted-access", issued_at=1.0, refresh_token="planted-refresh")

SETTINGS = [
    {},
    {"default_transaction_isolation": "repeatable read"},
    {"default_transaction_isolation": "serializable"},
    {"default_transaction_isolation": "read uncommitted"},
    {"default_transaction_read_only": "on"},
    {"default_transaction_isolation": "serializable", "default_transaction_read_only": "on",
     "default_transaction_deferrable": "on"},
    {"statement_timeout": "1s", "lock_timeout": "1s", "idle_in_transaction_session_timeout": "1s"},
    {"standard_conforming_strings": "off", "bytea_output": "escape", "client_encoding": "LATIN1"},
    {"DateStyle": "German, DMY", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kathmandu",
     "extra_float_digits": "-15"},
    {"synchronous_commit": "off"},
]  # fmt: skip
MODES = ["direct", "session", "transaction", "open"]


def admin(port: int) -> psycopg.Connection[Any]:
    return psycopg.connect(f"postgresql://evertoken@127.0.0.1:{port}/postgres", autocommit=True)


@contextlib.contextmanager
def role(server: Server, settings: dict[str, str], limit: int = -1) -> Iterator[str]:
    """Make a user with settings of its own, and a schema that it may use."""
    name = f"u{uuid4().hex}"
    with admin(server.port) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT {limit}")
        connection.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
        for setting, value in settings.items():
            connection.execute(f"ALTER ROLE {name} SET {setting} = '{value}'")
        yield name


@contextlib.contextmanager
def through(server: Server, mode: str) -> Iterator[int]:
    if mode == "direct":
        yield server.port
    else:
        with pooler(server.port, mode) as port:
            yield port


@contextlib.asynccontextmanager
async def told(store: PostgresStore) -> AsyncIterator[list[str | None]]:
    """Watch *store* from the first call on."""
    calls: list[str | None] = []
    task = asyncio.create_task(store.watch(calls.append))
    try:
        while not calls:
            assert not task.done(), task
            await asyncio.sleep(0.01)
        yield calls
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def heard(calls: list[str | None], key: str) -> None:
    # After the first call, None stands for any key.
    async with asyncio.timeout(20.0):
        while not {key, None} & set(calls[1:]):
            await asyncio.sleep(0.01)


class TestThroughPooler(OnPostgres):
    """A pooler that lends sessions by transaction."""

    @pytest.fixture(autouse=True)
    def place(self, postgres_server: Server) -> Iterator[None]:
        self.table = f"t{uuid4().hex}"
        with pooler(postgres_server.port, "transaction") as port:
            self.conninfo = f"postgresql://evertoken@127.0.0.1:{port}/postgres"
            yield

    async def make(self) -> PostgresStore:
        return PostgresStore(self.conninfo, table=self.table, poll=0.02)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: ",".join(map("=".join, settings.items())) or "none")
async def test_settings_of_a_role_do_not_matter(postgres_server, settings, mode):
    """K2: eight racing members take one lease without an error, for all settings of the role and the pooler."""
    with role(postgres_server, settings) as user, through(postgres_server, mode) as port:
        url = f"postgresql://{user}@127.0.0.1:{port}/postgres"
        async with contextlib.AsyncExitStack() as stack:
            stores = [
                await stack.enter_async_context(PostgresStore(url, table=f"{user}.tokens", poll=0.02)) for _ in range(8)
            ]
            calls = await stack.enter_async_context(told(stores[0]))
            for key in ("k", "\u043a\u2603"):
                answers = await asyncio.gather(*(store.begin(key, f"o{n}", 5.0) for n, store in enumerate(stores)))
                (lease,) = [answer.lease for answer in answers if isinstance(answer.lease, Lease)]
                for answer in answers:
                    assert answer.lease == lease or isinstance(answer.lease, Held)
                assert await stores[1].mark(Record(key, 1, TOKEN, 5.5), lease)
                assert await stores[2].renew(lease, 9.0)
                held = (await stores[3].begin(key, "late", 5.0)).lease
                assert isinstance(held, Held)
                assert 5.0 < held.remaining <= 9.1
                assert await stores[4].commit(Record(key, 2, TOKEN), lease)
                assert await stores[5].read(key) == Record(key, 2, TOKEN)
                await heard(calls, key)
                del calls[1:]


@pytest.mark.parametrize("mode", MODES)
async def test_a_write_is_durable_and_a_lease_need_not_be(postgres_server, mode):
    """K1: a mark and a commit wait for the disk where the role would not; a lease does not wait at all."""
    with role(postgres_server, {"synchronous_commit": "off"}) as user, through(postgres_server, mode) as port:
        url = f"postgresql://{user}@127.0.0.1:{port}/postgres"
        async with PostgresStore(url, table=f"{user}.tokens") as store:
            await store.create_table()
            with admin(postgres_server.port) as connection:
                connection.execute(f"CREATE TABLE {user}.seen (number serial, value text)")
                connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {user} TO {user}")
                connection.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {user} TO {user}")
                connection.execute(
                    f"CREATE FUNCTION {user}.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                    f"INSERT INTO {user}.seen (value) VALUES (current_setting('synchronous_commit')); RETURN NULL; "
                    "END $$"
                )
                # At the very end of the transaction.
                connection.execute(
                    f"CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON {user}.tokens "
                    f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {user}.note()"
                )
                lease = (await store.begin("k", "me", 5.0)).lease
                assert isinstance(lease, Lease)
                assert await store.mark(Record("k", 1, TOKEN), lease)
                assert await store.renew(lease, 5.0)
                assert await store.commit(Record("k", 2, TOKEN), lease)
                assert await store.delete("k")
                found = connection.execute(f"SELECT value FROM {user}.seen ORDER BY number").fetchall()
    assert [value for (value,) in found] == ["off", "on", "off", "on", "on"]


LONG = "x" * 63


@pytest.mark.parametrize(
    "table",
    [
        "user", "select.order", "App.Tokens", f"{LONG}.{LONG[:-1]}y", '"my schema"."my ""tokens"""', '"a.b"',
        '"x;drop table x"', '"{table}"."{channel}"', "gr\u00f6\u00dfe.\u0442\u043e\u043a\u0435\u043d\u044b", "_a$1",
        '"%s"', "\"o'clock\"",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["direct", "transaction"])
async def test_any_name_of_a_table(postgres_server, table, mode):
    """K2: reserved, long, quoted and mixed-case names of tables and schemas are taken as they are written."""
    with admin(postgres_server.port) as connection, through(postgres_server, mode) as port:
        name = PostgresStore("host=h", table=table)._sql.name
        schema, dot, _ = name.partition('"."')
        if dot:
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS {schema}"'.encode())
        try:
            url = f"postgresql://evertoken@127.0.0.1:{port}/postgres"
            async with PostgresStore(url, table=table, poll=0.02) as store, told(store) as calls:
                assert not await store.exists()
                lease = (await store.begin("k", "me", 5.0)).lease
                assert isinstance(lease, Lease)
                assert await store.exists()
                assert await store.commit(Record("k", 1, TOKEN), lease)
                await heard(calls, "k")
                assert [key async for key in store.keys()] == ["k"]  # noqa: SIM118 - it is no mapping
                assert await store.delete("k")
        finally:
            connection.execute(f"DROP TABLE IF EXISTS {name}".encode())


@pytest.mark.parametrize(
    "table",
    [
        "", ".", "a b", "x;drop", "a.b.c", "1a", '"', '""', '"a', 'a"b', "a.", ".a", "a-b", "x" * 64, f"a.{'x' * 64}",
        "\u00e9" * 32, '"a\0b"', f'"{"x" * 64}"',
    ],
)  # fmt: skip
def test_bad_names_of_a_table(table):
    """S1: a text that is no name, or a name that the server would cut off, never stands in a statement."""
    with pytest.raises(ValueError, match="table"):
        PostgresStore("host=h", table=table)


def test_members_who_name_the_schema_hear_those_who_do_not():
    """K2: the channel is the same for a table with and without its schema, and another for each table."""
    names = ["tokens", "public.tokens", '"tokens"', "Tokens", "other", "tokens_2", "public_tokens"]
    channels = [PostgresStore("host=h", table=name)._sql.channel for name in names]
    assert len(set(channels[:3])) == 1
    assert len(set(channels)) == 5
    assert max(map(len, channels)) <= 63


@pytest.mark.parametrize("mode", ["direct", "transaction"])
async def test_one_statement_a_step(postgres_server, monkeypatch, mode):
    """K2: each step of the protocol is one round trip."""
    with through(postgres_server, mode) as port:
        url = f"postgresql://evertoken@127.0.0.1:{port}/postgres"
        async with PostgresStore(url, table=f"t{uuid4().hex}") as store:
            await store.begin("other", "me", 5.0)
            ran: list[bytes] = []
            real = Wire.run

            async def counted(self: Wire, statement: Any, *values: Any) -> Any:
                ran.append(statement.text)
                return await real(self, statement, *values)

            monkeypatch.setattr(Wire, "run", counted)
            lease = (await store.begin("k", "me", 5.0)).lease
            assert isinstance(lease, Lease)
            for step in (
                store.begin("k", "other", 5.0),
                store.mark(Record("k", 1, TOKEN), lease),
                store.renew(lease, 5.0),
                store.commit(Record("k", 2, TOKEN), lease),
                store.read("k"),
                store.abandon(lease),
                store.begin("k", "other", 5.0),
            ):
                ran.clear()
                await step
                assert len(ran) == 1


async def test_a_cold_fleet_takes_each_lease_once(postgres_server):
    """K2: eight members that find 300 keys missing at once take 300 leases, without an error."""
    url, table = f"postgresql://evertoken@127.0.0.1:{postgres_server.port}/postgres", f"t{uuid4().hex}"
    taken: list[str] = []

    async def work(store: PostgresStore, owner: str) -> None:
        async def one(key: str) -> None:
            begun = await store.begin(key, owner, 10.0)
            if isinstance(begun.lease, Lease) and begun.record is None:
                taken.append(key)
                assert await store.commit(Record(key, 1, TOKEN), begun.lease)

        async with store:
            await asyncio.gather(*(one(f"key-{number}") for number in range(300)))

    await asyncio.gather(*(work(PostgresStore(url, table=table), f"o{number}") for number in range(8)))
    assert len(taken) == len(set(taken)) == 300


@pytest.mark.parametrize(("most", "allowed"), [(1, -1), (3, -1), (4, 2), (4, 1)])
async def test_few_connections_are_enough(postgres_server, most, allowed):
    """K3: a statement that finds no connection waits; a server that allows fewer than wanted is not down."""
    with role(postgres_server, {}, allowed) as user, admin(postgres_server.port) as connection:
        url = f"postgresql://{user}@127.0.0.1:{postgres_server.port}/postgres"
        count = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'"
        async with PostgresStore(url, table=f"{user}.tokens", max_connections=most) as store:
            for turn in range(2):
                answers = await asyncio.gather(*(store.begin(f"k{n}", f"me{turn}", 5.0) for n in range(100)))
                assert all(isinstance(answer, Begun) for answer in answers)
                found = connection.execute(count).fetchone()
                assert found is not None
                assert 1 <= found[0] <= (most if allowed < 0 else min(most, allowed))
        end = time.monotonic() + 10.0
        while connection.execute(count).fetchone() != (0,):
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


async def test_connections_that_the_server_ended_are_not_used(postgres_server):
    """K3: a server that hung up while nobody asked, as at a restart, makes no step fail."""
    with role(postgres_server, {}) as user, admin(postgres_server.port) as connection:
        url = f"postgresql://{user}@127.0.0.1:{postgres_server.port}/postgres"
        async with PostgresStore(url, table=f"{user}.tokens") as store:
            for _ in range(3):
                await asyncio.gather(*(store.begin(f"k{number}", "me", 5.0) for number in range(20)))
                connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'")
                await asyncio.sleep(0.1)


async def test_a_cancelled_wait_loses_no_connection(postgres_server):
    """R3: a caller that is cancelled while it waits for the only connection, or uses it, leaves it to the next."""
    url, table = f"postgresql://evertoken@127.0.0.1:{postgres_server.port}/postgres", f"t{uuid4().hex}"
    async with PostgresStore(url, table=table, max_connections=1) as store:
        await store.begin("k", "me", 5.0)
        for steps in range(12):
            tasks = [asyncio.create_task(store.begin(f"k{number}", "me", 5.0)) for number in range(6)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.wait(tasks, timeout=10.0)
            assert all(task.done() for task in tasks)
            assert [task.exception() for task in tasks[1::2]] == [None] * 3
        async with asyncio.timeout(10.0):
            assert await store.read("k") is None


async def test_left_while_others_wait(postgres_server):
    """L1: a store that is left while steps wait for a connection ends them, and leaves nobody waiting."""
    url, table = f"postgresql://evertoken@127.0.0.1:{postgres_server.port}/postgres", f"t{uuid4().hex}"
    store = PostgresStore(url, table=table, max_connections=1)
    async with store:
        await store.begin("k", "me", 5.0)
        tasks = [asyncio.create_task(store.read("k")) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait(tasks, timeout=10.0)
    assert all(task.done() for task in tasks)
    assert {type(task.exception()) for task in tasks} <= {type(None), ConnectionError}


async def test_a_vault_does_not_block_the_loop(postgres_server):
    """S15, R1: a callable that gives the keys of a codec runs in a worker thread."""
    key, threads = generate_key(), set()

    def vault() -> str:
        threads.add(threading.current_thread())
        return key

    url, table = f"postgresql://evertoken@127.0.0.1:{postgres_server.port}/postgres", f"t{uuid4().hex}"
    async with PostgresStore(url, AesGcm(vault), table=table) as store:
        lease = (await store.begin("k", "me", 5.0)).lease
        assert isinstance(lease, Lease)
        assert await store.commit(Record("k", 1, TOKEN), lease)
    async with PostgresStore(url, AesGcm(vault), table=table) as store:
        assert await store.read("k") == Record("k", 1, TOKEN)
        assert (await store.begin("k", "me", 5.0)).record == Record("k", 1, TOKEN)
    assert threads
    assert threading.main_thread() not in threads


async def test_a_refused_write_shows_nothing(postgres_server):
    """S1: the error of a refused write shows no token, in its text and in the locals of its frames."""
    with role(postgres_server, {}) as user, admin(postgres_server.port) as connection:
        url = f"postgresql://{user}@127.0.0.1:{postgres_server.port}/postgres"
        async with PostgresStore(url, table=f"{user}.tokens") as store:
            lease = (await store.begin("k", "me", 5.0)).lease
            assert isinstance(lease, Lease)
            connection.execute(f"ALTER TABLE {user}.tokens ADD CHECK (octet_length(record) < 10)")
            with pytest.raises(psycopg.errors.CheckViolation) as caught:
                await store.commit(Record("k", 1, TOKEN), lease)
            assert await store.read("k") is None
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__) if "/evertoken/" in str(frame.f_code)]
    assert frames
    assert "planted" not in repr([frame.f_locals for frame in frames]) + str(caught.value)


async def test_deleted_with_all_copies(postgres_server):
    """S1: deleting a key takes out its record and its torn copy, also where there is only the copy."""
    url, table = f"postgresql://evertoken@127.0.0.1:{postgres_server.port}/postgres", f"t{uuid4().hex}"
    async with PostgresStore(url, table=table) as store:
        lease = (await store.begin("k", "me", 5.0)).lease
        assert isinstance(lease, Lease)
        with admin(postgres_server.port) as connection:
            for deleted, *kept in ((True, False, True), (True, True, True), (False, False, False)):
                record, torn = (b"planted" if one else None for one in kept)
                connection.execute(f"UPDATE {table} SET record = %s, torn = %s", (record, torn))
                assert await store.delete("k") is deleted
                assert connection.execute(f"SELECT record, torn FROM {table}").fetchall() == [(None, None)]
