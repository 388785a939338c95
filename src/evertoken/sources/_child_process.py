"""A child process that daemon threads start, read and wait for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING, Final, cast, final

from evertoken._engine.function_threads import FunctionThreads
from evertoken.sources._body import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["output_of"]

# Bytes of an output that are read at a time.
_CHUNK: Final = 65_536

# Bytes that are kept of the end of what a program says to stderr.
_WORDS: Final = 4096


async def output_of(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """
    Run a program without a shell, and return its status, what it printed, and the end of what it said to stderr.

    It is killed if this is cancelled, with all that it started. It is not one of asyncio's own processes, because
    asyncio's debug mode logs what those print.

    Raises:
        OSError: It cannot be run.
    """
    running = _Running(arguments, environment)
    try:
        found: tuple[int, bytes, bytes] = await FunctionThreads(running.run).call((), starting=_nothing)
        return found
    finally:
        running.end()


@final
class _Running:
    """A program on its way, which a thread starts and waits for."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def run(self) -> tuple[int, bytes, bytes]:
        """Return its status, and what it printed to stdout and to stderr."""
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen(  # noqa: S603 - without a shell
            self._arguments, stdin=none, stdout=pipe, stderr=pipe, env=self._environment, start_new_session=True
        )
        self._process = process
        if self._ended:
            _kill(process)
        out, err = bytearray(), bytearray()
        streams = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr)
        # Daemons: what the program leaves behind may keep a pipe open for ever.
        readers = [
            threading.Thread(target=_collect, args=(streams[0], out, MAX_BODY), daemon=True),
            threading.Thread(target=_collect, args=(streams[1], err, -_WORDS), daemon=True),
        ]
        for reader in readers:
            reader.start()
        # Before it is waited for: what it leaves behind may hold the pipes, and can be killed by its number until then.
        for reader in readers:
            reader.join()
        return process.wait(), bytes(out), bytes(err)

    def end(self) -> None:
        """Kill it, and what it left behind with its pipes, if it still runs or is just being started."""
        self._ended = True
        # It is not asked whether it has ended: then its number would be free, and that of its group with it.
        if self._process is not None and self._process.returncode is None:
            _kill(self._process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # A script that waits for another program is no reason to leave that one behind.
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # pragma: no cover - Windows
        process.kill()


def _collect(stream: IO[bytes], data: bytearray, limit: int) -> None:
    """Keep the first *limit* bytes of *stream*, or the last ones where *limit* is negative."""
    with stream:
        while chunk := os.read(stream.fileno(), _CHUNK):
            # The rest is read and dropped, so that the program does not stand still.
            if limit < 0:
                data += chunk
                del data[:limit]
            else:
                data += chunk[: limit - len(data)]


def _nothing() -> None:
    pass
