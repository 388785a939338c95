"""The servers of the page on SDKs, in a thread: a token endpoint, language models, and an MCP server with its login."""

from __future__ import annotations

import asyncio
import os
import threading
from functools import partial
from typing import Any, Self

from tests.clients.chat_api import ChatApi
from tests.clients.mcp_server import CLIENT, McpService, MemoryStorage, Person, login
from tests.sources.wire import Asked, granted


class _Gateway(ChatApi):
    """The language models, and a token endpoint whose tokens both servers know."""

    def __init__(self, mcp: McpService) -> None:
        super().__init__()
        self.mcp = mcp
        self.issued = 0

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        if asked.target != "/token":
            return await super().answer(asked, writer)
        self.issued += 1
        for service in (self, self.mcp):
            await service.issue(f"token-{self.issued}")
        return granted(access_token=f"token-{self.issued}")


class Served:
    """Start the servers, and name their addresses in the environment, as the programs of the page want them."""

    def __enter__(self) -> Self:
        self.mcp = McpService()
        self.gateway = _Gateway(self.mcp)
        self._started, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), daemon=True)
        self._thread.start()
        self._started.wait()
        os.environ["TOKEN_URL"] = f"{self.gateway.url}/token"
        os.environ["MODEL_URL"] = self.gateway.url
        os.environ["MCP_URL"] = self.mcp.url
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        for name in ("TOKEN_URL", "MODEL_URL", "MCP_URL"):
            del os.environ[name]

    def person(self) -> tuple[Any, ...]:
        """Return the issuer, a client that is registered there, and what a person does who logs in."""
        self.mcp.clients[CLIENT.client_id] = CLIENT
        person = Person()
        return self.mcp.origin, CLIENT, person.open_browser, person.receive_code

    def storage(self) -> tuple[Any, ...]:
        """Return an empty token storage, and a function that makes the provider of the MCP SDK with one."""
        return MemoryStorage(), partial(login, self.mcp.url)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self.gateway, self.mcp:
            self._started.set()
            await self._stop.wait()
