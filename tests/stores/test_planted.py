"""Files and directories that others could have planted, read or replaced are refused, and nothing is written there."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evertoken import Lease, Record, Token
from evertoken.stores import FileStore, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX's")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may do that")

STRANGER = 65_534
TOKEN = Token("planted-access", issued_at=1.0, refresh_token="planted-refresh")


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """Files get the modes that the code asks for."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def keep(store: Any, version: int = 1) -> None:
    lease = (await store.begin("k", "me", 10.0)).lease
    assert isinstance(lease, Lease)
    assert await store.commit(Record("k", version, TOKEN), lease)


async def refused(store: Any, match: str) -> None:
    for operation in (store.read("k"), store.begin("k", "me", 1.0), store.delete("k"), store.holder("k")):
        with pytest.raises(PermissionError, match=match):
            await operation
    if isinstance(store, SQLiteStore) and os.path.lexists(store._connections.path):
        with pytest.raises(PermissionError, match=match):
            await store.exists()


def written(folder: Path) -> list[str]:
    """Return the files below *folder* in which a token was written."""
    return [file.name for file in folder.rglob("*") if file.is_file() and b"planted" in file.read_bytes()]


# The directory

DIRECTORIES: dict[str, Callable[[Path], object]] = {
    "all may write": lambda folder: folder.chmod(0o777),
    "sticky, as the temporary folder": lambda folder: folder.chmod(0o1777),
    "sticky, of a group": lambda folder: folder.chmod(0o1770),
    "the group may write": lambda folder: folder.chmod(0o770),
    "all may write, and not look": lambda folder: folder.chmod(0o733),
    "others alone may write": lambda folder: folder.chmod(0o702),
    "set-group-id, and the group may write": lambda folder: folder.chmod(0o2775),
}


@pytest.mark.parametrize("kind", ["file", "sqlite"])
@pytest.mark.parametrize("there", [False, True], ids=["new", "known"])
@pytest.mark.parametrize("how", DIRECTORIES)
async def test_a_directory_in_which_others_make_files(folder, kind, there, how):
    """S3: a directory that others may write to is refused, sticky or not, before anything is made in it."""
    store: Any = FileStore(folder) if kind == "file" else SQLiteStore(folder / "tokens.db")
    if there:
        await keep(store)
    else:
        folder.mkdir()
    before = sorted(file.name for file in folder.iterdir())
    DIRECTORIES[how](folder)
    await refused(store, "open to others")
    assert sorted(file.name for file in folder.iterdir()) == before


@pytest.mark.parametrize("kind", ["file", "sqlite"])
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o711, 0o750])
async def test_a_directory_that_others_may_look_into(folder, kind, mode):
    """S3: where others may see the names and make none, the store works, and its files are closed to them."""
    store: Any = FileStore(folder) if kind == "file" else SQLiteStore(folder / "tokens.db")
    folder.mkdir(mode)
    await keep(store)
    assert await store.read("k") == Record("k", 1, TOKEN)
    assert not [file for file in folder.iterdir() if file.stat().st_mode & 0o077]


@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_a_link_in_the_place_of_the_directory(folder, kind):
    """S3: a symbolic link to the directory may be turned elsewhere, so it is refused."""
    elsewhere = folder.with_name("elsewhere")
    elsewhere.mkdir(0o700)
    folder.symlink_to(elsewhere)
    await refused(FileStore(folder) if kind == "file" else SQLiteStore(folder / "tokens.db"), "symbolic link")
    assert list(elsewhere.iterdir()) == []


@as_root
@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_a_stranger_s_directory(folder, kind):
    """S3: the owner of a directory may replace its content, so a directory of another user is refused."""
    folder.mkdir(0o700)
    os.chown(folder, STRANGER, -1)
    await refused(FileStore(folder) if kind == "file" else SQLiteStore(folder / "tokens.db"), "another user")


@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_directories_that_are_made_on_the_way(folder, kind):
    """S3: a directory that a store makes is writable for its owner alone, with any umask."""
    place = folder / "a" / "b"
    await keep(FileStore(place) if kind == "file" else SQLiteStore(place / "tokens.db"))
    assert [path.stat().st_mode & 0o7777 for path in (folder, folder / "a", place)] == [0o755, 0o755, 0o700]


# The files of SQLite


def of_mode(mode: int) -> Callable[[Path], object]:
    return lambda path: path.chmod(mode)


def a_stranger_s(path: Path) -> None:
    os.chown(path, STRANGER, -1)


def a_link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent.parent / "nowhere")


def a_second_name(path: Path) -> None:
    (path.parent.parent / "second").hardlink_to(path)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "all may write": (of_mode(0o666), "open to others"),
    "all may read": (of_mode(0o644), "open to others"),
    "the group may write": (of_mode(0o660), "open to others"),
    "the group may read": (of_mode(0o640), "open to others"),
    "others may write alone": (of_mode(0o602), "open to others"),
    "a link": (a_link, "symbolic link"),
    "a dangling link": (a_dangling_link, "symbolic link"),
    "a second name": (a_second_name, "2 names"),
    "a directory": (a_directory, "not a file"),
    "a pipe": (a_pipe, "not a file"),
}


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("how", [*WRONG, pytest.param("a stranger's", marks=as_root)])
async def test_a_file_that_another_could_have_planted(folder, ending, how):
    """S3: the database and each file that SQLite would read or write beside it are looked at before they are used."""
    path = folder / "tokens.db"
    await keep(SQLiteStore(path))
    planted = path.with_name(path.name + ending)
    if ending:
        planted.write_bytes(b"\0")
        planted.chmod(0o600)
    change, match = WRONG.get(how, (a_stranger_s, "another user"))
    change(planted)
    before = written(folder.parent)
    await refused(SQLiteStore(path), match)
    assert written(folder.parent) == before


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
async def test_before_there_is_a_database(folder, ending):
    """S3: side files that lie there before the database is made are refused too, and nothing is written to them."""
    path = folder / "tokens.db"
    folder.mkdir(0o700)
    planted = path.with_name(path.name + ending)
    planted.write_bytes(b"\0")
    planted.chmod(0o666)
    await refused(SQLiteStore(path), "open to others")
    assert planted.read_bytes() == b"\0"


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
async def test_a_file_that_is_planted_while_it_is_open(folder, ending):
    """S3: a side file that was planted under a store that is entered is not written to, and makes no step fail."""
    path = folder / "tokens.db"
    async with SQLiteStore(path) as store:
        await keep(store)
        planted = path.with_name(path.name + ending)
        planted.unlink()
        planted.write_bytes(b"\0")
        planted.chmod(0o666)
        with planted.open("rb") as seen:
            await keep(store, 2)
            assert await store.read("k") == Record("k", 2, TOKEN)
            assert b"planted" not in seen.read()
        assert not [file for file in folder.iterdir() if file.stat().st_mode & 0o077]


async def test_a_forged_log(folder):
    """S3: a log of somebody else's pages, which all may write to, is not believed."""
    path, forged = folder / "tokens.db", folder.with_name("forged") / "tokens.db"
    await keep(SQLiteStore(path))
    async with SQLiteStore(forged) as stranger:
        await keep(stranger, 7)
        log = forged.with_name("tokens.db-wal").read_bytes()
    planted = path.with_name("tokens.db-wal")
    planted.write_bytes(log)
    planted.chmod(0o666)
    await refused(SQLiteStore(path), "open to others")
    planted.unlink()
    assert await SQLiteStore(path).read("k") == Record("k", 1, TOKEN)


async def test_a_file_whose_making_was_cut_short(folder):
    """S3, K1: a process that was killed while it made the database leaves it with two names; the next one mends it."""
    path = folder / "tokens.db"
    folder.mkdir(0o700)
    temporary = path.with_name(f"{path.name}.0123456789abcdef.tmp")
    temporary.touch(0o600)
    path.hardlink_to(temporary)
    await keep(SQLiteStore(path))
    assert [file.name for file in folder.iterdir()] == [path.name]


async def test_a_log_of_our_own_is_used(folder):
    """K1: what a killed process of ours left in the log beside the database is read, not refused."""
    path = folder / "tokens.db"
    await keep(SQLiteStore(path))
    copy = folder.with_name("copy")
    async with SQLiteStore(path) as store:
        await keep(store, 2)
        copy.mkdir(0o700)
        for file in folder.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
            (copy / file.name).chmod(0o600)
    assert await SQLiteStore(copy / path.name).read("k") == Record("k", 2, TOKEN)


# The files of FileStore


@pytest.mark.parametrize("suffix", [".record", ".lease", "changes"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602, 0o666, 0o777])
async def test_a_file_of_a_directory_that_is_open_to_others(folder, suffix, mode):
    """S3: a record that others may read, and any file that they may write to, is refused with what to do about it."""
    store = FileStore(folder)
    await keep(store)
    (file,) = [file for file in folder.iterdir() if file.name.endswith(suffix)]
    file.chmod(mode)
    with pytest.raises(PermissionError, match=rf"{file.name} is open to others \(mode {mode:04o}\); .* chmod [67]00"):
        await keep(store, 2)
    file.chmod(0o600)
    assert await store.read("k") == Record("k", 1, TOKEN)
    await keep(store, 2)


async def test_a_database_that_is_made_safe_again(folder):
    """K1: a refused directory is used again, with all its content, once it was closed to others."""
    path = folder / "tokens.db"
    await keep(SQLiteStore(path))
    path.chmod(0o644)
    await refused(SQLiteStore(path), r"tokens\.db is open to others \(mode 0644\); take that away with chmod 600")
    path.chmod(0o600)
    assert await SQLiteStore(path).read("k") == Record("k", 1, TOKEN)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM evertoken").fetchone() == (1,)
