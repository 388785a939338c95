"""A broker of the tests: it listens on loopback, and can end all its connections at once."""

from __future__ import annotations

import asyncio
from typing import Self

from tests.clients.sdk_contract import Service

__all__ = ["ListeningService"]


class ListeningService(Service):
    """A service over plain sockets. A subclass serves each connection, and keeps its writer in `connected`."""

    def __init__(self) -> None:
        super().__init__()
        self.connected: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.hang_up()
        await self._server.wait_closed()

    def hang_up(self) -> None:
        """End all connections, as a broker does that restarts."""
        for writer in self.connected:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        raise NotImplementedError
