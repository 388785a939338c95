"""A store in a directory: for the processes of one host."""

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

#: Seconds that a lock between processes is waited for: less than a manager waits for a store.
LOCK_TIMEOUT: Final = 4.0

#: Keys that are read at once when they are listed.
_BATCH: Final = 256


@final
class FileStore(Guarded):
    """
    A `TokenStore` in a directory of a local disk, shared by the processes of one host and one user.

    Each record is a file that only its owner may read, replaced whole, and on disk before anyone uses its token.
    A lease ends by a clock that counts from the boot; a process that is killed or stopped loses it. Everything that
    blocks happens in worker threads. Needs the extra `file`.

    A file that is no record is renamed to `*.torn`, reported as a warning to the log "evertoken", and counts as
    missing. One that cannot be read with the keys at hand is an `UnreadableRecord`, and stays as it is. A disk that is
    full or read-only is an `OSError`, and what was kept before is still there.

    Args:
        path: The directory. It is made (mode 0700) if it is missing.

        codec: What seals records, such as `evertoken.stores.encryption.AesGcm`. Without one, tokens are kept as text
            that whoever may read the directory can read.

        poll: Seconds between two looks for what others have written, while the store is watched.

    Raises:
        ImportError: The extra is not installed.
        ValueError: *path* is empty, or *poll* is not above zero.

    The operations raise `PermissionError` if the directory is a symbolic link, another user's, or one that others may
    write to, or if a file in it is a symbolic link, another user's, or open to others; and `TimeoutError` if a process
    that was stopped in the middle of an operation blocks it for 4 seconds.
    """

    #: It keeps the rates and budgets of providers.
    keeps_quotas: Final = True

    def __init__(self, path: str | os.PathLike[str], codec: Codec | None = None, *, poll: float = 0.5) -> None:
        # Imported here, so that those who use other stores need not have it.
        from evertoken.stores._files import Files  # noqa: PLC0415

        if not os.fspath(path):
            msg = "path must name a directory"
            raise ValueError(msg)
        if not poll > 0.0:
            msg = f"poll must be seconds above zero, not {poll!r}"
            raise ValueError(msg)
        self._poll = poll
        # Absolute, for the program may change its directory; and a Path ends in no slash, which would follow a link.
        self._files: Files = Files(Path(path).expanduser().absolute(), codec, HostClock(), LOCK_TIMEOUT)

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None."""
        return await offload(self._files.read, key)

    async def begin(self, key: str, owner: str, ttl: float, /, *, quota: Quota | None = None) -> Begun:
        """Take the lease of *key*, if it is free or *owner* holds it, and of *quota*; and read the record."""
        abandoned = Abandoned()
        return await offload(self._files.begin, key, owner, ttl, abandoned, quota, abandoned=abandoned)

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* durably, and the lease; return False where the lease or the version is outdated."""
        return await offload(partial(self._files.keep, record, lease, ending=False))

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* durably, and end the lease; return False where the lease or the version is outdated."""
        return await offload(partial(self._files.keep, record, lease, ending=True))

    async def abandon(self, lease: Lease, /, *, unused: Unused | None = None) -> None:
        """End *lease* without a write, if its owner still holds it, and give *unused* back."""
        await offload(self._files.abandon, lease, unused)

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now; return False where it is no longer held."""
        return await offload(self._files.renew, lease, ttl)

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* with each key that was written, until cancelled.

        A look costs a glance at one file, however many records there are.
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
        """
        Yield the name of each file in the place of a record that does not say of which key, or that is refused.
        """
        async for name in _each(self._files.damaged()):
            yield name

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """Return who holds the lease of *key* and for how many seconds yet, or None."""
        return await offload(self._files.holder, key)

    async def delete(self, key: str, /) -> bool:
        """Take the record of *key* out, and its torn copies; tell whether there was one."""
        return await offload(self._files.delete, key)

    def __repr__(self) -> str:
        return f"FileStore({str(self._files.path)!r})"


async def _each(found: Generator[str]) -> AsyncIterator[str]:
    try:
        while batch := await offload(list, islice(found, _BATCH)):
            for one in batch:
                yield one
    finally:
        # Where this was cancelled a thread may still run it, and closes it by letting go.
        with suppress(ValueError):
            found.close()
