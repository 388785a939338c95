"""websockets: a reconnect, that is a handshake and its end, with the server in the same process."""

from __future__ import annotations

import contextlib
from typing import Any

from websockets.asyncio.client import connect as theirs
from websockets.asyncio.server import serve

from evertoken.clients.websockets import connect as ours


@contextlib.asynccontextmanager
async def pair(tokens):
    handle, fields = tokens.handle(), {"Authorization": "Bearer token"}

    async def greet(connection: Any) -> None:
        assert connection.request.headers["Authorization"] == "Bearer token"

    async with serve(greet, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        static, live = theirs(uri, additional_headers=fields, proxy=None), ours(handle, uri, proxy=None)

        async def ask_static():
            async with static:
                pass

        async def ask_ours():
            async with live:
                pass

        yield ask_static, ask_ours


PAIRS = {"websockets.connect": pair}
