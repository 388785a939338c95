"""The client for a running agent's socket."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LONGEST_LINE", "AgentError", "ask", "is_trusted", "peer_uid"]

#: The longest line of the protocol, in bytes.
LONGEST_LINE: Final = 1_048_576

# Seconds for the connection to an agent, and seconds that are added to the requested timeout.
_CONNECT: Final = 2.0
_ANSWER: Final = 60.0


@final
class AgentError(Exception):
    """
    An error that an agent answered. It contains no secret.

    Args:
        code: "unavailable", "rejected", "unknown" or "invalid".

        message: The explanation.

        retry_at: When the agent tries again (epoch seconds), if it does.
    """

    def __init__(self, code: str, message: str, retry_at: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_at = retry_at


def ask(path: Path, request: dict[str, Any], *, timeout: float | None = None) -> dict[str, Any] | None:
    """
    Return the answer of the agent at *path*, or None if no agent runs there.

    Args:
        path: The path of its socket.

        request: The fields of the request.

        timeout: The seconds for which the agent should try.

    Raises:
        AgentError: The agent answered with an error.
        OSError: The socket belongs to another user, may not be used, or the agent went away.
    """
    if not hasattr(socket, "AF_UNIX"):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, TimeoutError):
            return None
        uid = peer_uid(connection)
        if not is_trusted(uid):
            msg = f"the agent at {str(path)!r} is another user's (uid {uid}), who could hand out other tokens"
            raise PermissionError(errno.EPERM, msg)
        connection.settimeout(_ANSWER + (timeout or 0.0))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as file:
            line = file.readline(LONGEST_LINE)
    if not line.endswith(b"\n"):
        msg = f"the agent at {str(path)!r} went away before it answered"
        raise ConnectionError(errno.ECONNRESET, msg)
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        raise AgentError(str(answer.get("error")), str(answer.get("message")), answer.get("retry_at"))
    return answer


def peer_uid(connection: Any) -> int | None:
    """Return the user at the other end of a socket, if the system reports it (Linux: unix(7), SO_PEERCRED)."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return int(uid)


def is_trusted(uid: int | None) -> bool:
    """
    Tell whether a user is this one or root. An unknown user is trusted, because the socket's mode excludes others.
    """
    return uid is None or uid in {0, os.geteuid()}
