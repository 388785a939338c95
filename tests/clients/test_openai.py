"""The SDK of OpenAI, against an API on loopback that answers and streams as OpenAI's does."""

from __future__ import annotations

import contextlib
from typing import Any

import openai
from tests.clients.chat_api import HELLO, QUESTION, ChatSdkContract
from tests.clients.contract import Source
from tests.clients.sdk_contract import Service
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidStatus

from evertoken import TokenManager


class TestAsyncOpenAI(ChatSdkContract):
    name = "openai.AsyncOpenAI"
    extra = "httpx2"
    lines = "AsyncOpenAI(api_key='unused', http_client=DefaultAsyncHttpxClient(auth=handle.auth()))"
    without = 3

    def given(self, handle):
        return handle.auth()

    def make(self, given, server):
        http_client = openai.DefaultAsyncHttpxClient(auth=given)
        url = f"{server.url}/v1"
        return openai.AsyncOpenAI(base_url=url, api_key="unused", http_client=http_client, max_retries=0)

    @contextlib.asynccontextmanager
    async def functions(self, given, server):
        async with self.make(given, server) as client:

            async def ask():
                answer = await client.chat.completions.create(model="m", messages=QUESTION)
                assert answer.choices[0].message.content == HELLO

            async def stream():
                chunks = await client.chat.completions.create(model="m", messages=QUESTION, stream=True)
                return [chunk.choices[0].delta.content async for chunk in chunks]

            yield ask, stream


class TestAsyncAzureOpenAI(TestAsyncOpenAI):
    name = "openai.AsyncAzureOpenAI"
    lines = "AsyncAzureOpenAI(azure_ad_token='unused', http_client=DefaultAsyncHttpxClient(auth=handle.auth()))"

    def make(self, given, server):
        return openai.AsyncAzureOpenAI(
            azure_endpoint=server.url,
            api_version="2024-10-21",
            azure_ad_token="unused",
            http_client=openai.DefaultAsyncHttpxClient(auth=given),
            max_retries=0,
        )


class TestOpenAI(ChatSdkContract):
    name = "openai.OpenAI"
    extra = "httpx2"
    lines = "OpenAI(api_key='unused', http_client=DefaultHttpxClient(auth=handle.auth()))"
    without = 3
    blocking = True

    def given(self, handle):
        return handle.auth()

    @contextlib.asynccontextmanager
    async def functions(self, given, server):
        http_client = openai.DefaultHttpxClient(auth=given)
        url = f"{server.url}/v1"
        with openai.OpenAI(base_url=url, api_key="unused", http_client=http_client, max_retries=0) as client:

            def ask():
                answer = client.chat.completions.create(model="m", messages=QUESTION)
                assert answer.choices[0].message.content == HELLO

            def stream():
                chunks = client.chat.completions.create(model="m", messages=QUESTION, stream=True)
                return [chunk.choices[0].delta.content for chunk in chunks]

            yield ask, stream


async def test_realtime():
    """U1: A WebSocket of the SDK asks the function for its token, and `attempt` heals a handshake that was refused."""
    service, events = Service(), '{"type": "session.created", "event_id": "1", "session": {"type": "realtime"}}'

    def judge(connection: Any, request: Any) -> Any:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        return None if service.accepts(token) else connection.respond(401, "who?")

    async def talk(connection: Any) -> None:
        await connection.send(events)
        await connection.wait_closed()

    source = Source()
    async with TokenManager(source) as tokens, serve(talk, "127.0.0.1", 0, process_request=judge) as server:
        service.good = {"secret-1", "secret-2"}
        handle = tokens.handle()
        url = f"//127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        client = openai.AsyncOpenAI(
            base_url=f"http:{url}", websocket_base_url=f"ws:{url}", api_key=handle.access_token, max_retries=0
        )

        async def first_event() -> str:
            async with client.realtime.connect(model="m") as connection:
                return str((await connection.recv()).type)

        def refused(error: Exception) -> bool:
            return isinstance(error, InvalidStatus) and error.response.status_code == 401

        assert await first_event() == "session.created"
        await service.revoke("secret-1")
        assert await handle.attempt(first_event, refused=refused) == "session.created"
        await client.close()
    assert (service.shown, source.fetches) == (["secret-1", "secret-1", "secret-2"], 2)
