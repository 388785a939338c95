"""A child process. Daemon threads start it, read its output and wait for it."""

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

# The number of bytes of an output that are read at a time.
_CHUNK: Final = 65_536

# The number of bytes that are kept from the end of stderr.
_WORDS: Final = 4096


async def output_of(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """
    Run a program without a shell. Return its status, its output, and the end of its stderr.

    If this is cancelled, the program is killed, with all its children. asyncio's own processes are not used, because
    asyncio's debug mode logs their output.

    Raises:
        OSError: The program cannot be run.
    """
    running = _Running(arguments, environment)
    try:
        found: tuple[int, bytes, bytes] = await FunctionThreads(running.run).call(())
        return found
    finally:
        running.end()


@final
class _Running:
    """A running program. A thread starts it and waits for it."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def run(self) -> tuple[int, bytes, bytes]:
        """Run the program, and return its status, its stdout and its stderr."""
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen(  # noqa: S603 - without a shell
            self._arguments, stdin=none, stdout=pipe, stderr=pipe, env=self._environment, start_new_session=True
        )
        self._process = process
        if self._ended:
            _kill(process)
        out, err = bytearray(), bytearray()
        streams = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr)
        # The threads are daemons, because a child of the program may keep a pipe open for ever.
        readers = [
            threading.Thread(target=_collect, args=(streams[0], out, MAX_BODY), daemon=True),
            threading.Thread(target=_collect, args=(streams[1], err, -_WORDS), daemon=True),
        ]
        for reader in readers:
            reader.start()
        # The pipes are read before the wait. A child may hold them, and can only be killed by its number until then.
        for reader in readers:
            reader.join()
        return process.wait(), bytes(out), bytes(err)

    def end(self) -> None:
        """Kill the program, and its children that hold the pipes, if it still runs or is just starting."""
        self._ended = True
        # The program's end is not checked first, because that would free its process number and the number of its
        # group.
        if self._process is not None and self._process.returncode is None:
            _kill(self._process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # A script that waits for another program must not leave that program behind.
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # pragma: no cover - Windows
        process.kill()


def _collect(stream: IO[bytes], data: bytearray, limit: int) -> None:
    """Keep the first *limit* bytes of *stream*, or the last ones if *limit* is negative."""
    with stream:
        while chunk := os.read(stream.fileno(), _CHUNK):
            # The rest is read and dropped, so that the program does not block.
            if limit < 0:
                data += chunk
                del data[:limit]
            else:
                data += chunk[: limit - len(data)]
