"""The store in an SQLite file: who may touch it, what a bad disk does, and what becomes of connections."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import shutil
import sqlite3
import stat
import sys
import threading
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evertoken import Lease, Record, Token
from evertoken.stores import SQLiteStore
from evertoken.stores._connections import Connections
from evertoken.stores._record import UnreadableRecord
from evertoken.stores._rows import Rows
from evertoken.stores.encryption import AesGcm, generate_key

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may do that")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "tokens.db"


def a_record(version: int = 1, value: str = "planted-token") -> Record:
    return Record("k", version, Token(value, issued_at=1.0, refresh_token="planted-refresh"))


async def lease_of(store: SQLiteStore, key: str = "k", owner: str = "me") -> Lease:
    lease = (await store.begin(key, owner, 10.0)).lease
    assert isinstance(lease, Lease)
    return lease


async def kept(path: Path, codec: AesGcm | None = None) -> tuple[SQLiteStore, Lease]:
    """Return a store that keeps version 1, and the lease to write the next with."""
    store = SQLiteStore(path, codec)
    lease = await lease_of(store)
    assert await store.mark(a_record(), lease)
    return store, lease


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def shows_nothing(error: BaseException) -> bool:
    """Tell whether a crash reporter that shows the locals of each frame of the library would show no token."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "evertoken" in frame.f_code.co_filename]
    return bool(frames) and "planted" not in repr([frame.f_locals for frame in frames]) + str(error)


@posix
async def test_modes(path):
    """S1: the files belong to their owner alone from the first byte on, with any umask."""
    before = os.umask(0)
    try:
        async with (await kept(path))[0] as store:
            assert await store.read("k") == a_record()
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"tokens.db": 0o600, "tokens.db-shm": 0o600, "tokens.db-wal": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@posix
@pytest.mark.parametrize("what", ["link", "directory", "readable", "writable folder"])
async def test_what_is_not_ours_alone_is_refused(path, what):
    """S1: a symbolic link, a directory, a file others may read and a directory others may write to are refused."""
    await kept(path)
    place = path
    if what == "link":
        place = path.with_name("link")
        place.symlink_to(path)
    elif what == "directory":
        place = path.with_name("directory")
        place.mkdir()
    elif what == "readable":
        path.chmod(0o640)
    else:
        path.parent.chmod(0o770)
    store = SQLiteStore(place)
    for operation in (store.read("k"), store.begin("k", "me", 1.0), store.watch(lambda _: None)):
        with pytest.raises(PermissionError):
            await operation


@posix
@as_root
async def test_another_user_s_file_is_refused(path):
    """S1: a file of another user is refused."""
    store, _ = await kept(path)
    os.chown(path, 65_534, -1)
    with pytest.raises(PermissionError, match="another user"):
        await store.read("k")


async def test_what_is_no_database(path):
    """K3: a file that is something else is an error, and stays as it is."""
    path.parent.mkdir()
    content = b"mine, and no database at all. " * 50
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(sqlite3.DatabaseError):
        await SQLiteStore(path).begin("k", "me", 1.0)
    assert path.read_bytes() == content


async def test_durable(path):
    """K1: each write is synchronised in full, in write-ahead mode."""
    store, _ = await kept(path)
    with store._connections.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_a_full_disk(path, monkeypatch):
    """K3: if the file can grow no further, a write raises, shows no token and loses nothing."""
    async with (await kept(path))[0] as store:
        lease = Lease("k", "me", 1)
        with store._connections.reading() as connection:
            connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError, match="full") as caught:
            await store.mark(a_record(2, "planted" * 5000), lease)
        assert shows_nothing(caught.value)
        assert await store.read("k") == a_record()
        with store._connections.reading() as connection:
            connection.execute("PRAGMA max_page_count = 100000")
        assert await store.mark(a_record(2, "planted" * 5000), lease)


@pytest.mark.parametrize(
    ("column", "torn"),
    [
        *[("ends", torn) for torn in ("", "abc", 5, b"\xff", "{}", "[1, 2]", '["a", 1, 1, ""]', "[" * 100_000)],
        ("ends", '[Infinity, 0, 0, ""]'),
        ("ends", f'[1{"0" * 400}, 0, 0, ""]'),
        *[("fence", torn) for torn in ("", "abc", 1.5, b"1", -1, 2**63 - 1)],
        ("owner", b"\xff"),
    ],
    ids=lambda value: str(value)[:12],
)
async def test_a_torn_lease_is_begun_anew(path, column, torn):
    """K2: an invalid number in the place of a lease blocks nobody, and the earlier holder has lost the lease."""
    store, old = await kept(path)
    change(path, f"UPDATE evertoken SET {column} = ?", torn)
    assert await store.holder("k") is None
    assert not await store.renew(old, 10.0)
    new = await lease_of(store, owner="new")
    assert not await store.mark(a_record(2), old)
    assert await store.renew(new, 10.0)
    assert await store.mark(a_record(2), new)
    await store.abandon(new)
    assert (await lease_of(store, owner="again")).fence > new.fence


async def test_a_torn_record_is_set_aside(path, caplog):
    """K3: a broken record is moved to a column of its own, reported once, and may be written over."""
    store, lease = await kept(path)
    change(path, "UPDATE evertoken SET record = ?", b'{"planted')
    with caplog.at_level(logging.DEBUG):
        assert await store.read("k") is None
        assert await store.read("k") is None
    (record,) = [record for record in caplog.records if record.name == "evertoken"]
    assert record.levelname == "WARNING"
    assert "planted" not in caplog.text
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT record, torn FROM evertoken").fetchall() == [(None, b'{"planted')]
    change(path, "UPDATE evertoken SET record = 'a text'")
    assert await store.mark(a_record(2), lease)


@pytest.mark.parametrize("given", ["another key", "none", "codec"])
async def test_an_unreadable_record_stays(path, given):
    """K1: a record that cannot be read with the keys at hand is never written over."""
    await kept(path, None if given == "codec" else AesGcm(generate_key()))
    store = SQLiteStore(path, None if given == "none" else AesGcm(generate_key()))
    lease = Lease("k", "me", 1)
    with closing(sqlite3.connect(path)) as connection:
        content = connection.execute("SELECT record FROM evertoken").fetchall()
    for operation in (store.read("k"), store.mark(a_record(5), lease)):
        with pytest.raises(UnreadableRecord) as caught:
            await operation
        assert shows_nothing(caught.value)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT record FROM evertoken").fetchall() == content
    assert await store.delete("k")


async def test_sealed(path):
    """S1: with a codec no file of the store holds a token."""
    codec = AesGcm(generate_key())
    async with (await kept(path, codec))[0] as store:
        assert await store.read("k") == a_record()
        assert b"planted" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


async def test_a_transaction_that_is_held(path, monkeypatch):
    """F7: a process stopped in the middle of a transaction blocks writers for a bounded time, and no reader."""
    monkeypatch.setattr("evertoken.stores.sqlite.BUSY_TIMEOUT", 0.2)
    store, lease = await kept(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert await store.read("k") == a_record()
        for operation in (store.mark(a_record(2), lease), store.begin("l", "x", 1.0), store.renew(lease, 1.0)):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                await operation
        connection.execute("ROLLBACK")
    assert await store.mark(a_record(2), lease)


async def test_two_make_the_file_at_once(path, monkeypatch):
    """K2: who finds another at the making of the table waits for it, as for any transaction."""
    path.parent.mkdir(0o700)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        path.chmod(0o600)
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE half (made)")

        class Waiting(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if sql == "BEGIN EXCLUSIVE" and other.in_transaction:
                    other.execute("COMMIT")
                return super().execute(sql, *values)

        monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Waiting))
        await kept(path)
        assert other.execute("SELECT count(*) FROM evertoken").fetchone() == (1,)
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("held", ["BEGIN IMMEDIATE", "BEGIN; SELECT * FROM other"])
async def test_one_who_never_ends_the_making(path, monkeypatch, held):
    """F7: a process that stops in the transaction that makes the file blocks others for a bounded time."""
    monkeypatch.setattr("evertoken.stores.sqlite.BUSY_TIMEOUT", 0.2)
    path.parent.mkdir(0o700)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        path.chmod(0o600)
        other.execute("CREATE TABLE other (column)")
        for statement in held.split("; "):
            other.execute(statement).fetchall()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await SQLiteStore(path).read("k")
        other.execute("ROLLBACK")
    await kept(path)


async def test_connections_are_kept_and_closed(path, monkeypatch):
    """L1: a store that is entered keeps a few connections; when all have left, or none entered, none stays open."""
    made: list[sqlite3.Connection] = []
    real = Connections._connect

    def spied(self: Connections) -> sqlite3.Connection:
        made.append(real(self))
        return made[-1]

    def are_open() -> int:
        count = 0
        for connection in made:
            try:
                connection.execute("SELECT 1")
            except sqlite3.ProgrammingError:
                continue
            count += 1
        return count

    monkeypatch.setattr(Connections, "_connect", spied)
    store, _ = await kept(path)
    assert (len(made), are_open()) == (2, 0)
    async with store:
        async with store:
            for _ in range(20):
                await store.read("k")
            assert len(made) == 3
            await asyncio.gather(*(store.read("k") for _ in range(50)))
        assert 1 <= are_open() <= 4
    assert are_open() == 0
    assert not [file.name for file in path.parent.iterdir() if file.name != path.name]
    gc.collect()


async def test_nothing_blocks_the_loop(path, monkeypatch):
    """R1: all work on the disk runs in a worker thread."""
    threads = set()
    real = Connections._take

    def spied(self: Connections) -> Any:
        threads.add(threading.current_thread())
        return real(self)

    monkeypatch.setattr(Connections, "_take", spied)
    store, lease = await kept(path)
    await store.read("k")
    await store.renew(lease, 1.0)
    await store.abandon(lease)
    await store.holder("k")
    assert [key async for key in store.keys()]  # noqa: SIM118 - it is no mapping
    await store.delete("k")
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork(path):
    """L1: a child uses connections of its own, and leaves its parent's alone."""
    store, lease = asyncio.run(kept(path))
    store._connections.enter()
    rows = store._rows
    assert rows.read("k") == a_record()
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if rows.keep(a_record(2), lease, ending=False) and rows.read("k") == a_record(2) else 2
            store._connections.leave()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert rows.read("k") == a_record(2)
    store._connections.leave()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_that_only_leaves(path):
    """L1: a child that leaves the store before any step of its own touches no connection of its parent."""
    store, lease = asyncio.run(kept(path))
    store._connections.enter()
    assert store._rows.read("k") == a_record()
    free = list(store._connections._free)
    child = os.fork()
    if not child:
        status = 1
        try:
            store._connections.leave()
            status = 0 if store._connections._inherited == free else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert store._rows.keep(a_record(2), lease, ending=False)
    assert store._rows.read("k") == a_record(2)
    store._connections.leave()


async def test_a_file_that_was_made_anew(path):
    """K2: who watches looks at everything when the file was replaced by a younger one."""
    store, lease = await kept(path)
    assert await store.mark(a_record(2), lease)
    (file, newest), told = store._rows.changes(None)
    assert (newest, told) == (2, [None])
    path.unlink()
    await kept(path)
    now, told = store._rows.changes((file, newest))
    assert (now[1], told) == (1, [None])
    assert store._rows.changes(now) == (now, [])


def take_away(path: Path, how: str) -> None:
    """Do to the file of a store what a person, a clean-up or a restored copy does."""
    if how == "deleted":
        path.unlink()
    elif how == "deleted with its log":
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
    elif how == "renamed":
        path.rename(path.with_name("renamed.db"))
    elif how == "its directory renamed":
        path.parent.rename(path.parent.with_name("renamed"))
    elif how == "its directory deleted":
        shutil.rmtree(path.parent)
    else:
        copy = path.with_name("copy.db")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
        copy.chmod(0o600)
        copy.replace(path)


HOW = ["deleted", "deleted with its log", "renamed", "its directory renamed", "its directory deleted", "replaced"]


@posix
@pytest.mark.parametrize("how", HOW)
async def test_a_file_that_is_taken_away_is_noticed(path, how):
    """K1, K3: a write after the file was taken away goes into the file that is under the path then."""
    async with (await kept(path))[0] as store:
        assert await store.read("k") == a_record()
        newest, _ = store._rows.changes(None)
        take_away(path, how)
        assert await store.read("k") == (a_record() if how == "replaced" else None)
        assert store._rows.changes(newest)[1] == [None]
        lease = await lease_of(store)
        assert await store.commit(a_record(9), lease)
        assert await SQLiteStore(path).read("k") == a_record(9)
    assert await SQLiteStore(path).read("k") == a_record(9)


@posix
@pytest.mark.parametrize("how", HOW)
async def test_a_file_that_is_taken_away_in_the_middle_is_an_error(path, monkeypatch, how):
    """K1: a write whose file loses its name before it ends is not taken for kept."""
    store, lease = await kept(path)
    real = Rows._mended

    def slow(self: Rows, *arguments: Any) -> Any:
        found = real(self, *arguments)
        monkeypatch.setattr(Rows, "_mended", real)
        take_away(path, how)
        return found

    async with store:
        monkeypatch.setattr(Rows, "_mended", slow)
        with pytest.raises((OSError, sqlite3.Error)) as caught:
            await store.commit(a_record(2), lease)
        assert shows_nothing(caught.value)
        # The log of the one before lies beside a copy, and SQLite takes it for the copy's.
        assert await store.read("k") in {None, a_record(), a_record(2)}
        assert await store.commit(a_record(3), await lease_of(store))
    assert await SQLiteStore(path).read("k") == a_record(3)


@posix
@pytest.mark.parametrize("ending", ["-wal", "-shm"])
async def test_a_log_that_is_taken_away_loses_nothing(path, ending):
    """K1: if only the log of the file is deleted, the file has all records."""
    async with (await kept(path))[0] as store:
        assert await store.commit(a_record(2), await lease_of(store))
        path.with_name(path.name + ending).unlink()
        assert await store.read("k") == a_record(2)
        assert await store.commit(a_record(3), await lease_of(store))
        assert await SQLiteStore(path).read("k") == a_record(3)
    assert await SQLiteStore(path).read("k") == a_record(3)


@pytest.mark.parametrize(("what", "there"), [("record", True), ("torn", True), ("both", True), ("nothing", False)])
async def test_deleted_with_all_copies(path, what, there):
    """S1: deleting a key takes out its record and its torn copy, also where there is only the copy."""
    store, _ = await kept(path)
    record = b"planted" if what in {"record", "both"} else None
    torn = b"planted" if what in {"torn", "both"} else None
    change(path, "UPDATE evertoken SET record = ?, torn = ?", record, torn)
    assert await store.delete("k") is there
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT record, torn FROM evertoken").fetchall() == [(None, None)]


@pytest.mark.parametrize("key", [b"blob", 7, None], ids=str)
async def test_a_stranger_s_row_hides_no_other(path, key):
    """L2: a row whose key is no text, or not UTF-8, is passed over by lists and watches."""
    store, _ = await kept(path)
    value = "CAST(x'ff' AS TEXT)" if key is None else "?"
    change(
        path,
        f"INSERT INTO evertoken (key, record, fence, owner, change) VALUES ({value}, x'', 0, '', 99)",
        *(() if key is None else (key,)),
    )
    names = [key async for key in store.keys()]  # noqa: SIM118 - it is no mapping
    assert "k" in names
    assert all(isinstance(name, str) for name in names)
    (_, newest), told = store._rows.changes((store._connections.file(), 0))
    assert (newest, "k" in told) == (99, True)


@pytest.mark.parametrize("content", [None, "another table", "ours"])
async def test_looking_whether_it_exists_makes_nothing(path, content):
    """L2: whether there is a store is told without making one."""
    path.parent.mkdir(0o700)
    if content == "another table":
        change(path, "CREATE TABLE mine (column)")
        path.chmod(0o600)
    elif content == "ours":
        await kept(path)
    before = path.read_bytes() if content else None
    assert await SQLiteStore(path).exists() is (content == "ours")
    assert (path.read_bytes() if path.exists() else None) == before


def test_arguments(tmp_path, monkeypatch):
    """S1: bad arguments are named and touch nothing; a relative path is fixed when the store is made."""
    for wrong in ("", ".", "/", ":memory:"):
        with pytest.raises(ValueError, match="path must name a file"):
            SQLiteStore(wrong)
    for poll in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="poll"):
            SQLiteStore(tmp_path / "x", poll=poll)
    monkeypatch.chdir(tmp_path)
    assert repr(SQLiteStore("t.db")) == f"SQLiteStore({str(tmp_path / 't.db')!r})"
    assert list(tmp_path.iterdir()) == []
