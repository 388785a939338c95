"""A store in one SQLite file. The processes of one host can share it, also with many keys."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, final

import anyio

from evertoken._model.guarded import Guarded
from evertoken.stores._connections import Connections
from evertoken.stores._host_clock import HostClock
from evertoken.stores._offload import Abandoned, offload
from evertoken.stores._rows import Rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from evertoken._model.leases import Quota, Unused
    from evertoken._model.protocols import Begun, Lease, Record
    from evertoken.stores._record import Codec

__all__ = ["SQLiteStore"]

#: Seconds to wait for another user's transaction. A manager waits longer than this for a store.
BUSY_TIMEOUT: Final = 4.0

#: The number of keys that are read at once for a listing.
_BATCH: Final = 500


@final
class SQLiteStore(Guarded):
    """
    A `TokenStore` in one SQLite file on a local disk, shared by the processes of one host and one user.

    It has one table, in write-ahead mode. A token is on disk before anybody uses it. Deleted or replaced data is
    overwritten with zeros. `delete` and the close of the store empty the write-ahead log. Leases end by a clock that
    counts from the boot. If the file is removed, moved or replaced, the store notices that. It continues with the file
    that is at the path, and creates it if it is missing. All blocking work runs in worker threads. It needs only the
    standard library.

    A row that is not a record is moved to the column `torn`, is reported as a warning to the log "evertoken", and
    counts as missing. A record that cannot be read with the available keys raises `UnreadableRecord`, and stays as it
    is. A full or read-only disk raises `sqlite3.OperationalError`, and the records that were kept before stay intact.

    A manager enters the store and leaves it. In between, connections are kept.

    Args:
        path: The file. It is created (mode 0600), and its directory too, if it is missing.

        codec: A codec that seals records, such as `evertoken.stores.encryption.AesGcm`. Without one, tokens are kept as
            text that everybody with access to the file can read.

        poll: Seconds between two looks for writes of other processes, while the store is watched.

    Raises:
        ValueError: *path* is empty or does not name a file, or *poll* is not above zero.

    The operations raise `PermissionError` if the file, or a file that SQLite keeps beside it (`-wal`, `-shm`,
    `-journal`), is a symbolic link, belongs to another user, is open to others or has a second name. The same holds if
    its directory is a symbolic link, belongs to another user, or can be written to by others, sticky or not.
    """

    #: This store keeps the rates and budgets of providers.
    keeps_quotas: Final = True

    def __init__(self, path: str | os.PathLike[str], codec: Codec | None = None, *, poll: float = 0.5) -> None:
        if not Path(path).name or os.fspath(path) == ":memory:":
            msg = "path must name a file"
            raise ValueError(msg)
        if not poll > 0.0:
            msg = f"poll must be seconds above zero, not {poll!r}"
            raise ValueError(msg)
        self._poll = poll
        # The path is absolute, because the program may change its directory.
        self._connections = Connections(Path(path).expanduser().absolute(), BUSY_TIMEOUT)
        self._rows = Rows(self._connections, codec, HostClock())

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None."""
        return await offload(self._rows.read, key)

    async def begin(self, key: str, owner: str, ttl: float, /, *, quota: Quota | None = None) -> Begun:
        """Take the lease of *key*, if it is free or *owner* holds it, with a part of *quota*, and read the record."""
        abandoned = Abandoned()
        return await offload(self._rows.begin, key, owner, ttl, abandoned, quota, abandoned=abandoned)

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* durably, and the lease. Return False if the lease or the version is outdated."""
        return await offload(partial(self._rows.keep, record, lease, ending=False))

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* durably, and end the lease. Return False if the lease or the version is outdated."""
        return await offload(partial(self._rows.keep, record, lease, ending=True))

    async def abandon(self, lease: Lease, /, *, unused: Unused | None = None) -> None:
        """End *lease* without a write, if its owner still holds it, and give *unused* back."""
        await offload(self._rows.abandon, lease, unused)

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now. Return False if it is no longer held."""
        return await offload(self._rows.renew, lease, ttl)

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* with each key that was written, until cancelled.

        A look is one query on an index. The number of records does not matter.
        """
        newest: tuple[object, int] | None = None
        while True:
            newest, keys = await offload(self._rows.changes, newest)
            for key in keys:
                changed(key)
            await anyio.sleep(self._poll)

    async def keys(self) -> AsyncIterator[str]:
        """Yield the key of every record."""
        place = 0
        while batch := await offload(self._rows.keys, place, _BATCH):
            for place, key in batch:  # noqa: B007 - where the next batch begins
                yield key

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """Return the owner that holds the lease of *key* and the seconds until it ends, or None."""
        return await offload(self._rows.holder, key)

    async def delete(self, key: str, /) -> bool:
        """Delete the record of *key* and its torn copy. Return whether there was one."""
        return await offload(self._rows.delete, key)

    async def exists(self) -> bool:
        """Tell whether the file and its table exist. This creates neither of them."""
        return await offload(self._connections.exists)

    async def __aenter__(self) -> Self:
        self._connections.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await offload(self._connections.leave)

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self._connections.path)!r})"
