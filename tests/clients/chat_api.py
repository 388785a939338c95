"""An API on loopback that answers a chat question, whole or as an event stream, as OpenAI, Anthropic and Google do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, Self

from tests.clients.sdk_contract import SdkContract, Service
from tests.sources.wire import Asked, Wire, http

# An SDK that retries by itself does so at once, and not after half a second.
REFUSAL = {"WWW-Authenticate": 'Bearer error="invalid_token"', "Retry-After-Ms": "1"}

QUESTION: Any = [{"role": "user", "content": "Say hello"}]

#: The answer, and the pieces in which it is streamed.
WORDS = ("He", "llo")
HELLO = "".join(WORDS)

_USAGE = {"input_tokens": 1, "output_tokens": 1}


class ChatApi(Service):
    """The API. It shows by its status and challenge that a token is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire(self.answer)

    @property
    def url(self) -> str:
        return self.wire.url("")

    async def __aenter__(self) -> Self:
        await self.wire.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.wire.__aexit__()

    async def answer(self, asked: Asked, writer: Any) -> bytes:
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not self.accepts(token):
            return http(401, {"error": {"type": "authentication_error", "message": "who?"}}, REFUSAL)
        body = json.loads(asked.body) if asked.body else {}
        path = asked.target.partition("?")[0]
        if path.endswith("/messages"):
            return events(_anthropic_events()) if body.get("stream") else http(200, _message(HELLO))
        if path.endswith("/chat/completions"):
            return events(_openai_events()) if body.get("stream") else http(200, _completion(HELLO))
        if path.endswith(":streamGenerateContent"):
            return events([(None, _candidate(word)) for word in WORDS])
        if path.endswith(":generateContent"):
            return http(200, _candidate(HELLO))
        return http(404, {"error": {"message": path}})


class ChatSdkContract(SdkContract):
    """One more check for SDKs of language models: they heal a stream as well."""

    origins = True

    @contextlib.asynccontextmanager
    async def server(self):
        async with ChatApi() as api:
            yield api

    def functions(self, given: Any, server: ChatApi) -> contextlib.AbstractAsyncContextManager[Any]:
        """Open a client, and give the functions that ask, and that read a stream."""
        raise AssertionError

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async with self.functions(given, server) as (ask, _):
            yield ask

    async def test_streams(self):
        """U1: A revoked token is healed before the first event of a stream, which then comes whole."""
        async with self.setting() as at, self.functions(self.given(at.handle), at.server) as (_, stream):
            found = []
            for _turn in range(2):
                found.append(await asyncio.to_thread(stream) if self.blocking else await stream())
                await at.server.revoke("secret-1")
            assert found == [list(WORDS)] * 2
            assert at.server.shown == ["secret-1", "secret-1", "secret-2"]


def events(pairs: list[tuple[str | None, Any]]) -> bytes:
    lines = [(f"event: {kind}\n" if kind else "") + f"data: {_text(data)}\n\n" for kind, data in pairs]
    return http(200, "".join(lines).encode(), {"content-type": "text/event-stream"})


def _text(data: Any) -> str:
    return data if isinstance(data, str) else json.dumps(data)


def _completion(content: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def _openai_events() -> list[tuple[str | None, Any]]:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    chunks = [{**head, "choices": [{"index": 0, "delta": {"content": word}}]} for word in WORDS]
    return [*((None, chunk) for chunk in chunks), (None, "[DONE]")]


def _message(text: str | None) -> dict[str, Any]:
    content = [] if text is None else [{"type": "text", "text": text}]
    head = {"id": "1", "type": "message", "role": "assistant", "model": "m", "usage": _USAGE}
    return {**head, "content": content, "stop_reason": "end_turn", "stop_sequence": None}


def _anthropic_events() -> list[tuple[str | None, Any]]:
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS
    ]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": _USAGE}
    parts: list[dict[str, Any]] = [
        {"type": "message_start", "message": _message(None)},
        block,
        *deltas,
        {"type": "content_block_stop", "index": 0},
        end,
        {"type": "message_stop"},
    ]
    return [(part["type"], part) for part in parts]


def _candidate(text: str) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}]}
