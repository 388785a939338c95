"""An HTTP server in a process of its own that costs the measured process nothing: 200 with a token, 401 without."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

__all__ = ["answering"]


class _Answer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._read = b""

    def data_received(self, data: bytes) -> None:
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            status = b"200 OK" if b"authorization: bearer token" in head.lower() else b"401 Unauthorized"
            self._transport.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)


async def _serve(pipe: Connection) -> None:
    server = await asyncio.get_running_loop().create_server(_Answer, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    # Until the other end is closed.
    with contextlib.suppress(EOFError):
        await asyncio.to_thread(pipe.recv)


def _main(pipe: Connection) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(pipe))


@contextlib.contextmanager
def answering() -> Iterator[str]:
    """Start the server and give its URL. It answers requests without a body."""
    context = multiprocessing.get_context("spawn")
    pipe, there = context.Pipe()
    process = context.Process(target=_main, args=(there,), daemon=True)
    process.start()
    there.close()
    try:
        yield f"http://127.0.0.1:{pipe.recv()}/v1/things"
    finally:
        pipe.close()
        process.join(10.0)
        process.kill()
