"""The store in a directory: its permissions, bad disks, and files that are not records."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import stat
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evertoken import Held, Lease, Record, Token, TokenManager, TokenUnavailable
from evertoken.sources import OAuthClient, RefreshToken
from evertoken.stores import FileStore, SQLiteStore, _journal
from evertoken.stores._file_lock import locked
from evertoken.stores._folder import Folder, private_directory
from evertoken.stores._record import UnreadableRecord
from evertoken.stores.encryption import AesGcm, generate_key

if TYPE_CHECKING:
    from collections.abc import Iterator

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may do that")

NAME = hashlib.sha256(b"k").hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def a_record(version: int = 1, value: str = "planted-token") -> Record:
    return Record("k", version, Token(value, issued_at=1.0, refresh_token="planted-refresh"))


@pytest.mark.parametrize("kind", [FileStore, SQLiteStore])
async def test_home_directory(kind, tmp_path, monkeypatch):
    """A "~" is the home directory, and no directory of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    store = kind("~/tokens")
    await lease_of(store)
    assert (tmp_path / "tokens").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(("kind", "says"), [("file", "NotADirectoryError"), ("link", "PermissionError")])
async def test_reason_of_a_store_that_is_down(kind, says, tmp_path):
    """K3: where a refresh token is not presented because the store is down, the message has the store's reason."""
    place = tmp_path / "in-the-way"
    if kind == "file":
        place.write_text("x")
    else:
        place.symlink_to(tmp_path)
    client = OAuthClient(token_endpoint="https://127.0.0.1:9", client_id="svc", client_secret="s")
    source = RefreshToken(client, "r", rotates=True)
    async with TokenManager(source, store=FileStore(place), namespace="") as tokens:
        with pytest.raises(TokenUnavailable, match=rf"the store is down \({says}: .*in-the-way"):
            await tokens.get()


async def lease_of(store: FileStore, owner: str = "me", ttl: float = 10.0) -> Lease:
    lease = (await store.begin("k", owner, ttl)).lease
    assert isinstance(lease, Lease)
    return lease


async def kept(path: Path, codec: AesGcm | None = None) -> tuple[FileStore, Lease]:
    """Return a store that keeps version 1, and the lease to write the next with."""
    store = FileStore(path, codec)
    lease = await lease_of(store)
    assert await store.mark(a_record(), lease)
    return store, lease


async def names(store: FileStore) -> list[str]:
    return [key async for key in store.keys()]  # noqa: SIM118 - it is no mapping


def shows_nothing(error: BaseException) -> bool:
    """Tell whether a crash reporter that shows the locals of each frame of the library would show a token."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "evertoken" in frame.f_code.co_filename]
    return bool(frames) and "planted" not in repr([frame.f_locals for frame in frames]) + str(error)


# Permissions


@posix
async def test_modes(path):
    """S1: the directory belongs to its owner alone, and so does each file in it, with any umask."""
    before = os.umask(0)
    try:
        await kept(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()}
    assert {NAME + ".record", NAME + ".lease", "changes"} <= modes.keys()
    assert set(modes.values()) == {0o600}


@posix
@pytest.mark.parametrize("slash", ["", "/", "/."])
async def test_a_link_to_a_directory_is_refused(path, slash):
    """S1: a symbolic link in the directory's place is not followed, also with a slash behind."""
    await kept(path)
    link = path.with_name("link")
    link.symlink_to(path)
    store = FileStore(f"{link}{slash}")
    for operation in (store.read("k"), store.begin("k", "me", 1.0), store.holder("k"), store.delete("k")):
        with pytest.raises(PermissionError, match="symbolic link"):
            await operation
    with pytest.raises(PermissionError, match="symbolic link"):
        await store.watch(lambda _: None)


@posix
async def test_a_directory_that_others_may_write_to_is_refused(path):
    """S1: where others could put files the store does nothing; where they may only look it works."""
    store, _ = await kept(path)
    for mode in (0o777, 0o720, 0o702):
        path.chmod(mode)
        with pytest.raises(PermissionError, match=f"mode {mode:04o}"):
            await store.read("k")
    path.chmod(0o755)
    assert await store.read("k") == a_record()


@posix
async def test_what_is_no_directory_is_refused(path):
    """S1: a file in the directory's place is an error, and stays."""
    path.write_text("mine")
    with pytest.raises(NotADirectoryError):
        await FileStore(path).begin("k", "me", 1.0)
    assert path.read_text() == "mine"


@posix
@as_root
@pytest.mark.parametrize("what", ["", NAME + ".record"])
async def test_what_belongs_to_others_is_refused(path, what):
    """S1: a directory or a record of another user is refused."""
    store, lease = await kept(path)
    os.chown(path / what, 65_534, -1)
    for operation in (store.read("k"), store.mark(a_record(2), lease)):
        with pytest.raises(PermissionError, match="another user"):
            await operation


@posix
@pytest.mark.parametrize("suffix", [".record", ".lease"])
async def test_a_link_to_a_file_is_refused(path, suffix):
    """S1: a symbolic link in a file's place is neither followed nor replaced, and its target stays."""
    store, lease = await kept(path)
    file, elsewhere = path / (NAME + suffix), path.with_name("elsewhere")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    content = elsewhere.read_bytes()
    with pytest.raises(PermissionError, match="symbolic link"):
        await store.mark(a_record(2), lease)
    assert file.is_symlink()
    assert elsewhere.read_bytes() == content


@posix
async def test_a_pipe_does_not_stop_it(path):
    """F7: a pipe in a record's place is refused at once, instead of being waited for."""
    store, _ = await kept(path)
    (path / (NAME + ".record")).unlink()
    os.mkfifo(path / (NAME + ".record"), 0o600)
    with pytest.raises(PermissionError, match="not a file"):
        await asyncio.wait_for(store.read("k"), 5.0)


@posix
async def test_a_link_in_the_temporary_file_s_place(path):
    """S1: what a crash or a stranger left in the temporary file's place is taken away, and not written through."""
    store, lease = await kept(path)
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_text("mine")
    (path / (NAME + ".record.tmp")).symlink_to(elsewhere)
    assert await store.mark(a_record(2), lease)
    assert elsewhere.read_text() == "mine"


# A bad disk


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
async def test_a_disk_that_fails(path, monkeypatch, call):
    """K3: an error of the disk at any step is raised, shows no token, loses nothing, leaves nothing behind."""
    store, lease = await kept(path)
    real: Any = getattr(os, call)

    def fails(first: Any, *arguments: Any, **options: Any) -> Any:
        if call == "write" and bytes(arguments[0]).startswith((b"~", b'"')):
            return real(first, *arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(OSError, match="No space") as caught:
            await store.mark(a_record(2), lease)
    assert shows_nothing(caught.value)
    assert await store.read("k") == a_record()
    assert not list(path.glob("*.tmp"))
    assert await store.mark(a_record(2), lease)


async def test_a_write_that_stops_half_way(path, monkeypatch):
    """K3: if a disk fills up in the middle of a record, the record before is kept."""
    store, lease = await kept(path)
    real = os.write

    def half(fd: int, data: memoryview) -> int:
        if len(data) > 100:
            return real(fd, data[:100])
        if bytes(data).startswith((b"~", b'"k')):
            return real(fd, data)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="quota"):
        await store.mark(a_record(2, "planted" * 100), lease)
    assert await store.read("k") == a_record()


async def test_a_journal_that_fails(path, monkeypatch):
    """K1: a record that is kept counts as kept, also if telling the watchers failed."""
    store, lease = await kept(path)

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_journal, "end", fails)
    assert await store.mark(a_record(2), lease)
    assert await store.read("k") == a_record(2)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@posix
@as_root
async def test_a_full_disk(tiny):
    """K3: on a disk that is really full writes raise, the record stays, and room makes them work again."""
    store, lease = await kept(tiny)
    filler = tiny / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(OSError, match="No space") as caught:
        await store.mark(a_record(2, "planted" * 1000), lease)
    assert shows_nothing(caught.value)
    assert await store.read("k") == a_record()
    filler.unlink()
    assert await store.mark(a_record(2), lease)


@posix
@as_root
async def test_a_read_only_disk(tiny):
    """K3: a disk that became read-only is still read, and the error says why writes fail."""
    store, lease = await kept(tiny)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    assert await store.read("k") == a_record()
    assert await names(store) == ["k"]
    for operation in (store.mark(a_record(2), lease), store.begin("l", "me", 1.0)):
        with pytest.raises(OSError, match="Read-only"):
            await operation


# Broken files


async def test_a_torn_record_is_set_aside(path, caplog):
    """K3: a file that is not a record is renamed, reported once without its content, and may be written over."""
    store, _ = await kept(path)
    file = path / (NAME + ".record")
    torn = file.read_bytes()[:-5]
    file.write_bytes(torn)
    assert await names(store) == []
    with caplog.at_level(logging.DEBUG):
        assert await store.read("k") is None
        assert await store.read("k") is None
    (record,) = [record for record in caplog.records if record.name == "evertoken"]
    assert record.levelname == "WARNING"
    assert NAME + ".torn" in record.getMessage()
    assert "planted" not in caplog.text
    assert (path / (NAME + ".torn")).read_bytes() == torn
    assert not file.exists()


async def test_a_torn_record_that_cannot_be_set_aside(path, monkeypatch, caplog):
    """K3: if a torn record cannot be renamed, it still counts as missing, and the log says why."""
    store, _ = await kept(path)
    (path / (NAME + ".record")).write_bytes(b"torn")

    def fails(*_: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", fails)
    assert await store.read("k") is None
    assert "could not be set aside: Read-only" in caplog.text


@pytest.mark.parametrize("given", ["another key", "none", "codec"])
async def test_an_unreadable_record_stays(path, given):
    """K1: a record that cannot be read with the keys at hand is never written over, nor deleted by accident."""
    plain = given == "codec"
    await kept(path, None if plain else AesGcm(generate_key()))
    content = (path / (NAME + ".record")).read_bytes()
    store = FileStore(path, None if given == "none" else AesGcm(generate_key()))
    lease = Lease("k", "me", 1)
    for operation in (store.read("k"), store.mark(a_record(5), lease), store.begin("k", "me", 5.0)):
        with pytest.raises(UnreadableRecord) as caught:
            await operation
        assert shows_nothing(caught.value)
    assert (path / (NAME + ".record")).read_bytes() == content
    assert await names(store) == ["k"]
    assert await store.delete("k")


@pytest.mark.parametrize(
    ("there", "deleted"),
    [((), False), ((".torn",), True), ((".record.tmp",), True), ((".record",), True),
     ((".record", ".torn", ".record.tmp"), True)],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
async def test_deleted_with_all_copies(path, there, deleted):
    """S1: deleting a key takes out its record, its torn copy and its temporary file, and those of no other key."""
    store, lease = await kept(path)
    other = (await store.begin("other", "me", 5.0)).lease
    assert isinstance(other, Lease)
    assert await store.commit(Record("other", 1, None), other)
    content = (path / f"{NAME}.record").read_bytes()
    (path / f"{NAME}.record").unlink()
    for ending in there:
        (path / f"{NAME}{ending}").write_bytes(content)
    assert await store.delete("k") is deleted
    assert not await store.delete("k")
    assert not [file.name for file in path.iterdir() if b"planted" in file.read_bytes()]
    assert await names(store) == ["other"]
    assert await store.renew(lease, 5.0)


@posix
@pytest.mark.parametrize("what", ["cut", "empty", "directory", "link", "pipe"])
async def test_a_damaged_file_hides_no_other(path, what):
    """L2: a broken file in the place of a record is named, and all other keys are listed."""
    store, _ = await kept(path)
    file = path / f"{'0' * 64}.record"
    if what == "directory":
        file.mkdir()
    elif what == "link":
        file.symlink_to(path / f"{NAME}.record")
    elif what == "pipe":
        os.mkfifo(file)
    else:
        file.write_bytes(b'{"format": 1' if what == "cut" else b"")
    assert await names(store) == ["k"]
    assert [name async for name in store.damaged()] == [file.name]


async def test_sealed(path):
    """S1: with a codec, no file of the store holds a token, and its keys are still listed."""
    codec = AesGcm(generate_key())
    store, _ = await kept(path, codec)
    assert await store.read("k") == a_record()
    assert b"planted" not in b"".join(file.read_bytes() for file in path.iterdir())
    assert await names(FileStore(path)) == ["k"]


async def test_what_json_cannot_say(path):
    """K1: extra fields that no record has a form for are an error that shows no token and changes nothing."""
    store, lease = await kept(path)
    with pytest.raises(TypeError) as caught:
        await store.mark(Record("k", 2, Token("planted", issued_at=1.0, extra={"x": object()})), lease)
    assert shows_nothing(caught.value)
    assert await store.read("k") == a_record()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"fence": true, "owner": "x", "ends": null}', b'{"fence": 3, "owner": 4, "ends": 1}'],
)
async def test_a_torn_lease(path, content):
    """K2: a lease that a loss of power tore is nobody's: who held it is gone, and may not write."""
    store, lease = await kept(path)
    (path / (NAME + ".lease")).write_bytes(content)
    assert await store.holder("k") is None
    assert not await store.mark(a_record(2), lease)
    new = await lease_of(store, "other")
    assert await store.mark(a_record(2), new)


# Locks


def lock_of(path: Path) -> Path:
    return path / f"{int(NAME[:4], 16) % 64:02}.lock"


async def test_a_lock_that_is_held(path, monkeypatch):
    """F7: a process stopped in the middle of an operation blocks nobody for long, and readers not at all."""
    monkeypatch.setattr("evertoken.stores.file.LOCK_TIMEOUT", 0.2)
    store, lease = await kept(path)
    with locked(lock_of(path), 1.0):
        assert await store.read("k") == a_record()
        for operation in (store.mark(a_record(2), lease), store.begin("k", "x", 1.0), store.renew(lease, 1.0)):
            with pytest.raises(TimeoutError, match="lock"):
                await operation
        assert await names(store) == ["k"]
    assert await store.mark(a_record(2), lease)


async def test_a_cancelled_begin_takes_nothing(path):
    """R3: who stops waiting for the store does not leave a lease behind that nobody knows of."""
    store = FileStore(path)
    assert await store.read("k") is None
    with locked(lock_of(path), 1.0):
        task = asyncio.create_task(store.begin("k", "me", 10.0))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.sleep(0.1)
    assert await store.holder("k") is None


async def test_nothing_blocks_the_loop(path, monkeypatch):
    """R1: all work on the disk runs in a worker thread."""
    threads = set()
    real = os.open

    def spied(*arguments: Any, **options: Any) -> int:
        threads.add(threading.current_thread())
        return real(*arguments, **options)

    monkeypatch.setattr(os, "open", spied)
    store, lease = await kept(path)
    await store.read("k")
    await store.renew(lease, 1.0)
    await store.abandon(lease)
    await store.holder("k")
    assert await names(store)
    await store.delete("k")
    assert threads
    assert threading.main_thread() not in threads


# Watching


def looking(path: Path) -> tuple[_journal.Follower, Any]:
    """Return a follower that has begun, and a function that returns its news."""
    follower = _journal.Follower()

    def look() -> list[str | None]:
        with private_directory(path) as folder:
            return follower.look(folder)

    assert look() == [None]
    return follower, look


async def test_killed_before_it_could_tell(path):
    """K2: a write whose writer was killed before it could tell is told of a little later."""
    _, look = looking(path)
    with private_directory(path) as folder:
        _journal.begin(folder, "k")
    assert look() == []
    assert look() == []
    assert look() == ["k"]
    assert look() == []


async def test_a_long_journal_is_begun_anew(path, monkeypatch):
    """K2: the journal does not grow without end; watchers that find another look at everything."""
    monkeypatch.setattr(_journal, "LIMIT", 400)
    _, look = looking(path)
    store, lease = await kept(path)
    assert look() == ["k"]
    sizes = []
    for version in range(2, 200):
        assert await store.mark(a_record(version), lease)
        sizes.append((path / "changes").stat().st_size)
        assert look()[-1] in {"k", None}
    assert max(sizes) < 420
    assert min(sizes) < 60


async def test_a_journal_that_is_begun_anew_meanwhile(path, monkeypatch):
    """K2: an entry that was added to a journal just when another took its place is added to that one too."""
    _, look = looking(path)
    real = Folder.append
    raced: list[bytes] = []

    def append(self: Folder, name: str, data: bytes) -> tuple[int, int]:
        added = real(self, name, data)
        if not data.startswith(b"~") and not raced:
            raced.append(data)
            self.replace(name, memoryview(b"#another\n"), durable=False)
            assert look() == [None]
        return added

    monkeypatch.setattr(Folder, "append", append)
    await kept(path)
    assert raced
    assert look() == ["k"]


async def test_a_journal_that_others_touched(path):
    """K2: where the journal was removed, cut or written to by a stranger, anything may have changed."""
    _, look = looking(path)
    journal = path / "changes"
    store, lease = await kept(path)
    assert look() == ["k"]
    for version, spoil in enumerate((journal.unlink, lambda: journal.write_text("#other\n"), lambda: None), 2):
        spoil()
        assert await store.mark(a_record(version), lease)
        told = look()
        assert told == (["k"] if version == 4 else [None])
    with journal.open("a") as file:
        file.write("garbage\n[1]\n")
    assert look() == [None]
    with journal.open("a") as file:
        file.write('"half')
    assert look() == []
    with journal.open("a") as file:
        file.write(' a line"\n')
    assert look() == ["half a line"]


async def test_a_look_costs_the_same_with_many_keys(path, monkeypatch):
    """F6: while nothing is written a look asks for one file's state, however many records there are."""
    store = FileStore(path)
    for number in range(50):
        lease = (await store.begin(f"k{number}", "me", 1.0)).lease
        assert isinstance(lease, Lease)
        await store.mark(Record(f"k{number}", 1, None), lease)
    _, look = looking(path)
    assert look() == []
    calls: list[str] = []
    monkeypatch.setattr(os, "scandir", lambda *_: calls.append("scandir"))
    real = os.stat

    def stated(*arguments: Any, **options: Any) -> os.stat_result:
        calls.append("stat")
        return real(*arguments, **options)

    monkeypatch.setattr(os, "stat", stated)
    assert look() == []
    assert calls == ["stat"]


# Construction


def test_arguments(tmp_path, monkeypatch):
    """S1: bad arguments are named and touch nothing; a relative path is fixed when the store is made."""
    for wrong in ("", b""):
        with pytest.raises((ValueError, TypeError)):
            FileStore(wrong)
    for poll in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="poll"):
            FileStore(tmp_path / "x", poll=poll)
    monkeypatch.chdir(tmp_path)
    assert repr(FileStore("tokens/")) == f"FileStore({str(tmp_path / 'tokens')!r})"
    assert list(tmp_path.iterdir()) == []


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    """S1: without filelock the error says what to install."""
    monkeypatch.setitem(sys.modules, "filelock", None)
    for module in ("evertoken.stores._file_lock", "evertoken.stores._files"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ImportError, match=r"evertoken\[file\]"):
        FileStore(tmp_path)


async def test_the_lease_file(path):
    """K2: what a lease is as a file: who, which, and until when by which clock."""
    store, lease = await kept(path)
    fields = json.loads((path / (NAME + ".lease")).read_bytes())
    assert (fields["key"], fields["owner"], fields["fence"]) == ("k", "me", 1)
    assert fields["ends"][0] == 10.0
    await store.abandon(lease)
    assert json.loads((path / (NAME + ".lease")).read_bytes())["ends"] is None
    assert isinstance((await store.begin("k", "other", 1.0)).lease, Lease)
    assert isinstance((await store.begin("k", "third", 1.0)).lease, Held)
