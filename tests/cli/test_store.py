"""`evertoken store`: what an operator sees of a store, and takes out of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from tests.stores.servers import postgres, valkey

from evertoken import Lease, Record, Token
from evertoken.cli.main import main
from evertoken.stores import FileStore, PostgresStore, RedisStore, SQLiteStore
from evertoken.stores.encryption import AesGcm, generate_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evertoken import TokenStore

SECRET, REFRESH = "planted-access-secret-1", "planted-refresh-secret-2"


def token(left: float, **changes: Any) -> Token:
    now = time.time()
    return Token(f"{SECRET}{left}", **{"issued_at": now - 600.0, "expires_at": now + left, **changes})


RECORDS: dict[str, Callable[[], dict[str, Any]]] = {
    "valid": lambda: {"token": token(3000.0)},
    "old": lambda: {"token": token(-500.0)},
    "login": lambda: {"token": token(-500.0, refresh_token=REFRESH)},
    "unknown": lambda: {"token": token(3000.0, refresh_token=REFRESH), "sent_at": time.time() - 5.0},
    "out": lambda: {"token": None, "revoked": True},
}


async def fill(store: Any) -> None:
    if hasattr(store, "__aenter__"):
        async with store:
            await put(store)
    else:
        await put(store)


async def put(store: TokenStore) -> None:
    for key, fields in RECORDS.items():
        lease = (await store.begin(key, "worker-1", 10.0)).lease
        assert isinstance(lease, Lease)
        # A key with a lease.
        keep = store.mark if key == "valid" else store.commit
        assert await keep(Record(key, 7, **fields()), lease)


@pytest.fixture(params=["file", "sqlite", "redis", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The URL of a filled store, and the options that go with it."""
    if request.param == "file":
        asyncio.run(fill(FileStore(tmp_path / "tokens")))
        yield [f"file:{tmp_path / 'tokens'}"]
    elif request.param == "sqlite":
        asyncio.run(fill(SQLiteStore(tmp_path / "tokens.db")))
        yield [f"sqlite://{tmp_path / 'tokens.db'}"]
    elif request.param == "redis":
        with valkey() as server:
            url, prefix = f"redis://127.0.0.1:{server.port}/0", f"{uuid4().hex}:"
            asyncio.run(fill(RedisStore(url, prefix=prefix)))
            yield [url, "--prefix", prefix]
    else:
        with postgres() as server:
            url, table = f"postgresql://evertoken@127.0.0.1:{server.port}/postgres", f"t{uuid4().hex}"
            asyncio.run(fill(PostgresStore(url, table=table)))
            yield [url, "--table", table]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["store", *arguments])
    said = capsys.readouterr()
    assert "planted" not in said.out + said.err, "a secret is shown"
    return status, said.out, said.err


def states(out: str) -> dict[str, str]:
    return {row["key"]: row["state"] for row in map(json.loads, out.splitlines())}


def test_each_kind_of_store(place, capsys):
    """Every store of ours is listed, shown, checked and purged by its URL, and no token is ever shown."""
    status, out, _ = run(capsys, "list", *place, "--json")
    assert status == 0
    assert states(out) == {
        "valid": "valid", "old": "expired", "login": "expired", "unknown": "ambiguous", "out": "revoked",
    }  # fmt: skip

    status, out, _ = run(capsys, "list", *place)
    assert len(out.splitlines()) == 6
    (held,) = (line for line in out.splitlines() if "worker-1" in line)
    assert held.startswith("valid ")
    assert " 7 " in held

    status, out, _ = run(capsys, "show", *place, "login", "--json")
    shown = json.loads(out)
    assert (shown["version"], len(shown["token"]), len(shown["refresh_token"])) == (7, 8, 8)

    status, out, _ = run(capsys, "show", *place, "valid")
    assert "expires_at:" in out
    assert "(in 49." in out or "(in 50." in out
    assert "lease_owner:     worker-1" in out

    status, out, _ = run(capsys, "check", *place)
    assert (status, "records: 5" in out, "ambiguous: 1 (a request was sent" in out) == (0, True, True)

    status, out, _ = run(capsys, "purge", *place, "--expired", "300")
    assert (status, out.splitlines()[0]) == (0, "would take out old")
    status, out, _ = run(capsys, "purge", *place, "--expired", "300", "--yes")
    assert out.splitlines() == ["took out old"]
    status, out, _ = run(capsys, "purge", *place, "--expired", "300", "--with-refresh-tokens", "--yes")
    assert out.splitlines() == ["took out login"]
    status, out, err = run(capsys, "purge", *place, "--key", "valid", "--key", "nobody", "--yes")
    assert (status, out.splitlines()) == (1, ["took out valid"])
    assert "there is no record of 'nobody'" in err
    status, out, _ = run(capsys, "list", *place, "--json")
    assert states(out) == {"unknown": "ambiguous", "out": "revoked"}


def test_sealed(tmp_path, capsys):
    """Sealed records are counted and never opened without the keys; with them all is shown."""
    generate_key(tmp_path / "key")
    asyncio.run(fill(FileStore(tmp_path / "tokens", AesGcm(tmp_path / "key"))))
    url = f"file:{tmp_path / 'tokens'}"

    status, out, _ = run(capsys, "check", url)
    assert status == 1
    assert "sealed: 5 (not to be read with the keys at hand: --key-file)" in out
    status, out, _ = run(capsys, "check", url, "--key-file", str(tmp_path / "key"))
    assert status == 0


def test_torn(tmp_path, capsys):
    """`check` reports a broken record, and sets it aside."""
    asyncio.run(fill(FileStore(tmp_path / "tokens")))
    files = [path for path in (tmp_path / "tokens").rglob("*") if path.is_file()]
    (one,) = [path for path in files if b'"key": "valid", "version"' in path.read_bytes()]
    one.write_text(one.read_text().replace('"version"', '"versiom"'))

    status, out, _ = run(capsys, "check", f"file:{tmp_path / 'tokens'}")
    assert status == 1
    assert "torn: 1 (set aside, and missing from now on)" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "/tmp"], "begins with one of file:"),
        (["list", "http://example.com"], "begins with one of file:"),
        (["list", "file:/nowhere/at/all"], "there is no directory '/nowhere/at/all'"),
        (["list", "sqlite:/nowhere.db"], "there is no file '/nowhere.db'"),
        (["list", "file:"], "there is no directory"),
        (["list", "file:/tmp", "--prefix", "x"], "--prefix is for Redis"),
        (["list", "redis://localhost", "--table", "x"], "--table is for PostgreSQL"),
    ],
)
def test_wrong_url(arguments, says, capsys):
    """A malformed URL, or one that names nothing, creates nothing, and the message shows a correct one."""
    status, _, err = run(capsys, *arguments)
    assert (status, says in err) == (2, True), err


ACTIONS = ["list", "check", "show k", "purge --key k --yes", "purge --expired 0"]


def test_a_table_that_is_not_there(capsys):
    """L2: looking for a table of PostgreSQL under a wrong name fails and says so, and makes none."""
    with postgres() as server:
        url = f"postgresql://evertoken@127.0.0.1:{server.port}/postgres"
        for action in ACTIONS:
            name, *more = action.split()
            status, _, err = run(capsys, name, url, "--table", "typo", *more)
            assert (status, "there is no such table" in err, "table='typo'" in err) == (1, True, True)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT to_regclass('typo')").fetchone() == (None,)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("content", ["empty", "another table", "no database"])
def test_a_file_that_is_no_store(tmp_path, capsys, action, content):
    """L2: a file without the table, or that is no database, is no store: the status says so, and it stays as it is."""
    path = tmp_path / "other.db"
    path.write_bytes(b"mine, and no database at all. " * 50 if content == "no database" else b"")
    path.chmod(0o600)
    if content == "another table":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE mine (column)")
    before = path.read_bytes()
    name, *more = action.split()
    status, _, err = run(capsys, name, f"sqlite:{path}", *more)
    assert status == 1
    assert ("there is no such table" in err) == (content != "no database")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "states_after"),
    [
        ("cut", 1), ("empty", 1), ("binary", 1), ("no key", 1), ("key of another", 1), ("no text", 1),
        ("directory", 1), ("no version", 1), ("nothing", 0), ("temporary", 0),
    ],
)  # fmt: skip
def test_check_finds_what_is_torn(tmp_path, capsys, damage, states_after):
    """L2: `check` ends with 1 if a file in the place of a record is not a record, and counts the good records."""
    folder = tmp_path / "tokens"
    asyncio.run(fill(FileStore(folder)))
    file = folder / f"{hashlib.sha256(b'old').hexdigest()}.record"
    content = file.read_bytes()
    fields = json.loads(content)
    damaged = {
        "cut": content[:30],
        "empty": b"",
        "binary": b"\0\xff" * 40,
        "no key": json.dumps({name: value for name, value in fields.items() if name != "key"}).encode(),
        "key of another": json.dumps(fields | {"key": "valid"}).encode(),
        "no text": json.dumps(fields | {"key": 7}).encode(),
        "no version": json.dumps(fields | {"version": None}).encode(),
    }
    if damage == "directory":
        file.unlink()
        file.mkdir()
    elif damage == "temporary":
        file.with_suffix(".record.tmp").write_bytes(content[:30])
    else:
        file.write_bytes(damaged.get(damage, content))
    status, out, _ = run(capsys, "check", f"file:{folder}")
    assert (status, "torn: 1" in out, f"records: {5 - states_after}" in out) == (states_after, bool(states_after), True)


@pytest.mark.parametrize("has_token", [True, False])
def test_show_has_the_history(tmp_path, capsys, has_token):
    """L2: `show` tells the mark, who set it, when the grant began and of how many logins, with and without a token."""

    async def plant() -> None:
        store = FileStore(tmp_path / "tokens")
        lease = (await store.begin("k", "worker-1", 5.0)).lease
        assert isinstance(lease, Lease)
        current = token(60.0) if has_token else None
        assert await store.mark(Record("k", 1, current, 5.5, "worker-1", since=4.5, origins=("one", "two")), lease)

    asyncio.run(plant())
    _, out, _ = run(capsys, "show", f"file:{tmp_path / 'tokens'}", "k", "--json")
    shown = json.loads(out)
    assert {name: shown[name] for name in ("state", "sent_at", "marked_by", "since", "origins")} == {
        "state": "ambiguous", "sent_at": 5.5, "marked_by": "worker-1", "since": 4.5, "origins": 2,
    }  # fmt: skip
    assert (shown["token"] is not None) == has_token
    _, out, _ = run(capsys, "show", f"file:{tmp_path / 'tokens'}", "k")
    for line in ("sent_at:         1970-01-01 00:00:05 UTC", "marked_by:       worker-1", "origins:         2"):
        assert line in out


@pytest.mark.parametrize("records", [1, 100])
def test_a_reader_who_has_read_enough(tmp_path, records):
    """Where the list goes to a pipe that is closed, as by `head`, it ends without a word, however long it is."""

    async def plant() -> None:
        store = SQLiteStore(tmp_path / "tokens.db")
        async with store:
            for key in map(str, range(records)):
                lease = (await store.begin(key, "worker-1", 5.0)).lease
                assert isinstance(lease, Lease)
                assert await store.mark(Record(key, 1, Token("planted", issued_at=1.0)), lease)

    asyncio.run(plant())
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "evertoken", "store", "list", f"sqlite://{tmp_path}/tokens.db", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=20) == 141


def test_purge_wants_to_know_what(tmp_path, capsys):
    """`purge` without a key or an age takes nothing out."""
    asyncio.run(fill(FileStore(tmp_path / "tokens")))
    status, _, err = run(capsys, "purge", f"file:{tmp_path / 'tokens'}", "--yes")
    assert (status, "say which: --key KEY, or --expired" in err) == (2, True)


def test_server_is_gone(capsys, monkeypatch):
    """A server that does not answer is said in a line, without the password of its URL."""
    monkeypatch.setenv("EVERTOKEN_STORE", "redis://user:planted-password@127.0.0.1:1/0")
    status, _, err = run(capsys, "check")
    assert status == 1
    assert err.startswith("evertoken: the store failed: ConnectionError:")


def test_show_of_nothing(tmp_path, capsys):
    """A key that is not there is said so, and how to find those that are."""
    asyncio.run(fill(FileStore(tmp_path / "tokens")))
    status, _, err = run(capsys, "show", f"file:{tmp_path / 'tokens'}", "nobody")
    assert (status, "`evertoken store list` names the keys" in err) == (1, True)


def test_what_a_stranger_wrote(tmp_path, capsys):
    """Times beyond the calendar, and control characters in a key or an owner, are shown in an escaped form."""

    async def plant() -> None:
        store = FileStore(tmp_path / "tokens")
        lease = (await store.begin("\x1b[2Jevil", "\x1b[2Jowner", 5.0)).lease
        assert isinstance(lease, Lease)
        far = Token("planted", issued_at=-1e300, expires_at=1e300)
        record = Record("\x1b[2Jevil", 1, far, 1e18, "\x1b[2Jmember", since=-1e300, origins=("\x1b[2Jorigin",))
        assert await store.mark(record, lease)

    asyncio.run(plant())
    url = f"file:{tmp_path / 'tokens'}"
    for action in (["list", url], ["show", url, "\x1b[2Jevil"], ["check", url]):
        status, out, _ = run(capsys, *action)
        assert status == 0
        assert "\x1b" not in out
        assert max(map(len, out.splitlines())) < 120
    _, out, _ = run(capsys, "list", url)
    assert "?[2Jevil" in out
    assert "?[2Jowner" in out


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:planted/password@127.0.0.1:1/0",
        "redis://:planted%40password@127.0.0.1:1/0",
        "postgresql://user:planted password@127.0.0.1/x",
    ],
)
def test_a_bad_url_is_not_quoted(url, capsys):
    """S1: the message about a wrong URL contains no part of it that may be a password."""
    status, _, err = run(capsys, "check", url)
    assert status in {1, 2}
    assert "'p" not in err
