"""
Health checks: an ASGI application, exit codes for a process, and a command that reads a manager's health file.

The command, for probes that run one, is `python -m evertoken.health /run/app/health --ready`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from evertoken._engine.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from evertoken._model.snapshot import Health

__all__ = ["DEGRADED", "DOWN", "OK", "HealthApp", "exit_code", "file_exit_code"]

#: The exit code of a manager that works.
OK: Final = 0
#: The exit code of a manager that is not alive: restart the process.
DOWN: Final = 1
#: The exit code of a manager that is alive but not ready: send it no requests.
DEGRADED: Final = 2

#: A health file that is older than this, in seconds, is no longer being written.
MAX_AGE: Final = 30.0


class _Healthy(Protocol):
    """The one method of a manager that this module needs."""

    def health(self) -> Health: ...


@final
class HealthApp:
    """
    An ASGI application for `/livez` and `/readyz`. It answers 200 if the managers are alive or ready, and 503 if not.

    Mount it, or serve it on a separate port. The JSON body says how many keys are degraded, but not which, because a
    probe does not authenticate.

    Args:
        managers: The managers to check. All of them must be alive, or ready.
    """

    def __init__(self, *managers: _Healthy) -> None:
        if not managers:
            msg = "HealthApp needs at least one manager"
            raise ValueError(msg)
        self._managers = managers

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request, or the startup and shutdown messages of the server."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            msg = f"HealthApp answers http, not {scope['type']}"
            raise ValueError(msg)
        status, body = self._answer(scope.get("method", "GET"), _path_of(scope))
        content = json.dumps(body).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope.get("method") == "HEAD" else content})

    def _answer(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        if path not in {"/livez", "/readyz"}:
            return 404, {"error": "there are /livez and /readyz"}
        if method not in {"GET", "HEAD"}:
            return 405, {"error": "GET and HEAD are understood"}
        found = [manager.health() for manager in self._managers]
        well = all(health.alive if path == "/livez" else health.alive and health.ready for health in found)
        return 200 if well else 503, {
            "alive": all(health.alive for health in found),
            "ready": all(health.ready for health in found),
            "degraded": sum(len(health.degraded) for health in found),
        }


def exit_code(health: Health, /, *, ready: bool = True) -> int:
    """
    Return the exit code for *health*: `OK`, `DOWN`, or `DEGRADED` if the manager is alive but not ready.

    Args:
        health: The result of `TokenManager.health`.

        ready: Whether the manager must also be ready.
    """
    if not health.alive:
        return DOWN
    return OK if health.ready or not ready else DEGRADED


def file_exit_code(path: str | os.PathLike[str], /, *, ready: bool = True, max_age: float = MAX_AGE) -> int:
    """
    Return the exit code for a health file that `TokenManager(health_file=)` writes.

    The result is `DOWN` if the file is missing, cannot be read or is too old.

    Args:
        path: The path of the file.

        ready: Whether the manager must also be ready.

        max_age: The age in seconds from which the file is too old. The manager writes it every 10 s.
    """
    try:
        age = SystemClock.time() - os.stat(path).st_mtime  # noqa: PTH116 - pathlib is slow to import
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            body = json.load(file)
        alive, is_ready = body["alive"] is True, body["ready"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return DOWN
    if not alive or age > max_age:
        return DOWN
    return OK if is_ready or not ready else DEGRADED


def _path_of(scope: Mapping[str, Any]) -> str:
    # The server tells a mounted application its mount path (ASGI specification, "HTTP connection scope").
    path, root = str(scope.get("path", "")), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path


async def _lifespan(
    receive: Callable[[], Awaitable[Mapping[str, Any]]], send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


def main(arguments: Sequence[str]) -> int:
    """Return the exit code for the command line."""
    paths = [one for one in arguments if not one.startswith("-")]
    options = {one for one in arguments if one.startswith("-")}
    if len(paths) != 1 or not options <= {"--ready"}:
        sys.stderr.write("usage: python -m evertoken.health FILE [--ready]\n")
        return DOWN
    return file_exit_code(paths[0], ready="--ready" in options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
