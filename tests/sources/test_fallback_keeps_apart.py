"""S2, K5: a fallback never shows the token of one of its sources to another."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.gated import virtual

from evertoken import CallableSource, TokenManager, TransientRefreshError
from evertoken.sources import ClientCredentials, Fallback, OAuthClient, RefreshToken
from evertoken.stores import MemoryStore


class Server:
    """An authorization server that records the refresh tokens it receives."""

    def __init__(self, name: str) -> None:
        self.name, self.down = name, False
        self.shown: list[str] = []
        self.revoked: list[str] = []
        self.issued = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            return httpx.Response(503)
        form = dict(httpx.QueryParams(request.content.decode()))
        if request.url.path == "/revoke":
            self.revoked.append(form["token"])
            return httpx.Response(200)
        self.issued += 1
        answer: dict[str, Any] = {"access_token": f"at-{self.name}-{self.issued}", "expires_in": 600}
        if "refresh_token" in form:
            self.shown.append(form["refresh_token"])
            if self.name == "a":
                answer["refresh_token"] = "kept-of-a"
        return httpx.Response(200, json=answer)

    def client(self) -> OAuthClient:
        return OAuthClient(
            token_endpoint=f"https://{self.name}.example/token",
            revocation_endpoint=f"https://{self.name}.example/revoke",
            client_id=self.name,
            client_secret="secret",
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self)),
        )


@virtual
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("turns", ["ab", "aab", "aba", "abab", "ba", "bab"])
async def test_refresh_tokens(clock, turns, shared):
    """S2: each server receives only its own refresh token, and the other's is not kept beside its token."""
    servers = {name: Server(name) for name in "ab"}
    sources = [RefreshToken(servers[name].client(), f"first-of-{name}", rotates=False) for name in "ab"]
    store = MemoryStore(clock=clock) if shared else None
    async with TokenManager(Fallback(*sources), store=store, namespace="", clock=clock) as tokens:
        for turn in turns:
            for name, server in servers.items():
                server.down = name != turn
            token = await tokens.refresh()
            assert token.access_token.startswith(f"at-{turn}-")
            assert token.refresh_token in {None, "kept-of-a" if turn == "a" else None}
    assert {shown.rpartition("-")[2] for shown in servers["a"].shown} <= {"a"}
    assert {shown.rpartition("-")[2] for shown in servers["b"].shown} <= {"b"}


@virtual
@pytest.mark.parametrize("revoked", ["k1", "k2"])
async def test_each_is_revoked_where_it_came_from(clock, revoked):
    """S2: one fallback serves two keys from two servers; each token is revoked at its own."""
    servers = {name: Server(name) for name in "ab"}
    both = Fallback(*(ClientCredentials(server.client()) for server in servers.values()))
    async with TokenManager(source_for=lambda _: both, clock=clock) as tokens:
        await tokens.get("k1")
        servers["a"].down = True
        await tokens.get("k2")
        servers["a"].down = False
        await tokens.revoke(revoked)
    assert servers["a"].revoked == (["at-a-1"] if revoked == "k1" else [])
    assert servers["b"].revoked == (["at-b-1"] if revoked == "k2" else [])


@virtual
async def test_a_token_of_another_process(clock):
    """S2: a token from the store, of which nobody here knows the source, is shown to no server."""
    servers = {name: Server(name) for name in "ab"}
    store = MemoryStore(clock=clock)

    def both() -> Fallback[Any]:
        return Fallback(*(ClientCredentials(server.client()) for server in servers.values()))

    async with TokenManager(both(), store=store, clock=clock) as tokens:
        await tokens.get()
    async with TokenManager(both(), store=store, clock=clock) as tokens:
        await tokens.get()
        with pytest.raises(TransientRefreshError, match="not known which of 1, 2 gave this token"):
            await tokens.revoke()
    assert servers["a"].revoked == servers["b"].revoked == []


@virtual
async def test_a_parent_of_the_same_manager(clock):
    """F6: what a source of a fallback asks the manager for is not queued behind the fetch that it is part of."""

    def source_for(key: str) -> Any:
        async def parent() -> tuple[str, float]:
            return "parent", 600.0

        async def child() -> tuple[str, float]:
            return f"{(await tokens.get('parent')).access_token}-of-{key}", 600.0

        return parent if key == "parent" else Fallback(CallableSource(child), CallableSource(parent))

    tokens = TokenManager(source_for=source_for, clock=clock, concurrency=4)
    async with tokens:
        begun = clock.monotonic()
        found = await asyncio.gather(*(tokens.get(f"child-{number}") for number in range(4)))
        assert [one.access_token for one in found] == [f"parent-of-child-{number}" for number in range(4)]
        assert clock.monotonic() - begun < 1.0


@virtual
async def test_a_source_that_cancels_itself(clock):
    """F5: a source that raises CancelledError by itself has failed, and the next one is asked."""

    async def cancels() -> str:
        raise asyncio.CancelledError

    async def works() -> tuple[str, float]:
        return "works", 60.0

    async with TokenManager(Fallback(cancels, works), clock=clock) as tokens:
        assert (await tokens.get()).access_token == "works"
