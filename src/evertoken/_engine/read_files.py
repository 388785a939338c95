"""Notes which files a fetch reads. A rejected fetch is tried again as soon as one of them has other content."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.function_threads import threads_of
from evertoken._engine.tasks import Gate, bounded

if TYPE_CHECKING:
    from pathlib import Path

    from evertoken._engine.tasks import Strays
    from evertoken._model.protocols import Clock

__all__ = ["ReadFiles"]

#: The shortest time between a rejection or a look and the next look, in seconds. It doubles with each change in a row
#: that was rejected too, because a file may differ each time that it is read.
_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 300.0

#: The seconds after which a look is given up.
_LIMIT: Final = 1.0

#: The number of bytes of a file that are compared.
_COMPARED: Final = 1_048_576

#: The digests stay in this process, and say nothing to anybody who does not know this key.
_KEY: Final = os.urandom(32)


@final
class ReadFiles:
    """The regular files with secrets that one fetch has read, and digests of their content."""

    __slots__ = ("_digests", "_looked_at", "changes", "looks")

    def __init__(self) -> None:
        self._digests: dict[str, bytes] = {}
        self._looked_at: float = 0.0
        #: The changes in a row that brought another fetch. This counts for the next look if that one is rejected too.
        self.changes: int = 0
        #: This gate opens when the look under way has ended.
        self.looks: Gate | None = None

    def note(self, path: Path, content: bytes, /) -> None:
        """The fetch has read *content* of the file *path*."""
        self._digests[str(path)] = _digest(content)

    def rejected(self, now: float, before: ReadFiles | None, /) -> None:
        """
        The fetch was rejected.

        Args:
            now: The instant, by a monotonic clock.

            before: The files of the rejected fetch before it, if there is one.
        """
        self._looked_at = now
        self.changes = 0 if before is None else before.changes

    def may_look(self, now: float, /) -> bool:
        """Tell whether to read the files again at *now* (by a monotonic clock)."""
        pause = min(_PAUSE * 2.0 ** min(self.changes, 30), _LONGEST_PAUSE)
        return self.looks is None and now - self._looked_at >= pause

    def ended(self) -> None:
        """The look has ended. Wake all who wait for it."""
        gate, self.looks = self.looks, None
        if gate is not None:
            gate.wake()

    async def look(self, clock: Clock, strays: Strays) -> bool:
        """
        Read the files again, and tell whether one has other content now. A file that cannot be read has not changed.

        They are read in a thread, because a file system may hang.

        Raises:
            Overdue: It takes too long.
            TransientRefreshError: Too many threads hang already.
        """
        # A copy, because a call that was given up may still read files.
        arguments = (dict(self._digests),)
        try:
            changed: bool = await bounded(
                lambda: threads_of(_any_changed).call(arguments),
                _LIMIT,
                clock=clock,
                strays=strays,
                name="evertoken:files",
            )
        finally:
            self._looked_at = clock.monotonic()
        self.changes += changed
        return changed


def _any_changed(digests: dict[str, bytes]) -> bool:
    return any(_has_changed(path, digest) for path, digest in digests.items())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content[:_COMPARED], digest_size=16, key=_KEY).digest()


def _has_changed(path: str, digest: bytes) -> bool:
    try:
        # A pipe would give its content to the look, and not to the next fetch.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - pathlib imports much, and few need this
            return False
        with open(path, "rb") as file:  # noqa: PTH123 - the same
            return _digest(file.read(_COMPARED)) != digest
    except OSError:
        return False
