"""A broker that speaks as much of AMQP 0-9-1 as it takes to log in, and to be told another secret (RabbitMQ)."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Any

from pamqp import frame
from pamqp.commands import Connection
from pamqp.header import ProtocolHeader
from tests.clients.listening import ListeningService

ACCESS_REFUSED, NOT_ALLOWED = 403, 530


class Broker(ListeningService):
    """It takes passwords that are good, ends connections when it is told to, and takes other secrets."""

    def __init__(self) -> None:
        super().__init__()
        #: The secrets that it was told in connections that were open.
        self.told: list[str] = []
        #: Cleared, it lets nobody in.
        self.opens = asyncio.Event()
        self.opens.set()
        #: Set while somebody waits to be let in.
        self.knocked = asyncio.Event()
        #: Cleared, it answers no new secret.
        self.answers = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(len(ProtocolHeader().marshal()))
            _send(writer, Connection.Start(server_properties={"capabilities": {}}, mechanisms="PLAIN"))
            while not writer.is_closing():
                await self._answer(writer, await _read(reader))
        self.connected.discard(writer)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, asked: Any) -> None:
        if isinstance(asked, Connection.StartOk):
            self.knocked.set()
            password = asked.response.rpartition("\x00")[2]
            good = self.accepts(password)
            await self.opens.wait()
            if good:
                _send(writer, Connection.Tune(channel_max=10, frame_max=131072, heartbeat=0))
            else:
                _send(writer, Connection.Close(ACCESS_REFUSED, "ACCESS_REFUSED - Login was refused", 0, 0))
        elif isinstance(asked, Connection.Open):
            _send(writer, Connection.OpenOk())
        elif isinstance(asked, Connection.UpdateSecret):
            secret = str(asked.new_secret)
            self.told.append(secret)
            if self.accepts(secret) and self.answers:
                _send(writer, Connection.UpdateSecretOk())
            elif self.answers:
                _send(writer, Connection.Close(NOT_ALLOWED, "NOT_ALLOWED - New secret was refused", 10, 70))
        elif isinstance(asked, Connection.Close):
            _send(writer, Connection.CloseOk())
            await writer.drain()
            writer.close()
        elif isinstance(asked, Connection.CloseOk):
            writer.close()


def _send(writer: asyncio.StreamWriter, answer: Any) -> None:
    writer.write(frame.marshal(answer, 0))


async def _read(reader: asyncio.StreamReader) -> Any:
    head = await reader.readexactly(7)
    (size,) = struct.unpack(">I", head[3:])
    return frame.unmarshal(head + await reader.readexactly(size + 1))[2]
