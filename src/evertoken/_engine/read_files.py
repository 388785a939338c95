"""Notes which files a fetch reads. A rejected fetch is tried again as soon as one of them has other content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, final

from evertoken._engine.function_threads import threads_of

__all__ = ["ReadFiles"]

#: The shortest time between two looks at the files of one key, in seconds.
LOOK_EVERY: Final = 1.0

#: The digests stay in this process, and say nothing to anybody who does not know this key.
_KEY: Final = os.urandom(32)


@final
class ReadFiles:
    """The files with secrets that one fetch has read, and digests of their content."""

    __slots__ = ("_digests", "_looked_at")

    def __init__(self) -> None:
        self._digests: dict[tuple[str, int], bytes] = {}
        self._looked_at = float("-inf")

    def note(self, path: Path, limit: int, content: bytes, /) -> None:
        """The fetch has read *content*, the first *limit* bytes of *path*."""
        self._digests[str(path), limit] = _digest(content)

    def may_look(self, now: float, /) -> bool:
        """Tell whether the files may be read again at *now* (seconds of a monotonic clock), and count it as a look."""
        if not self._digests or now - self._looked_at < LOOK_EVERY:
            return False
        self._looked_at = now
        return True

    async def changed(self) -> bool:
        """
        Tell whether a file has other content now. A file that cannot be read has not changed.

        The files are read in a thread, because a file system may hang.

        Raises:
            TransientRefreshError: Too many threads hang already.
        """
        changed: bool = await threads_of(_any_changed).call((self._digests,), starting=_nothing)
        return changed


def _any_changed(digests: dict[tuple[str, int], bytes]) -> bool:
    return any(_has_changed(path, limit, digest) for (path, limit), digest in digests.items())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16, key=_KEY).digest()


def _nothing() -> None:
    """A look needs no preparation."""


def _has_changed(path: str, limit: int, digest: bytes) -> bool:
    try:
        with Path(path).open("rb") as file:
            return _digest(file.read(limit)) != digest
    except OSError:
        return False
