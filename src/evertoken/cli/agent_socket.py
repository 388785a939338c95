"""
The socket of an agent. Requests and answers are JSON objects, one per line. Only the agent's own user may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
import stat
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.redaction import describe
from evertoken.cli.agent_client import LONGEST_LINE, is_trusted, peer_uid
from evertoken.cli.owners import owner_fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["AgentSocket"]

_log: Final = logging.getLogger("evertoken.agent")

#: The largest number of connections at a time.
MOST: Final = 256


@final
class AgentSocket:
    """
    A unix socket with mode 0600.

    Args:
        path: The path of the socket. Its folder must belong to this user or root, and nobody else may write there.

        answer: A function that is called with each request.
    """

    def __init__(self, path: Path, answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
        self._path = path
        self._answer = answer
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._inode: int | None = None
        # The connections, each with whether one of its requests is under way.
        self._connections: dict[asyncio.Task[None], bool] = {}

    def bind(self) -> None:
        """
        Take the path. From now on connections are accepted, but wait until `serve`.

        Raises:
            OSError: Another agent listens there, or the folder or the file is unsuitable for a socket.
        """
        fault = owner_fault(self._path.parent, self._path.parent.stat())
        if fault is not None:
            raise PermissionError(errno.EPERM, f"the socket needs a safe folder: {fault}")
        self._remove_left_over()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The mode must be right from the start. A socket is created with 0777 minus the umask.
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
            listener.listen()
        except BaseException as error:
            listener.close()
            if isinstance(error, OSError) and error.errno is None:
                # unix(7): the path of a socket has at most 107 bytes.
                raise OSError(errno.ENAMETOOLONG, "the path of the socket is too long", str(self._path)) from None
            raise
        finally:
            os.umask(before)
        self._inode = self._path.stat().st_ino
        self._listener = listener

    async def serve(self) -> None:
        """Answer requests."""
        assert self._listener is not None  # noqa: S101 - it was bound
        self._server = await asyncio.start_unix_server(self._connected, sock=self._listener, limit=LONGEST_LINE)

    def release(self) -> None:
        """Stop listening, and release the path."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                # The path may already belong to a later agent.
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()

    async def close(self, grace: float) -> None:
        """Stop listening, wait *grace* seconds for requests under way, and end the others."""
        if self._server is not None:
            self._server.close()
        self.release()
        for task, busy in list(self._connections.items()):
            if not busy:
                task.cancel()
        if self._connections:
            _, left = await asyncio.wait(list(self._connections), timeout=grace)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _remove_left_over(self) -> None:
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise FileExistsError(errno.EEXIST, f"{str(self._path)!r} exists, and is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                # This socket belongs to an agent that was killed.
                self._path.unlink()
                return
            except OSError as error:
                raise FileExistsError(errno.EEXIST, f"{str(self._path)!r} is there: {error.strerror}") from None
        raise FileExistsError(errno.EEXIST, f"another agent listens at {str(self._path)!r}")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in a task
        self._connections[task] = False
        try:
            uid = peer_uid(writer.get_extra_info("socket"))
            if not is_trusted(uid):
                _log.warning("a connection of another user (uid %s) was refused", uid)
            elif len(self._connections) > MOST:
                _log.warning("a connection was refused: there are %d already", MOST)
            else:
                await self._talk(task, reader, writer)
        except (OSError, asyncio.CancelledError):
            # The client has gone, or the agent ends. asyncio's server would log both.
            pass
        finally:
            del self._connections[task]
            writer.close()

    async def _talk(self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self._server is not None and self._server.is_serving():
            try:
                line = await reader.readline()
            except ValueError:
                _log.warning("a connection was ended: a line has at most %d bytes", LONGEST_LINE)
                return
            if not line.endswith(b"\n"):
                return
            self._connections[task] = True
            try:
                writer.write(json.dumps(await self._answered(line)).encode() + b"\n")
                await writer.drain()
            finally:
                self._connections[task] = False

    async def _answered(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise TypeError  # noqa: TRY301
        except (ValueError, TypeError, RecursionError):
            return {"ok": False, "error": "invalid", "message": "a request is one JSON object in a line of UTF-8"}
        try:
            return await self._answer(request)
        except Exception as error:  # noqa: BLE001 - one request must not end the agent
            _log.error("a request raised %s", describe(error))
            return {"ok": False, "error": "unavailable", "message": "the agent failed; its log says more"}
