"""The SDK of Google's models, against an API on loopback that answers and streams as Vertex AI does."""

from __future__ import annotations

import contextlib
from typing import ClassVar

import httpx2
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials
from tests.clients.chat_api import HELLO, ChatSdkContract


class _Genai(ChatSdkContract):
    library: ClassVar[str | None] = "google-genai"
    extra = "httpx2"
    without = 14

    def given(self, handle):
        return handle.auth()

    def make(self, server, **http_clients):
        return genai.Client(
            vertexai=True,
            project="p",
            location="europe-west1",
            credentials=Credentials("-"),
            http_options=types.HttpOptions(base_url=server.url, **http_clients),
        )


class TestAsyncGenai(_Genai):
    name = "google.genai.Client().aio"
    lines = (
        "options = HttpOptions(httpx_async_client=httpx2.AsyncClient(auth=handle.auth()))\n"
        "genai.Client(vertexai=True, project=p, location=l, credentials=Credentials('-'), http_options=options).aio"
    )

    @contextlib.asynccontextmanager
    async def functions(self, given, server):
        async with httpx2.AsyncClient(auth=given) as http_client:
            client = self.make(server, httpx_async_client=http_client)

            async def ask():
                assert (await client.aio.models.generate_content(model="m", contents="hi")).text == HELLO

            async def stream():
                chunks = await client.aio.models.generate_content_stream(model="m", contents="hi")
                return [chunk.text async for chunk in chunks]

            yield ask, stream
            client.close()


class TestGenai(_Genai):
    name = "google.genai.Client()"
    lines = (
        "options = HttpOptions(httpx_client=httpx2.Client(auth=handle.auth()))\n"
        "genai.Client(vertexai=True, project=p, location=l, credentials=Credentials('-'), http_options=options)"
    )
    blocking = True

    @contextlib.asynccontextmanager
    async def functions(self, given, server):
        with httpx2.Client(auth=given) as http_client:
            client = self.make(server, httpx_client=http_client)

            def ask():
                assert client.models.generate_content(model="m", contents="hi").text == HELLO

            def stream():
                return [chunk.text for chunk in client.models.generate_content_stream(model="m", contents="hi")]

            yield ask, stream
