"""A store in a directory. The processes of one host can share it."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import anyio

from evertoken._model.guarded import Guarded
from evertoken.stores._host_clock import HostClock
from evertoken.stores._journal import Follower
from evertoken.stores._offload import Abandoned, offload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    from evertoken._model.leases import Quota, Unused
    from evertoken._model.protocols import Begun, Lease, Record
    from evertoken.stores._files import Files
    from evertoken.stores._record import Codec

__all__ = ["FileStore"]

#: Seconds to wait for a lock between processes. A manager waits longer than this for a store.
LOCK_TIMEOUT: Final = 4.0

#: The number of keys that are read at once for a listing.
_BATCH: Final = 256


@final
class FileStore(Guarded):
    """
    A `TokenStore` in a directory of a local disk, shared by the processes of one host and one user.

    Each record is a file that only its owner may read. It is replaced as a whole, and is on disk before anybody uses
    its token. A lease ends by a clock that counts from the boot, so a process that is killed or stopped loses it. All
    blocking work runs in worker threads. It needs the extra `file`.

    A file that is not a record is renamed to `*.torn`, is reported as a warning to the log "evertoken", and counts as
    missing. A record that cannot be read with the available keys raises `UnreadableRecord`, and stays as it is. A full
    or read-only disk raises `OSError`, and the records that were kept before stay intact.

    Args:
        path: The directory. It is made (mode 0700) if it is missing.

        codec: A codec that seals records, such as `evertoken.stores.encryption.AesGcm`. Without one, tokens are kept as
            text that everybody with access to the directory can read.

        poll: Seconds between two looks for writes of other processes, while the store is watched.

    Raises:
        ImportError: The extra is not installed.
        ValueError: *path* is empty, or *poll* is not above zero.

    The operations raise `PermissionError` if the directory is a symbolic link, belongs to another user, or can be
    written to by others. The same holds for a file in it that is a symbolic link, belongs to another user, or is open
    to others. They raise `TimeoutError` if a process that was stopped in the middle of an operation blocks it for 4
    seconds.
    """

    #: This store keeps the rates and budgets of providers.
    keeps_quotas: Final = True

    def __init__(self, path: str | os.PathLike[str], codec: Codec | None = None, *, poll: float = 0.5) -> None:
        # It is imported here, so that users of other stores do not need the extra.
        from evertoken.stores._files import Files  # noqa: PLC0415

        if not os.fspath(path):
            msg = "path must name a directory"
            raise ValueError(msg)
        if not poll > 0.0:
            msg = f"poll must be seconds above zero, not {poll!r}"
            raise ValueError(msg)
        self._poll = poll
        # The path is absolute, because the program may change its directory. It has no slash at its end, which would
        # follow a link.
        self._files: Files = Files(Path(path).expanduser().absolute(), codec, HostClock(), LOCK_TIMEOUT)

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None."""
        return await offload(self._files.read, key)

    async def begin(self, key: str, owner: str, ttl: float, /, *, quota: Quota | None = None) -> Begun:
        """Take the lease of *key*, if it is free or *owner* holds it, with a part of *quota*, and read the record."""
        abandoned = Abandoned()
        return await offload(self._files.begin, key, owner, ttl, abandoned, quota, abandoned=abandoned)

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* durably, and the lease. Return False if the lease or the version is outdated."""
        return await offload(partial(self._files.keep, record, lease, ending=False))

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* durably, and end the lease. Return False if the lease or the version is outdated."""
        return await offload(partial(self._files.keep, record, lease, ending=True))

    async def abandon(self, lease: Lease, /, *, unused: Unused | None = None) -> None:
        """End *lease* without a write, if its owner still holds it, and give *unused* back."""
        await offload(self._files.abandon, lease, unused)

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now. Return False if it is no longer held."""
        return await offload(self._files.renew, lease, ttl)

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* with each key that was written, until cancelled.

        A look reads only one file. The number of records does not matter.
        """
        follower = Follower()

        while True:
            for key in await offload(self._files.changes, follower):
                changed(key)
            await anyio.sleep(self._poll)

    async def keys(self) -> AsyncIterator[str]:
        """Yield the key of every record."""
        async for key in _each(self._files.keys()):
            yield key

    async def damaged(self) -> AsyncIterator[str]:
        """Yield the name of each file in the place of a record that does not name its key, or that is refused."""
        async for name in _each(self._files.damaged()):
            yield name

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """Return the owner that holds the lease of *key* and the seconds until it ends, or None."""
        return await offload(self._files.holder, key)

    async def delete(self, key: str, /) -> bool:
        """Delete the record of *key* and its torn copies. Return whether there was one."""
        return await offload(self._files.delete, key)

    def __repr__(self) -> str:
        return f"FileStore({str(self._files.path)!r})"


async def _each(found: Generator[str]) -> AsyncIterator[str]:
    try:
        while batch := await offload(list, islice(found, _BATCH)):
            for one in batch:
                yield one
    finally:
        # If this was cancelled, a thread may still run the generator. The generator is then closed when it is released.
        with suppress(ValueError):
            found.close()
