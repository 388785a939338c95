"""The work of `FileStore` in worker threads: records and leases as files, under a lock."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from evertoken._model.protocols import Begun, Held, Lease
from evertoken._model.tally import Tally
from evertoken.stores import _journal
from evertoken.stores._file_lock import locked
from evertoken.stores._folder import private_directory
from evertoken.stores._host_clock import Deadline
from evertoken.stores._reading import key_in, opened, report, written
from evertoken.stores._record import TornRecord

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from evertoken._model.leases import Quota, Spent, Unused
    from evertoken._model.protocols import Record
    from evertoken.stores._folder import Folder
    from evertoken.stores._host_clock import HostClock
    from evertoken.stores._offload import Abandoned
    from evertoken.stores._record import Codec

__all__ = ["Files"]

#: The number of locks of a store. Keys that share a lock take turns. An operation takes about a millisecond.
SHARDS: Final = 64

_RECORD: Final = ".record"
_LEASE: Final = ".lease"
_QUOTA: Final = ".quota"
_TORN: Final = ".torn"

#: The endings of files that may hold a token: its record, one that was set aside, and one from a killed process.
_COPIES: Final = (_RECORD, _TORN, f"{_RECORD}.tmp")


@final
class Files:
    """
    The files of a store. All methods block.

    Args:
        path: The directory.

        codec: The codec that seals records, if any.

        clock: The clock for leases.

        timeout: Seconds to wait for a lock.
    """

    def __init__(self, path: Path, codec: Codec | None, clock: HostClock, timeout: float) -> None:
        self.path = path
        self._codec = codec
        self._clock = clock
        self._timeout = timeout

    def read(self, key: str) -> Record | None:
        """Return the record of *key*. Reading needs no lock, because a record is replaced as a whole."""
        name = _name_of(key)
        with private_directory(self.path) as folder:
            try:
                return self._record(folder, name, key)
            except TornRecord:
                with self._lock(name):
                    return self._mended(folder, name, key)

    def begin(self, key: str, owner: str, ttl: float, abandoned: Abandoned, quota: Quota | None = None) -> Begun:
        """
        Read the record of *key*. Take its lease and its part of *quota*, if both are free and the caller still waits.
        """
        name = _name_of(key)
        with private_directory(self.path) as folder, self._lock(name):
            record = self._mended(folder, name, key)
            fence, holder, ends = self._lease(folder, name)
            remaining = self._clock.binding(ends)
            if abandoned.is_set() or (remaining > 0.0 and holder != owner):
                return Begun(Held(remaining), record)
            wait, spent = (0.0, None) if quota is None else self._take(folder, quota)
            if wait > 0.0:
                return Begun(Held(wait), record, wait, spent)
            lease = Lease(key, owner, fence + 1)
            self._put(folder, name, lease, self._clock.after(ttl))
        return Begun(lease, record, wait, spent)

    def keep(self, record: Record, lease: Lease, *, ending: bool) -> bool:
        """Keep *record* durably, if the lease and the version allow it. With *ending*, also end the lease."""
        name = _name_of(record.key)
        # This comes before the lock, because the codec may have to fetch its keys.
        data = written(record, self._codec)
        with private_directory(self.path) as folder, self._lock(name):
            fence, owner, _ = self._lease(folder, name)
            if (record.key, owner, fence) != (lease.key, lease.owner, lease.fence):
                return False
            before = self._mended(folder, name, record.key)
            if record.version <= (0 if before is None else before.version):
                return False
            _journal.begin(folder, record.key)
            folder.replace(name + _RECORD, data, durable=True)
            if record.revoked:
                folder.remove(name + _TORN)
            if ending:
                self._free(folder, name, lease)
            self._told(folder, record.key)
        return True

    def renew(self, lease: Lease, ttl: float) -> bool:
        """Let *lease* end *ttl* seconds from now, if its owner still holds it."""
        name = _name_of(lease.key)
        with private_directory(self.path) as folder, self._lock(name):
            fence, owner, ends = self._lease(folder, name)
            if (owner, fence) != (lease.owner, lease.fence) or self._clock.remaining(ends) <= 0.0:
                return False
            self._put(folder, name, lease, self._clock.after(ttl))
        return True

    def abandon(self, lease: Lease, unused: Unused | None = None) -> None:
        """End *lease* without a write, if its owner holds it, and give *unused* back."""
        name = _name_of(lease.key)
        with private_directory(self.path) as folder, self._lock(name):
            fence, owner, ends = self._lease(folder, name)
            if ends is not None and (owner, fence) == (lease.owner, lease.fence):
                self._put(folder, name, lease, None)
            if unused is not None:
                with self._tally(folder, unused.quota) as tally:
                    tally.give_back(unused, self._clock.wall())

    def holder(self, key: str) -> tuple[str, float] | None:
        """Return the holder of the lease of *key*, and the seconds that are left."""
        with private_directory(self.path) as folder:
            _, owner, ends = self._lease(folder, _name_of(key))
            remaining = self._clock.binding(ends)
        return None if owner is None or remaining <= 0.0 else (owner, remaining)

    def delete(self, key: str) -> bool:
        """Delete the record of *key*, readable or not, and all copies that were set aside or left behind."""
        name = _name_of(key)
        with private_directory(self.path) as folder, self._lock(name):
            _journal.begin(folder, key)
            # All files are removed, as far as they exist.
            if not [gone for ending in _COPIES if (gone := folder.remove(name + ending))]:
                return False
            folder.sync()
            self._told(folder, key)
        return True

    def keys(self) -> Generator[str]:
        """Yield the key of every record."""
        for _, key in self._named():
            if key is not None:
                yield key

    def damaged(self) -> Generator[str]:
        """Yield the name of each file in the place of a record that does not name its key."""
        for name, key in self._named():
            if key is None:
                yield name

    def _named(self) -> Generator[tuple[str, str | None]]:
        with private_directory(self.path) as folder, os.scandir(self.path) as found:
            for entry in found:
                if not entry.name.endswith(_RECORD):
                    continue
                try:
                    data = folder.read(entry.name)
                except OSError:
                    # A stranger put the file there. It must not hide the others.
                    yield entry.name, None
                    continue
                if data is not None:
                    key = key_in(data)
                    yield entry.name, key if key is not None and _name_of(key) + _RECORD == entry.name else None

    def changes(self, follower: _journal.Follower) -> list[str | None]:
        """Return the keys written since *follower* last looked. A None among them stands for any key."""
        with private_directory(self.path) as folder:
            return follower.look(folder)

    def _record(self, folder: Folder, name: str, key: str) -> Record | None:
        data = folder.read(name + _RECORD)
        return None if data is None else opened(key, data, self._codec)

    def _mended(self, folder: Folder, name: str, key: str) -> Record | None:
        try:
            return self._record(folder, name, key)
        except TornRecord as error:
            # The frames that it passed through may hold the record.
            torn = error.with_traceback(None)
        try:
            folder.rename(name + _RECORD, name + _TORN)
        except OSError as error:
            report(str(self.path), key, torn, f"it could not be set aside: {error.strerror}")
        else:
            report(str(self.path), key, torn, f"it is now {name + _TORN}")
        return None

    def _lease(self, folder: Folder, name: str) -> tuple[int, str | None, Deadline | None]:
        data = folder.read(name + _LEASE)
        try:
            found = {"fence": 0, "owner": None, "ends": None} if data is None else json.loads(bytes(data))
            fence, owner, ends = found["fence"], found["owner"], found["ends"]
        except (ValueError, KeyError, TypeError, RecursionError):
            # Only a loss of power leaves such a file behind, and its holder does not exist any longer.
            return 0, None, None
        if not isinstance(fence, int) or isinstance(fence, bool) or not isinstance(owner, str | None):
            return 0, None, None
        return fence, owner, Deadline.of(ends)

    def _put(self, folder: Folder, name: str, lease: Lease, ends: Deadline | None) -> None:
        fields = {
            "format": 1,
            "key": lease.key,
            "owner": lease.owner,
            "fence": lease.fence,
            "ends": None if ends is None else ends.fields(),
        }
        # It need not be durable, because the holder of a lease does not survive a loss of power.
        folder.replace(name + _LEASE, memoryview(json.dumps(fields).encode()), durable=False)

    def _take(self, folder: Folder, quota: Quota) -> tuple[float, Spent | None]:
        with self._tally(folder, quota) as tally:
            return tally.take(quota, self._clock.wall())

    @contextmanager
    def _tally(self, folder: Folder, quota: Quota) -> Iterator[Tally]:
        """Give the tally of *quota*, and store it after the block."""
        name = _name_of(quota.name) + _QUOTA
        # It is always locked after a lease, and no lease is locked after it, so members cannot wait for each other.
        with locked(self.path / "quota.lock", self._timeout):
            data = folder.read(name)
            try:
                tally = Tally.of(None if data is None else json.loads(bytes(data)))
            except (ValueError, RecursionError):
                tally = Tally()
            yield tally
            folder.replace(name, memoryview(json.dumps(tally.fields()).encode()), durable=quota.per is not None)

    def _free(self, folder: Folder, name: str, lease: Lease) -> None:
        try:
            self._put(folder, name, lease, None)
        except OSError:
            # The record is kept, and that is what matters. The lease ends by itself.
            return

    def _told(self, folder: Folder, key: str) -> None:
        try:
            _journal.end(folder, key, lambda: locked(self.path / f"{_journal.NAME}.lock", 0.0))
        except OSError:
            # The record is kept. Watchers know that the write began, and will look.
            return

    def _lock(self, name: str) -> AbstractContextManager[None]:
        shard = int(name[:4], 16) % SHARDS
        return locked(self.path / f"{shard:02}.lock", self._timeout)


def _name_of(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
