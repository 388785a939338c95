"""The SDK of Anthropic, against an API on loopback that answers and streams as Anthropic's does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import anthropic
import pytest
from tests.clients.chat_api import HELLO, QUESTION, ChatApi, ChatSdkContract
from tests.clients.contract import Source

from evertoken import OriginRefused, Token, TokenManager
from evertoken.clients.anthropic import Credentials, SyncCredentials


class TestAsyncAnthropic(ChatSdkContract):
    name = "anthropic.AsyncAnthropic"
    extra = "anthropic"
    lines = "AsyncAnthropic(credentials=Credentials(handle))"
    without = 6

    def given(self, handle):
        return Credentials(handle)

    @contextlib.asynccontextmanager
    async def functions(self, given, server):
        clients: list[Any] = []

        def client():
            # The address is refused as soon as a client is made, and that is a part of the call here.
            if not clients:
                clients.append(anthropic.AsyncAnthropic(base_url=server.url, credentials=given, max_retries=1))
            return clients[0]

        async def ask():
            answer: Any = await client().messages.create(model="m", max_tokens=9, messages=QUESTION)
            assert answer.content[0].text == HELLO
            assert server.wire.asked[-1].headers["anthropic-beta"].startswith("oauth-")

        async def stream():
            async with client().messages.stream(model="m", max_tokens=9, messages=QUESTION) as found:
                return [text async for text in found.text_stream]

        yield ask, stream
        for one in clients:
            await one.close()


class TestAnthropic(ChatSdkContract):
    name = "anthropic.Anthropic"
    extra = "anthropic"
    lines = "Anthropic(credentials=SyncCredentials(handle))"
    without = 6
    blocking = True

    def given(self, handle):
        return SyncCredentials(handle)

    @contextlib.asynccontextmanager
    async def functions(self, given, server):
        clients: list[Any] = []

        def client():
            if not clients:
                clients.append(anthropic.Anthropic(base_url=server.url, credentials=given, max_retries=1))
            return clients[0]

        def ask():
            answer: Any = client().messages.create(model="m", max_tokens=9, messages=QUESTION)
            assert answer.content[0].text == HELLO

        def stream():
            with client().messages.stream(model="m", max_tokens=9, messages=QUESTION) as found:
                return list(found.text_stream)

        yield ask, stream
        for one in clients:
            one.close()


class TestAnthropicOverHttp(TestAsyncAnthropic):
    name = "anthropic.AsyncAnthropic, through its HTTP client"
    extra = "httpx2"
    lines = "AsyncAnthropic(auth_token='unused', http_client=DefaultAsyncHttpxClient(auth=handle.auth()))"
    without = 3

    def given(self, handle):
        return handle.auth()

    @contextlib.asynccontextmanager
    async def functions(self, given, server):
        http_client = anthropic.DefaultAsyncHttpxClient(auth=given)
        async with anthropic.AsyncAnthropic(
            base_url=server.url, auth_token="unused", http_client=http_client, max_retries=0
        ) as client:

            async def ask():
                answer: Any = await client.messages.create(model="m", max_tokens=9, messages=QUESTION)
                assert answer.content[0].text == HELLO

            async def stream():
                async with client.messages.stream(model="m", max_tokens=9, messages=QUESTION) as found:
                    return [text async for text in found.text_stream]

            yield ask, stream


@pytest.mark.parametrize("kind", [Credentials, SyncCredentials])
async def test_credentials_are_not_sent_in_the_clear(kind):
    """U4: A client with a plain http address outside loopback is not made, unless that is asked for."""
    async with TestAsyncAnthropic().setting() as at:
        with pytest.raises(OriginRefused, match="in the clear"):
            kind(at.handle).for_base_url("http://api.example.com")
        with pytest.raises(ValueError, match="in the clear"):
            kind(at.handle, origins=["http://api.example.com"])
        found = kind(at.handle, allow_http=True)
        assert found.for_base_url("http://api.example.com") is found
        assert "example" in repr(found)


async def test_a_lasting_refusal_costs_one_fetch():
    """U1: Where every token is refused, the SDK's error is the caller's, and no fetch follows another."""
    async with TestAsyncAnthropic().setting() as at, ChatApi() as refusing:
        client = anthropic.AsyncAnthropic(base_url=refusing.url, credentials=Credentials(at.handle), max_retries=1)
        for _turn in range(2):
            with pytest.raises(anthropic.AuthenticationError):
                await client.messages.create(model="m", max_tokens=9, messages=QUESTION)
        assert at.source.fetches == 2
        await client.close()


async def test_clients_of_one_origin_share_credentials():
    """U1: Two clients that were refused one token after the other cost one fetch between them."""
    async with TestAsyncAnthropic().setting() as at:
        shared = Credentials(at.handle)
        first, second = (
            anthropic.AsyncAnthropic(base_url=at.server.url, credentials=shared, max_retries=1) for _ in range(2)
        )
        for client in (first, second):
            await client.messages.create(model="m", max_tokens=9, messages=QUESTION)
        await at.server.revoke("secret-1")
        for client in (first, second):
            await client.messages.create(model="m", max_tokens=9, messages=QUESTION)
            await client.close()
        assert at.source.fetches == 2


@pytest.mark.parametrize("kind", [Credentials, SyncCredentials])
async def test_life_that_is_left(kind):
    """R2: A token with less life than `min_ttl` asks for is not handed out."""
    short = Token("short", issued_at=time.time() - 300.0, expires_at=time.time() + 600.0)
    async with TokenManager(Source(), initial=short) as tokens:
        for least, wanted in ((300.0, "short"), (1000.0, "secret-1")):
            credentials: Any = kind(tokens.handle(), min_ttl=least)
            found = await (credentials() if kind is Credentials else asyncio.to_thread(credentials))
            assert (found.token, found.expires_at) == (wanted, 0)
