"""What a library has to offer to be compared: a token, or a request with one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, TypeVar

import httpx
from tests.benchmarks._process import ServerProcess

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "FORM", "Peer", "ThreadedSession", "ThreadedToken"]

T = TypeVar("T")

CLIENT_ID, CLIENT_SECRET = "svc", "s3cret"
FORM = {"grant_type": "client_credentials"}


class Peer:
    """
    One library with its own defaults. `name` stands in the tables, and `package` is what pip installs.

    Args:
        server: The authorization server and the protected resource.

        grant: A refresh token. Without one, the library fetches tokens with its client credentials, if it can.

        file: Where the grant is kept, for a library that can keep it.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""
    #: What a program imports before it can use the library.
    imports: ClassVar[str] = ""
    #: The lifetime at which this library renews a token about a second after it was fetched.
    due_after: ClassVar[float]
    #: A lifetime with at least 4.5 s between the first attempt to renew and the expiry, and when that attempt comes.
    room: ClassVar[tuple[float, float]] = (0.0, 0.0)
    note: ClassVar[str] = ""
    plain_hit: ClassVar[bool] = True
    #: Where get() is a request: httpx's own pool takes minutes for a thousand at once.
    many: ClassVar[int] = 1000
    #: The names of the scenarios that this library does not offer anything for.
    lacks: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, server: ServerProcess, *, grant: str | None = None, file: Path | None = None) -> None:
        self.server = server
        self.grant = grant
        self.file = file
        self.http: httpx.AsyncClient | None = None

    async def open(self) -> None:
        """Make what a program makes once."""

    async def get(self) -> object:
        """Return a token, or what stands for one."""
        raise NotImplementedError

    async def request(self) -> int:
        """
        Send a request to the resource, and return the status.

        Here with the token of `get()` in a header, for a library that only hands out tokens.
        """
        if self.http is None:
            self.http = httpx.AsyncClient(verify=False, timeout=30.0, limits=httpx.Limits(max_connections=None))
        token = await self.get()
        answer = await self.http.get(self.server.resource, headers={"Authorization": f"Bearer {token}"})
        return answer.status_code

    def ripen(self) -> None:
        """Let go by what else keeps a renewal away after a first fetch."""

    async def reopen(self) -> None:
        """Do what the documentation says for a new event loop, where it says something."""

    def held(self) -> list[object]:
        """Return the objects of the library that a program holds, and so may print."""
        return []

    async def leave(self) -> None:
        """Close the client that belongs to no library."""
        if self.http is not None:
            await self.http.aclose()
            self.http = None

    async def aclose(self) -> None:
        """Close what was made."""


class Threaded(Peer):
    """One without a loop of its own: each call takes a thread, of 200 at the most."""

    plain_hit = False

    def __init__(self, server: ServerProcess, *, grant: str | None = None, file: Path | None = None) -> None:
        super().__init__(server, grant=grant, file=file)
        self.pool = ThreadPoolExecutor(200)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Call *work* in a thread, and wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    async def aclose(self) -> None:
        self.pool.shutdown(wait=False)


class ThreadedToken(Threaded):
    """One that hands out tokens."""

    def get_sync(self) -> object:
        """Return a token."""
        raise NotImplementedError

    async def get(self) -> object:
        return await self.in_thread(self.get_sync)


class ThreadedSession(Threaded):
    """One that is a session of requests, or belongs to one."""

    def request_sync(self) -> int:
        """Send a request to the resource, and return the status."""
        raise NotImplementedError

    async def request(self) -> int:
        return await self.in_thread(self.request_sync)

    async def get(self) -> object:
        return await self.request()
