"""Libraries that take a function that returns the token: openai is one of them."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx2
import openai

QUESTION: Any = [{"role": "user", "content": "Say hello"}]
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}


def answer(request: Any) -> httpx2.Response:
    assert request.headers["authorization"] == "Bearer token"
    return httpx2.Response(200, json=ANSWER)


@contextlib.asynccontextmanager
async def of_async(tokens):
    async def static() -> str:
        return "token"

    def client(api_key: Any) -> openai.AsyncOpenAI:
        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        return openai.AsyncOpenAI(base_url="https://api.example.com/v1", api_key=api_key, http_client=http_client)

    async with client(static) as theirs, client(tokens.handle().access_token) as ours:

        async def ask_static():
            await theirs.chat.completions.create(model="m", messages=QUESTION)

        async def ask_ours():
            await ours.chat.completions.create(model="m", messages=QUESTION)

        yield ask_static, ask_ours


@contextlib.asynccontextmanager
async def of_sync(tokens):
    def client(api_key: Any) -> openai.OpenAI:
        http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
        return openai.OpenAI(base_url="https://api.example.com/v1", api_key=api_key, http_client=http_client)

    with client(lambda: "token") as theirs, client(tokens.handle().access_token_sync) as ours:
        yield (
            lambda: theirs.chat.completions.create(model="m", messages=QUESTION),
            lambda: ours.chat.completions.create(model="m", messages=QUESTION),
        )


PAIRS = {
    "openai.AsyncOpenAI(api_key=handle.access_token)": of_async,
    "openai.OpenAI(api_key=handle.access_token_sync)": of_sync,
}
