"""A wire between a client and a server that can be cut, slowed down, or left open and silent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Self


class Proxy:
    """
    Listens on loopback and passes bytes on. `mode` is "pass", "cut", "slow" or "silent", and may change at any time.

    Args:
        port: The server's.

        tls: The TLS context for clients, or None for plain text.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.mode = "pass"
        self.delay = 0.3
        self._target = port
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()
        for _turn in range(3):
            # Connections that were cut just now are closed in the loop's next turns.
            await asyncio.sleep(0)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def set(self, mode: str) -> None:
        self.mode = mode
        if mode == "cut":
            self.cut()

    def heard(self, data: bytes) -> None:
        """Be told what passes, in either direction."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "cut":
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        for one, other in ((reader, there_writer), (there_reader, writer)):
            self._writers.add(other)
            task = asyncio.create_task(self._pass(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.mode == "slow":
                    await asyncio.sleep(self.delay)
                while self.mode == "silent":
                    await asyncio.sleep(0.02)
                self.heard(data)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
