"""Niquests passes the contract of HTTP clients, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import niquests
import pytest
from tests.clients.callers import BlockingCaller, Caller
from tests.clients.contract import at, down
from tests.own_environment import niquests_rows as rows
from tests.test_docs import run

from evertoken.clients import niquests as adapter
from evertoken.clients.niquests import AsyncBearerAuth, BearerAuth

__all__ = ["at", "down"]

DOCS = Path(__file__).parents[2] / "docs"


class TestSession(rows.OfSession):
    def auth(self, handle, **options):
        return BearerAuth(handle, **options)

    @contextlib.asynccontextmanager
    async def client(self, auth):
        with niquests.Session() as session:
            session.trust_env = False
            session.auth = auth

            def send(method, url, body):
                response = session.request(method, url, data=body)
                return response.status_code, response

            yield BlockingCaller(send)


class TestAsyncSession(rows.OfAsyncSession):
    def auth(self, handle, **options):
        return AsyncBearerAuth(handle, **options)

    @contextlib.asynccontextmanager
    async def client(self, auth):
        async with niquests.AsyncSession() as session:
            session.trust_env = False
            session.auth = auth

            async def send(method, url, body):
                response = await session.request(method, url, data=body)
                return response.status_code, response

            yield Caller(send)


async def test_a_blocking_auth_in_an_async_session(at):
    """U5: the auth of the other kind of session raises and names the right one, before there is a refusal to heal."""
    await at.tokens.get()
    async with niquests.AsyncSession(auth=BearerAuth(at.tokens.handle())) as session:
        session.trust_env = False
        with pytest.raises(RuntimeError, match="AsyncBearerAuth"):
            await session.get(at.wire.url())


@pytest.mark.parametrize("replayable", [True, False])
async def test_files_of_coroutines(at, replayable):
    """U3: a file that coroutines read and wind back is sent again whole; one that cannot be wound back is not."""

    class File:
        def __init__(self) -> None:
            self.file = io.BytesIO(b"x" * 3000)

        async def read(self, size: int = -1) -> bytes:
            return self.file.read(size)

        async def seek(self, position: int) -> int:
            if not replayable:
                raise io.UnsupportedOperation
            return self.file.seek(position)

        async def tell(self) -> int:
            return self.file.tell()

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> bytes:
            if chunk := self.file.read(1000):
                return chunk
            raise StopAsyncIteration

    await at.tokens.get()
    at.api.revoked.add("secret-1")
    async with niquests.AsyncSession(auth=AsyncBearerAuth(at.tokens.handle())) as session:
        session.trust_env = False
        response = await session.post(at.wire.url(), data=File())
    assert response.status_code == (200 if replayable else 401)
    assert [asked.body for asked in at.wire.asked] == [b"x" * 3000] * (2 if replayable else 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_becomes_of_the_refusal(at, stream):
    """U1: the answer to the second request is the caller's, with the refusal in its history."""
    await at.tokens.get()
    at.api.revoked.add("secret-1")
    async with niquests.AsyncSession(auth=AsyncBearerAuth(at.tokens.handle())) as session:
        session.trust_env = False
        response = await session.get(at.wire.url(), stream=stream)
        content = await response.content if stream else response.content
    assert (response.status_code, content) == (200, b"served")
    assert [one.status_code for one in response.history] == [401]


async def test_multiplexed(at):
    """U1: in a multiplexed session the refusal is the caller's, and the next request carries another token."""
    await at.tokens.get()
    at.api.revoked.add("secret-1")

    def ask() -> list[Any]:
        with niquests.Session(multiplexed=True, auth=BearerAuth(at.tokens.handle())) as session:
            session.trust_env = False
            statuses = []
            for _ in range(2):
                response = session.get(at.wire.url())
                session.gather()
                statuses.append(response.status_code)
                if len(statuses) == 1:
                    asyncio.run_coroutine_threadsafe(until_replaced(), loop).result(20.0)
            return statuses

    async def until_replaced() -> None:
        while at.source.fetches < 2:
            await asyncio.sleep(0.01)

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(ask) == [401, 200]


def test_the_table_has_each_of_them():
    """The rows of the table are those that are checked here."""
    assert [one.__mro__[1] for one in (TestSession, TestAsyncSession)] == rows.ADAPTERS


def test_its_program_in_the_guide(tmp_path, monkeypatch):
    """The example of the guide runs as it stands there; the default environment of the tests lacks the library."""
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "how-to" / "http-clients.md").read_text("utf-8")
    section = re.search(r"^## niquests\n.*?(?=^## )", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    program, count = re.subn(r"<!-- not run: .*-->\n", "", section[0])
    assert count == 1
    before = """
<!-- hidden: python
from evertoken import TokenManager
from evertoken.testing import TokenServer
server = TokenServer().start()
API, ORIGIN = server.resource, server.url
tokens = await TokenManager({"api": server.client_credentials()}).start()
-->
"""
    after = """
<!-- hidden: python
await tokens.aclose()
server.stop()
-->
"""
    names = run(f"{before}{program}{after}", "http-clients.md")
    assert names["server"]


@pytest.mark.parametrize("name", adapter.__all__)
def test_public_names(name):
    """Each public name has a docstring, and stands in the reference and in the guide."""
    assert getattr(adapter, name).__doc__
    for page in ("reference/clients.md", "how-to/http-clients.md"):
        assert re.search(rf"\b{name}\b", (DOCS / page).read_text("utf-8")), page
