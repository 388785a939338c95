"""A TCP proxy that counts what a client asks a server: round trips, and for PostgreSQL statements."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

__all__ = ["Counting", "counting"]

# PostgreSQL's frontend protocol: what a connection may begin with, in place of a typed message.
_SSL_REQUEST: Final = 80_877_103
_GSS_REQUEST: Final = 80_877_104
_HEADER: Final = 5


class Counting:
    """
    The counts of all connections.

    A round trip begins when the client sends, and ends with the server's answer. Everything that the client sends
    before that answer belongs to the same round trip.
    """

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.round_trips = 0
        self.statements = 0

    def reset(self) -> None:
        self.round_trips = self.statements = 0


class _Statements:
    """Counts the messages Query and Execute in one stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def fed(self, data: bytes) -> int:
        count = 0
        data = self._rest + data
        while len(data) >= _HEADER + 3:
            if not self._begun:
                code = int.from_bytes(data[4:8])
                self._begun = code not in {_SSL_REQUEST, _GSS_REQUEST}
                data = data[int.from_bytes(data[:4]) :]
                continue
            length = 1 + int.from_bytes(data[1:_HEADER])
            if len(data) < length:
                break
            count += data[:1] in {b"Q", b"E"}
            data = data[length:]
        if self._begun and len(data) >= _HEADER and len(data) == 1 + int.from_bytes(data[1:_HEADER]):
            # The shortest messages, such as Sync.
            count += data[:1] in {b"Q", b"E"}
            data = b""
        self._rest = data
        return count


@contextlib.asynccontextmanager
async def counting(port: int) -> AsyncIterator[Counting]:
    """Listen on a free port, and pass everything on to *port*."""
    counted = Counting()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", port)
        statements = _Statements()
        asked = False

        async def ask() -> None:
            nonlocal asked
            while data := await reader.read(2**16):
                if not asked:
                    asked = True
                    counted.round_trips += 1
                counted.statements += statements.fed(data)
                back.write(data)
                await back.drain()

        async def answer() -> None:
            nonlocal asked
            while data := await there.read(2**16):
                asked = False
                writer.write(data)
                await writer.drain()

        tasks = {asyncio.create_task(ask()), asyncio.create_task(answer())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            back.close()
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        counted.port = server.sockets[0].getsockname()[1]
        yield counted
