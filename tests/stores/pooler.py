"""
A pooler in front of PostgreSQL, as far as a client notices one.

Like PgBouncer it refuses settings in the startup message and names a process of its own. Between two transactions it
may forget all that a session had.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN = {80877103, 80877104}
_REFUSAL = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
_DISCARD = b"Q" + struct.pack("!I", 16) + b"DISCARD ALL\0"


@contextlib.contextmanager
def pooler(port: int, mode: str) -> Iterator[int]:
    """
    Run one in a thread in front of the server at *port*; give its own port.

    Its *mode* is "session", "transaction" (it forgets) or "open" (it forgets, and names the server's own process).
    """
    ready, ports = threading.Event(), []
    loop, done = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        clients: set[asyncio.Task[None]] = set()

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(_client(reader, writer, port, mode))
            clients.add(task)
            await asyncio.wait([task])

        server = await asyncio.start_server(client, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await done.wait()
        server.close()
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(10.0)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()


async def _client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, mode: str) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
        while True:
            (size,) = struct.unpack("!I", await reader.readexactly(4))
            body = await reader.readexactly(size - 4)
            if struct.unpack("!I", body[:4])[0] not in _PLAIN:
                break
            writer.write(b"N")
        if b"options" in body[4:].split(b"\0")[::2]:
            writer.write(b"E" + struct.pack("!I", len(_REFUSAL) + 4) + _REFUSAL)
            await writer.drain()
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(server_writer):
            server_writer.write(struct.pack("!I", size) + body)
            upwards = asyncio.create_task(_upwards(reader, server_writer))
            try:
                await _downwards(server_reader, server_writer, writer, mode)
            finally:
                upwards.cancel()


async def _upwards(reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            server.write(data)
            await server.drain()
        server.close()


async def _downwards(
    reader: asyncio.StreamReader, server: asyncio.StreamWriter, client: asyncio.StreamWriter, mode: str
) -> None:
    while True:
        kind, body = await _message(reader)
        if kind == b"K" and mode != "open":
            body = struct.pack("!II", 4711, 4711)
        if (kind, body) == (b"Z", b"I") and mode != "session":
            # The client has not heard yet that it may go on.
            server.write(_DISCARD)
            while (await _message(reader))[0] != b"Z":
                pass
        client.write(kind + struct.pack("!I", len(body) + 4) + body)
        await client.drain()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, size = struct.unpack("!cI", await reader.readexactly(5))
    return kind, await reader.readexactly(size - 4)
