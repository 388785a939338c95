"""A broker that speaks as much of Kafka's protocol as two real clients need to show it a token (KIP-43, KIP-255)."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

from tests.clients.listening import ListeningService

API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE, METADATA = 18, 17, 36, 3
#: The versions of each request that it reads.
VERSIONS = {API_VERSIONS: (0, 0), SASL_HANDSHAKE: (0, 1), SASL_AUTHENTICATE: (0, 0), METADATA: (0, 1)}

UNSUPPORTED_VERSION, AUTHENTICATION_FAILED = 35, 58


def text(value: str | None) -> bytes:
    return b"\xff\xff" if value is None else struct.pack(">h", len(value)) + value.encode()


def data(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


class Broker(ListeningService):
    """It takes clients with the mechanism OAUTHBEARER, and shows them a cluster without topics."""

    def __init__(self) -> None:
        super().__init__()
        #: The extensions that came with each token.
        self.extensions: list[list[str]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            state: dict[str, Any] = {"let in": False, "refused": False}
            async for api, version, correlation, body in _requests(reader):
                answer = self._answer(api, version, body, state)
                if answer is None:
                    break
                writer.write(data(struct.pack(">i", correlation) + answer))
                await writer.drain()
        self.connected.discard(writer)
        writer.close()

    def _answer(self, api: int, version: int, body: bytes, state: dict[str, Any]) -> bytes | None:
        """Return the answer to a request, or None to end the connection."""
        if api == API_VERSIONS:
            error = 0 if version == 0 else UNSUPPORTED_VERSION
            rows = b"".join(struct.pack(">hhh", key, *span) for key, span in VERSIONS.items())
            return struct.pack(">hi", error, len(VERSIONS)) + rows
        if api == SASL_HANDSHAKE:
            return struct.pack(">hi", 0, 1) + text("OAUTHBEARER")
        if api == SASL_AUTHENTICATE:
            return self._authenticate(body[4:], state)
        if api != METADATA or not state["let in"]:
            return None
        brokers = struct.pack(">ii", 1, 0) + text("127.0.0.1") + struct.pack(">i", self.port)
        controller = b"" if version == 0 else text(None) + struct.pack(">i", 0)
        return brokers + controller + struct.pack(">i", 0)

    def _authenticate(self, message: bytes, state: dict[str, Any]) -> bytes:
        if state["refused"]:
            # The client has acknowledged the reason.
            return struct.pack(">h", AUTHENTICATION_FAILED) + text("invalid token") + data(b"")
        _, token, *extensions = message.decode().strip("\x01").split("\x01")
        self.extensions.append(extensions)
        state["let in"] = self.accepts(token.removeprefix("auth=Bearer "))
        state["refused"] = not state["let in"]
        reason = b'{"status":"invalid_token"}' if state["refused"] else b""
        return struct.pack(">h", 0) + text(None) + data(reason)


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, int, int, bytes]]:
    while True:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        request = await reader.readexactly(size)
        api, version, correlation, named = struct.unpack_from(">hhih", request)
        yield api, version, correlation, request[10 + max(named, 0) :]
