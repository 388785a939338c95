"""SDKs of language models, with a transport in memory, through the hook that heals."""

from __future__ import annotations

import contextlib
from typing import Any

import anthropic
import httpx2
import openai
from anthropic.lib.credentials import AccessToken, StaticToken
from tests.benchmarks.adapters.callables import ANSWER, QUESTION

from evertoken.clients.anthropic import Credentials, SyncCredentials

MESSAGE = {
    "id": "1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
URL = "https://api.example.com"


def answer(request: Any) -> httpx2.Response:
    assert request.headers["authorization"] == "Bearer token"
    return httpx2.Response(200, json=MESSAGE if request.url.path.endswith("/messages") else ANSWER)


@contextlib.asynccontextmanager
async def of_openai(tokens):
    transport = httpx2.MockTransport(answer)
    static = openai.DefaultAsyncHttpxClient(transport=transport)
    healing = openai.DefaultAsyncHttpxClient(transport=transport, auth=tokens.auth())
    async with (
        openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="token", http_client=static) as theirs,
        openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="unused", http_client=healing) as ours,
    ):

        async def ask_static():
            await theirs.chat.completions.create(model="m", messages=QUESTION)

        async def ask_ours():
            await ours.chat.completions.create(model="m", messages=QUESTION)

        yield ask_static, ask_ours


@contextlib.asynccontextmanager
async def of_anthropic(tokens):
    def client(credentials: Any) -> anthropic.AsyncAnthropic:
        http_client = anthropic.DefaultAsyncHttpxClient(transport=httpx2.MockTransport(answer))
        return anthropic.AsyncAnthropic(base_url=URL, credentials=credentials, http_client=http_client)

    async def static(*, force_refresh: bool = False) -> AccessToken:
        return AccessToken("token")

    async with client(static) as theirs, client(Credentials(tokens.handle())) as ours:

        async def ask_static():
            await theirs.messages.create(model="m", max_tokens=9, messages=QUESTION)

        async def ask_ours():
            await ours.messages.create(model="m", max_tokens=9, messages=QUESTION)

        yield ask_static, ask_ours


@contextlib.asynccontextmanager
async def of_anthropic_sync(tokens):
    def client(credentials: Any) -> anthropic.Anthropic:
        http_client = anthropic.DefaultHttpxClient(transport=httpx2.MockTransport(answer))
        return anthropic.Anthropic(base_url=URL, credentials=credentials, http_client=http_client)

    with client(StaticToken("token")) as theirs, client(SyncCredentials(tokens.handle())) as ours:
        yield (
            lambda: theirs.messages.create(model="m", max_tokens=9, messages=QUESTION),
            lambda: ours.messages.create(model="m", max_tokens=9, messages=QUESTION),
        )


PAIRS = {
    "openai.AsyncOpenAI(http_client=)": of_openai,
    "anthropic.AsyncAnthropic(credentials=)": of_anthropic,
    "anthropic.Anthropic(credentials=)": of_anthropic_sync,
}
