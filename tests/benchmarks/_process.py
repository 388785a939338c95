"""Other processes: a `TokenServer` in one of its own, and the CPU that any process has used."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from evertoken.sources import ClientCredentials, OAuthClient
from evertoken.testing import Stats, TokenServer

__all__ = ["ServerProcess", "cpu_of"]


def cpu_of(pid: int) -> float:
    """
    Return the seconds of CPU that process *pid* and its children have used so far, those that have ended included.
    """
    tick = os.sysconf("SC_CLK_TCK")
    folder = Path(f"/proc/{pid}")
    # After the name, which may hold spaces: utime, stime, cutime and cstime are the fields 14 to 17 of proc(5).
    used = sum(map(int, (folder / "stat").read_text("ascii").rpartition(")")[2].split()[11:15])) / tick
    for child in (folder / "task" / str(pid) / "children").read_text("ascii").split():
        with contextlib.suppress(FileNotFoundError):
            used += cpu_of(int(child))
    return used


def _serve(pipe: Connection, options: dict[str, Any]) -> None:
    with contextlib.suppress(EOFError, KeyboardInterrupt), TokenServer(**options) as server:
        pipe.send(server.url)
        while True:
            name, arguments = pipe.recv()
            if name == "set":
                setattr(server, *arguments)
                pipe.send(None)
            elif name == "stats":
                pipe.send(server.stats)
            else:
                pipe.send(getattr(server, name)(*arguments))


class ServerProcess:
    """Started on entering, ended on leaving; `tell` calls a method of the server."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, self._options), daemon=True)
        self._process.start()
        there.close()
        self.url = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/token"

    @property
    def resource(self) -> str:
        return f"{self.url}/resource"

    @property
    def stats(self) -> Stats:
        found = self.tell("stats")
        assert isinstance(found, Stats)
        return found

    def client_credentials(self, **options: Any) -> ClientCredentials:
        return ClientCredentials(
            OAuthClient(token_endpoint=self.token_endpoint, client_id="svc", client_secret="s3cret", **options)
        )

    def tell(self, name: str, *arguments: Any) -> Any:
        self._pipe.send((name, arguments))
        return self._pipe.recv()
