"""Requests that need a token with some life left, and the tokens they get after a refusal."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from tests.clients.contract import Source
from tests.gated import virtual

from evertoken import DPoPKey, RefreshPolicy, Token, TokenManager
from evertoken.clients.httpx import BearerAuth, DPoPAuth, HeaderAuth, SigV4Auth

POLICY = RefreshPolicy(lead_fraction=0.01)


def short_lived() -> Token:
    now = time.time()
    return Token("secret-0", issued_at=now - 3500.0, expires_at=now + 100.0)


@virtual
async def test_what_replaces_a_refused_token(clock):
    """U1, R2: if a long request is refused at its end, the token of the second one lives long enough too."""
    sent: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Authorization"])
        if len(sent) > 1:
            return httpx.Response(200)
        # Meanwhile the token is refreshed, and most of the life of the next one goes by.
        await clock.advance(5400.0)
        return httpx.Response(401)

    policy = RefreshPolicy(lead_fraction=0.2, jitter=0.0)
    async with TokenManager(Source(), policy=policy, clock=clock) as tokens:
        for min_ttl, again in ((None, "secret-2"), (1800.0, "secret-5")):
            transport = httpx.MockTransport(answer)
            async with httpx.AsyncClient(auth=tokens.auth(min_ttl=min_ttl), transport=transport) as client:
                assert (await client.get("https://api.example.com")).status_code == 200
            assert sent.pop() == f"Bearer {again}"
            sent.clear()


def test_what_replaces_a_refused_token_in_a_thread():
    """U1, R2: it is asked for again by the sync reader as well."""
    asked: list[float] = []

    class Handle:
        def get_sync(self, *, min_ttl: float) -> Token:
            asked.append(min_ttl)
            return Token(f"secret-{len(asked)}", issued_at=0.0)

        def refused_sync(self, token: Token, *, wait: bool) -> Token:
            return Token("short-lived", issued_at=0.0)

    reader: Any = Handle()
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Authorization"])
        return httpx.Response(401 if len(sent) == 1 else 200)

    with httpx.Client(auth=BearerAuth(reader, min_ttl=600.0), transport=httpx.MockTransport(answer)) as client:
        assert client.get("https://api.example.com").status_code == 200
    assert sent == ["Bearer secret-1", "Bearer secret-2"]
    assert asked == [600.0, 600.0]


async def test_a_body_that_is_not_sent_again_waits_for_no_token():
    """U3: where the request is not sent again, the refusal is reported and no long life is asked for."""
    source = Source()
    async with TokenManager(source, policy=POLICY) as tokens:
        await tokens.get()

        # Not httpx.MockTransport, which reads the body, so that it can be sent again.
        class Refusing(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                assert [piece async for piece in request.stream] == [b"one"]  # type: ignore[union-attr]
                await tokens.put(short_lived())
                return httpx.Response(401)

        async def body() -> Any:
            yield b"one"

        auth = tokens.handle().auth(min_ttl=600.0)
        async with httpx.AsyncClient(auth=auth, transport=Refusing()) as client:
            response = await client.post("https://api.example.com", content=body())
        assert response.status_code == 401
        assert source.fetches == 1


def test_every_auth_of_httpx_takes_it():
    """R2: each class checks `min_ttl` when it is made, and names it."""
    handle = TokenManager(Source()).handle()
    makers = (
        lambda **options: BearerAuth(handle, **options),
        lambda **options: HeaderAuth(handle, "X-Api-Key", **options),
        lambda **options: DPoPAuth(handle, DPoPKey(), **options),
        lambda **options: SigV4Auth(handle, service="s3", region="eu-west-1", **options),
    )
    for make in makers:
        with pytest.raises(ValueError, match="min_ttl must be a number of seconds"):
            make(min_ttl="600")
        assert make(min_ttl=600)
