"""Token files. They are written as a whole, with mode 0600, and only with a valid token."""

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

# The ending of the names of drafts.
_DRAFT: Final = ".evertoken"

#: Seconds from a failed write to the next attempt: the first time, and at most.
FIRST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 30.0


def check_folder(path: Path) -> None:
    """
    Check that a secret may be written to *path*, because nobody else can replace the file.

    Raises:
        OSError: The folder does not exist, others may write there, or *path* itself is a folder.
    """
    fault = owner_fault(path.parent, path.parent.stat())
    if fault is not None:
        raise PermissionError(errno.EPERM, fault)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{str(path)!r} is a folder")


def write_draft(path: Path, text: str) -> Path:
    """
    Write *text* to a new file beside *path*, with mode 0600, and return it. It is on the disk then.

    Raises:
        OSError: The file cannot be written. It does not exist then.
    """
    check_folder(path)
    # It is created with mode 0600, and never replaces an existing file.
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_DRAFT, dir=path.parent)
    draft = path.with_name(os.path.basename(name))  # noqa: PTH119 - the name is a text
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
    Rename the file *draft* to *path*, and make that durable.

    Readers find either the old or the new content, even after a full disk, a kill or a loss of power.

    Raises:
        OSError: It cannot be renamed, and the old file stays. Or it is uncertain whether the new name is on the disk.
    """
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_drafts(path: Path) -> None:
    """Remove drafts of an agent that was killed while it wrote."""
    for draft in path.parent.glob(f".{path.name}.*{_DRAFT}"):
        with contextlib.suppress(OSError):
            draft.unlink()


@final
class TokenFile:
    """
    Keeps one file fresh.

    Args:
        entry: The source. It names the file.

        managers: The managers that have its token.

        clock: The clock by which a token is valid.
    """

    def __init__(self, entry: SourceEntry, managers: Managers, clock: Clock = SystemClock()) -> None:
        assert entry.write_to is not None  # noqa: S101 - only such entries have a file
        self.path: Path = entry.write_to
        #: The reason why the last write failed, if it did.
        self.failure: str | None = None
        self._entry = entry
        self._managers = managers
        self._clock = clock
        self._manager, self._key = managers.of(entry.name)

    async def keep(self) -> None:
        """Write each new token, until the manager closes."""
        await anyio.to_thread.run_sync(remove_drafts, self.path)
        async for _ in self._manager.subscribe(self._key):
            pause = FIRST_RETRY
            while not await self._written():
                await asyncio.sleep(pause)
                pause = min(2.0 * pause, LONGEST_RETRY)

    def remove(self) -> None:
        """Remove the file, because its key was signed out."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    async def _written(self) -> bool:
        # This is the newest token. It may be newer than the one that was reported.
        token = self._managers.peek(self._entry.name)
        if token is None:
            return True

        try:
            text = self._entry.form.text(token, self._clock.time(), {})
            draft = await anyio.to_thread.run_sync(write_draft, self.path, text)
            try:
                # The disk may be slow. A token that has expired meanwhile is not written.
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
