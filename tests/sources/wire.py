"""
A server of bytes on loopback: it records its requests, and sends any answer that the test gives it, broken or not.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl

from evertoken import FetchRequest, Token

Handler = Callable[["Asked", asyncio.StreamWriter], Awaitable[bytes | None]]


@dataclass
class Asked:
    """One request as it came over the wire."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.fields)

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)


@dataclass
class Wire:
    """Answers each request with what *handler* returns; a handler that returns None has written for itself."""

    handler: Handler
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[Any]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for _turn in range(3):
            # Connections that were open until now are closed in the loop's next turns.
            await asyncio.sleep(0)

    def url(self, path: str = "/token") -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while (asked := await read_request(reader)) is not None:
                self.asked.append(asked)
                answered = await self.handler(asked, writer)
                if answered is not None:
                    writer.write(answered)
                    await writer.drain()
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Asked | None:
    first = await reader.readline()
    if not first:
        return None
    method, target, _ = first.decode().split(" ", 2)
    fields = []
    while (line := (await reader.readline()).decode().rstrip("\r\n")) != "":
        name, _, value = line.partition(":")
        fields.append((name.strip().lower(), value.strip()))
    headers = dict(fields)
    body = b""
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    return Asked(method, target, fields, body)


def http(status: int = 200, body: bytes | dict[str, Any] = b"", headers: dict[str, str] | None = None) -> bytes:
    given = {name.lower(): value for name, value in (headers or {}).items()}
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        given.setdefault("content-type", "application/json")
    given.setdefault("content-length", str(len(body)))
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def always(answered: bytes) -> Handler:
    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> bytes:
        return answered

    return handler


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with an RST."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def granted(**fields: Any) -> bytes:
    return http(body={"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600, **fields})


def a_request(current: Token | None = None, timeout: float = 5.0) -> FetchRequest:
    return FetchRequest(None, current, timeout)


OF_GRANTS = {"audience", "grace", "on_ambiguous", "parameters", "refresh_token", "resource", "rotates", "scope"}


def divided(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two parts of *options*: the arguments of the client, and those of the grant."""
    if "client" in options:
        options["http_client"] = options.pop("client")
    return (
        {name: value for name, value in options.items() if name not in OF_GRANTS},
        {name: value for name, value in options.items() if name in OF_GRANTS},
    )
