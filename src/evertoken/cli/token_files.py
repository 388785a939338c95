"""Token files: written as a whole, with mode 0600, and only with a token that is valid."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import tempfile
from typing import TYPE_CHECKING, Final, final

import anyio.to_thread

from evertoken._engine.clock import SystemClock
from evertoken.cli.owners import owner_fault

if TYPE_CHECKING:
    from pathlib import Path

    from evertoken import Clock
    from evertoken.cli.managers import Managers
    from evertoken.cli.source_entries import SourceEntry

__all__ = ["TokenFile", "check_folder"]

_log: Final = logging.getLogger("evertoken.agent")

# What the names of drafts end in.
_DRAFT: Final = ".evertoken"

#: Seconds from a write that failed to the next attempt: the first time, and at most.
FIRST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 30.0


def check_folder(path: Path) -> None:
    """
    Raise unless a secret may be written to *path*: nobody else may put another file in its place.

    Raises:
        OSError: There is no such folder, or others may write there; or a folder stands in the place of the file.
    """
    fault = owner_fault(path.parent, path.parent.stat())
    if fault is not None:
        raise PermissionError(errno.EPERM, fault)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{str(path)!r} is a folder")


def write_draft(path: Path, text: str) -> Path:
    """
    Return a new file beside *path* with *text* and mode 0600, which is on the disk.

    Raises:
        OSError: It cannot be written, and is not there.
    """
    check_folder(path)
    # Made with 0600, and only where nothing has that name.
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_DRAFT, dir=path.parent)
    draft = path.with_name(os.path.basename(name))  # noqa: PTH119 - of a text
    try:
        with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def put_in_place(draft: Path, path: Path) -> None:
    """
    Give the file *draft* the name *path*, and have that on the disk as well.

    Readers find the old content or the new one, whatever happens: a full disk, a kill, a loss of power.

    Raises:
        OSError: It cannot be renamed, and the old file stays; or it is not sure that the new name is on the disk.
    """
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_drafts(path: Path) -> None:
    """Take away what an agent left that was killed as it wrote."""
    for draft in path.parent.glob(f".{path.name}.*{_DRAFT}"):
        with contextlib.suppress(OSError):
            draft.unlink()


@final
class TokenFile:
    """
    Keeps one file fresh.

    Args:
        entry: The source, which names the file.

        managers: Where its token is.

        clock: What the validity of a token is judged by.
    """

    def __init__(self, entry: SourceEntry, managers: Managers, clock: Clock = SystemClock()) -> None:
        assert entry.write_to is not None  # noqa: S101 - else there is nothing to keep
        self.path: Path = entry.write_to
        #: What kept the last write from its end, if anything did.
        self.failure: str | None = None
        self._entry = entry
        self._managers = managers
        self._clock = clock
        self._manager, self._key = managers.of(entry.name)

    async def keep(self) -> None:
        """Write each token as it comes, until the manager closes."""
        await anyio.to_thread.run_sync(remove_drafts, self.path)
        async for _ in self._manager.subscribe(self._key):
            pause = FIRST_RETRY
            while not await self._written():
                await asyncio.sleep(pause)
                pause = min(2.0 * pause, LONGEST_RETRY)

    def remove(self) -> None:
        """Take the file away, because its key was signed out."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    async def _written(self) -> bool:
        # The newest, which may be newer than the one that was told of.
        token = self._managers.peek(self._entry.name)
        if token is None:
            return True

        try:
            text = self._entry.form.text(token, self._clock.time(), {})
            draft = await anyio.to_thread.run_sync(write_draft, self.path, text)
            try:
                # A disk may take its time. A token that has died meanwhile is put into no file.
                if token.valid_at(self._clock.time()):
                    await anyio.to_thread.run_sync(put_in_place, draft, self.path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            said = f"{error.strerror or error}"
            if self.failure is None:
                _log.error(
                    "the file %s of %r cannot be written: %s; the old one stays", self.path, self._entry.name, said
                )
            self.failure = said
            return False
        except ValueError as error:
            self.failure = str(error)
            _log.error("the file %s of %r is not written: %s", self.path, self._entry.name, error)
            return True
        if self.failure is not None:
            _log.warning("the file %s of %r is written again", self.path, self._entry.name)
        self.failure = None
        return True
