"""The SDK of OpenAI, against an API on loopback that answers and streams as OpenAI's does."""

from __future__ import annotations

import contextlib

import openai
from tests.clients.chat_api import HELLO, QUESTION, ChatSdkContract


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
