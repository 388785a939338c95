"""Deleted tokens are gone: from every file of a store, and from every field of a server's hash or row."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from tests.stores.on_redis import new_prefix, url

from evertoken import Lease, Record, Token
from evertoken.stores import FileStore, PostgresStore, RedisStore, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stores.servers import Server

ACCESS, REFRESH, EXTRA = "planted-access", "planted-refresh", "planted-extra"


def a_record(key: str, version: int) -> Record:
    # Larger than a page of SQLite, so that it spills over into pages of its own.
    extra = {"id_token": f"{EXTRA}-{version}-" * 500}
    token = Token(f"{ACCESS}-{version}", issued_at=1.0, refresh_token=f"{REFRESH}-{version}", extra=extra)
    return Record(key, version, token)


async def keep(store: Any, record: Record) -> None:
    lease = (await store.begin(record.key, "me", 10.0)).lease
    assert isinstance(lease, Lease)
    assert await store.commit(record, lease)


def made(kind: str, folder: Path) -> FileStore | SQLiteStore:
    return FileStore(folder) if kind == "file" else SQLiteStore(folder / "tokens.db")


def damage(kind: str, folder: Path) -> None:
    """Cut the end off every record."""
    if kind == "file":
        for file in folder.glob("*.record"):
            file.write_bytes(file.read_bytes()[:-1])
        return
    with closing(sqlite3.connect(folder / "tokens.db")) as connection, connection:
        connection.execute("UPDATE evertoken SET record = substr(record, 1, length(record) - 1)")


def killed_while_writing(kind: str, folder: Path) -> None:
    """Leave what a process leaves that was killed before it could name its file."""
    if kind == "file":
        for file in folder.glob("*.record"):
            temporary = file.with_name(f"{file.name}.tmp")
            temporary.write_bytes(file.read_bytes())
            temporary.chmod(0o600)


def holding(folder: Path, *, but: bytes = b"") -> list[str]:
    """Return the files that hold anything planted."""
    found = {file: file.read_bytes().replace(but, b"") if but else file.read_bytes() for file in folder.iterdir()}
    return [file.name for file, data in found.items() if b"planted" in data]


def test_the_search_finds_what_is_there(tmp_path):
    """S3: the same search finds tokens that were not deleted, in the files of either store."""
    for kind in ("file", "sqlite"):
        folder = tmp_path / kind
        asyncio.run(keep(made(kind, folder), a_record("k", 1)))
        assert holding(folder)


@pytest.mark.parametrize("kind", ["file", "sqlite"])
@pytest.mark.parametrize("before", ["kept", "replaced", "set aside", "killed", "a sign-out"])
@pytest.mark.parametrize("ended", ["closed", "entered by another", "never entered"])
async def test_no_byte_of_it_is_left(tmp_path, kind, before, ended, caplog):
    """S3: after a deletion, or a sign-out, and a close no file of the store holds any token that it ever had."""
    caplog.set_level(logging.CRITICAL, "evertoken")
    folder = tmp_path / "store"
    store, other = made(kind, folder), made(kind, folder)
    if ended != "never entered" and isinstance(store, SQLiteStore) and isinstance(other, SQLiteStore):
        await store.__aenter__()
    if ended == "entered by another" and isinstance(other, SQLiteStore):
        await other.__aenter__()
        await other.read("k")
    await keep(store, a_record("k", 1))
    if before in {"replaced", "a sign-out"}:
        for version in range(2, 6):
            await keep(store, a_record("k", version))
    if before in {"set aside", "a sign-out"}:
        damage(kind, folder)
        assert await store.read("k") is None
        await keep(store, a_record("k", 9))
    if before == "killed":
        killed_while_writing(kind, folder)
    if before == "a sign-out":
        await keep(store, Record("k", 10, None, revoked=True, since=2.0))
    else:
        assert await store.delete("k")
    if ended != "never entered" and isinstance(store, SQLiteStore):
        await store.__aexit__()
    assert holding(folder) == []
    if ended == "entered by another" and isinstance(other, SQLiteStore):
        assert (await other.read("k") is None) is (before != "a sign-out")
        await other.__aexit__()
        assert holding(folder) == []


async def test_others_keep_theirs(tmp_path):
    """K1, S3: to delete one key takes nothing from the others."""
    async with SQLiteStore(tmp_path / "store" / "tokens.db") as store:
        for number in range(20):
            await keep(store, a_record(f"k{number}", 1))
        for number in range(0, 20, 2):
            assert await store.delete(f"k{number}")
        for number in range(20):
            assert await store.read(f"k{number}") == (a_record(f"k{number}", 1) if number % 2 else None)


async def test_a_reader_that_never_ends_stops_no_deletion(tmp_path, monkeypatch):
    """F7, S3: while another reads, a deletion waits for a bounded time; the close after the reader empties the log."""
    monkeypatch.setattr("evertoken.stores.sqlite.BUSY_TIMEOUT", 0.2)
    folder = tmp_path / "store"
    async with SQLiteStore(folder / "tokens.db") as store:
        await keep(store, a_record("k", 1))
        with closing(sqlite3.connect(folder / "tokens.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM evertoken").fetchall()
            assert await store.delete("k")
            assert await store.read("k") is None
            reader.execute("COMMIT")
    assert holding(folder) == []


KILLED = """
import asyncio, os, sys
from evertoken import Record, Token
from evertoken.stores import SQLiteStore

async def main():
    store = await SQLiteStore(sys.argv[1]).__aenter__()
    for version in range(1, 5):
        token = Token(f"planted-access-{version}", issued_at=1.0, refresh_token=f"planted-refresh-{version}")
        await store.commit(Record("k", version, token), (await store.begin("k", "me", 10.0)).lease)
    os._exit(0)

asyncio.run(main())
"""


async def test_what_a_killed_process_left_in_the_log(tmp_path):
    """S3: the log of a process that was killed is emptied by the next one that deletes and closes."""
    folder = tmp_path / "store"
    path = folder / "tokens.db"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=True)
    assert "tokens.db-wal" in holding(folder)
    async with SQLiteStore(path) as store:
        assert await store.delete("k")
    assert holding(folder) == []


def deleted(store: Any) -> Any:
    return store.delete("k")


def signed_out(store: Any) -> Any:
    return keep(store, Record("k", 10, None, revoked=True, since=2.0))


@pytest.mark.parametrize("how", [deleted, signed_out])
async def test_no_field_of_redis(valkey_server: Server, admin: Any, how: Callable[[Any], Any], caplog: Any) -> None:
    """S3: after a deletion, or a sign-out, no field of the hash holds a token, not even a record that was set aside."""
    caplog.set_level(logging.CRITICAL, "evertoken")
    async with RedisStore(url(valkey_server), prefix=new_prefix()) as store:
        name = store._name("k")
        await keep(store, a_record("k", 1))
        await admin.hset(name, "record", (await admin.hget(name, "record"))[:-1])
        assert await store.read("k") is None
        await keep(store, a_record("k", 9))
        assert b"planted" in (await admin.hgetall(name))[b"torn"]
        await how(store)
        assert b"planted" not in b"".join((await admin.hgetall(name)).values())


@pytest.mark.parametrize("how", [deleted, signed_out])
async def test_no_column_of_postgres(postgres_server: Server, how: Callable[[Any], Any], caplog: Any) -> None:
    """S3: after a deletion, or a sign-out, no column of the row holds a token, not even a record that was set aside."""
    caplog.set_level(logging.CRITICAL, "evertoken")
    conninfo, table = f"postgresql://evertoken@127.0.0.1:{postgres_server.port}/postgres", f"t{uuid4().hex}"
    async with PostgresStore(conninfo, table=table) as store:
        await keep(store, a_record("k", 1))
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute(f"UPDATE {table} SET record = substr(record, 1, length(record) - 1)".encode())
            assert await store.read("k") is None
            await keep(store, a_record("k", 9))
            row = f"SELECT (one.*)::text, convert_from(coalesce(torn, ''), 'utf8') FROM {table} AS one"
            assert "planted" in str(admin.execute(row.encode()).fetchall())
            await how(store)
            whole = f"SELECT coalesce(record, ''), coalesce(torn, ''), key, owner FROM {table}"
            assert "planted" not in str(admin.execute(whole.encode()).fetchall())
