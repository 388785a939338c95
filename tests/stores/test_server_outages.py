"""
A real Valkey that goes, comes back, forgets, and a wire to it that is cut, slow or silent, under managers at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis.asyncio as redis_asyncio
from tests.gated import Suspended, at_once
from tests.stores.proxy import Proxy
from tests.stores.servers import valkey

from evertoken import TokenError, TokenManager
from evertoken.stores import RedisStore, _redis_url
from evertoken.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.stores.servers import Server

    from evertoken import Token

pytestmark = pytest.mark.breakage


@pytest.fixture
def store_server() -> Iterator[Server]:
    with valkey() as server:
        yield server


@pytest.fixture
def idp() -> Iterator[TokenServer]:
    with TokenServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_url, "SOCKET_TIMEOUT", 0.5)


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while True:
        done = condition()
        if asyncio.iscoroutine(done):
            done = await done
        if done:
            return
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)


async def refreshed(tokens: TokenManager[Any, None], first: Token) -> bool:
    """Ask for a new token, and tell whether there is another than *first*."""
    with contextlib.suppress(TokenError):
        return await tokens.refresh() != first
    return False


@contextlib.asynccontextmanager
async def working(tokens: TokenManager[Any, None], idp: TokenServer) -> AsyncIterator[list[Any]]:
    """Send requests all the time; give what did not end in 200."""
    bad: list[Any] = []

    async def work(client: httpx.AsyncClient) -> None:
        while True:
            try:
                status = (await client.get(idp.resource)).status_code
                if status != 200:
                    bad.append(status)
            except (TokenError, httpx.HTTPError) as error:
                bad.append(error)
            await asyncio.sleep(0.01)

    async with httpx.AsyncClient(auth=tokens.auth()) as client:
        task = asyncio.create_task(work(client))
        try:
            yield bad
        finally:
            task.cancel()
            await asyncio.wait([task])


async def version_in(port: int) -> int:
    """
    Return the version that the store keeps, by a connection of its own, or zero without a record or without a store.
    """
    try:
        async with RedisStore(url(port)) as store:
            # The records of the namespace "". The part of the name that an identity adds does not matter here.
            records = [await store.read(key) async for key in store.keys() if key.startswith('["",')]  # noqa: SIM118
    except (OSError, redis_asyncio.RedisError):
        return 0
    return max((record.version for record in records if record is not None), default=0)


@pytest.mark.parametrize("how", ["stopped", "cut", "slow", "silent"])
async def test_minted_tokens_do_not_notice(store_server, idp, how):
    """
    K3: in every outage of the store, each request has a token that may be minted freely, and the store gets it later.
    """
    idp.lifetime = 1.5
    async with (
        Proxy(store_server.port) as proxy,
        TokenManager(
            idp.client_credentials(), store=RedisStore(url(proxy.port)), namespace="", start="require"
        ) as tokens,
        working(tokens, idp) as bad,
    ):
        await until(lambda: idp.stats.token_requests >= 2, "a refresh")
        if how == "stopped":
            await asyncio.to_thread(store_server.stop)
        else:
            proxy.set(how)
        before = idp.stats.token_requests
        await until(lambda: idp.stats.token_requests >= before + 3, "refreshes without a store")
        if how == "stopped":
            await asyncio.to_thread(store_server.start)
        proxy.set("pass")
        kept = await version_in(store_server.port)

        async def repaired() -> bool:
            return await version_in(store_server.port) > kept

        await until(repaired, "the store is told again")
        assert bad == []
        await until(lambda: tokens.snapshot().keys[None].kept, "kept")


@pytest.mark.parametrize("how", ["full", "read-only"])
async def test_a_store_that_takes_no_writes(store_server, idp, how):
    """K3: a server out of memory, or a replica, is a store that is down: minted ones serve, rotating ones wait."""
    settings = {
        "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        "read-only": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    }
    break_it, mend_it = settings[how]
    idp.lifetime = 1.5
    rotating = idp.refresh_token(rotates=True)
    async with (
        redis_asyncio.Redis(port=store_server.port) as client,
        TokenManager(
            idp.client_credentials(), store=RedisStore(url(store_server.port)), namespace="", start="require"
        ) as tokens,
        TokenManager(
            rotating, store=RedisStore(url(store_server.port)), namespace="rotating", start="require"
        ) as logins,
        working(tokens, idp) as bad,
    ):
        before = idp.stats.token_requests
        await client.execute_command(*break_it)
        with pytest.raises(TokenError):
            await logins.refresh()
        await until(lambda: idp.stats.token_requests >= before + 3, "refreshes without a store")
        assert len({request.grant_type for request in idp.requests[before:]}) == 1
        await client.execute_command(*mend_it)
        kept = await version_in(store_server.port)

        async def repaired() -> bool:
            return await version_in(store_server.port) > kept

        await until(repaired, "the store is told again")
        await until(lambda: tokens.snapshot().keys[None].kept, "kept")
        assert (await logins.get(timeout=30.0)).valid_at(time.time())
    assert bad == []
    assert idp.stats.replays == 0


async def test_a_slow_wire_under_rotating_ones(store_server, idp, monkeypatch):
    """
    K3: on a slow wire to the store, callers with a valid token never wait, and no refresh token is presented twice.
    """
    # Slow is not down, here.
    monkeypatch.setattr(_redis_url, "SOCKET_TIMEOUT", 4.0)
    idp.lifetime = 5.0
    async with (
        Proxy(store_server.port) as proxy,
        TokenManager(
            idp.refresh_token(rotates=True), store=RedisStore(url(proxy.port)), namespace="", start="require"
        ) as tokens,
    ):
        proxy.delay = 0.05
        proxy.set("slow")
        end = time.monotonic() + 30.0
        while idp.stats.token_requests < 3:
            assert time.monotonic() < end
            valid = tokens.peek()
            try:
                at_once(tokens.get())
            except Suspended:
                assert valid is None or not valid.valid_at(time.time())
            await asyncio.sleep(0.01)
    assert idp.stats.replays == 0


@pytest.mark.parametrize("how", ["stopped", "cut", "silent"])
async def test_rotating_ones_are_served_and_not_spent(store_server, idp, how):
    """K3: without the lease nobody presents a refresh token that rotates; the valid token serves; then it goes on."""
    source = idp.refresh_token(rotates=True)
    async with (
        Proxy(store_server.port) as proxy,
        TokenManager(source, store=RedisStore(url(proxy.port)), namespace="", start="require") as tokens,
        working(tokens, idp) as bad,
    ):
        first = await tokens.get()
        if how == "stopped":
            await asyncio.to_thread(store_server.stop)
        else:
            proxy.set(how)
        with pytest.raises(TokenError):
            await tokens.refresh()
        assert await tokens.get() == first
        assert idp.stats.token_requests == 1
        if how == "stopped":
            await asyncio.to_thread(store_server.start)
        proxy.set("pass")

        await until(lambda: refreshed(tokens, first), "a refresh with the store")
        assert (bad, idp.stats.replays) == ([], 0)
        assert tokens.snapshot().keys[None].kept


async def test_gone_for_thirty_seconds_and_empty_after(store_server, idp):
    """K3: an outage of many lifetimes fails no request, spends no refresh token, and is repaired from memory."""
    idp.lifetime = 3.0
    address = url(store_server.port)
    with TokenServer(lifetime=120.0) as login_server:
        rotating = login_server.refresh_token(rotates=True)
        async with (
            TokenManager(idp.client_credentials(), store=RedisStore(address), namespace="", start="require") as minted,
            TokenManager(rotating, store=RedisStore(address), namespace="rotating", start="require") as logins,
            working(minted, idp) as bad,
            working(logins, login_server) as worse,
        ):
            first = await logins.get()
            await asyncio.to_thread(store_server.stop)
            before, end = idp.stats.token_requests, time.monotonic() + 30.0
            while time.monotonic() < end:
                with pytest.raises(TokenError):
                    await logins.refresh()
                await asyncio.sleep(3.0)
            assert idp.stats.token_requests >= before + 8
            assert (await logins.get(), login_server.stats.token_requests) == (first, 1)
            await asyncio.to_thread(store_server.start)
            async with redis_asyncio.Redis(port=store_server.port) as client:
                await client.flushall()

            await until(lambda: refreshed(logins, first), "a refresh with the store")
            await until(lambda: logins.snapshot().keys[None].kept and minted.snapshot().keys[None].kept, "kept")
        assert (bad, worse, login_server.stats.replays) == ([], [], 0)


@pytest.mark.parametrize("how", ["stopped", "cut"])
async def test_watching_goes_on(store_server, idp, how):
    """K2, K3: after the server or the wire was gone, a peer again adopts at once, and is signed out at once."""
    source = idp.client_credentials()
    async with (
        Proxy(store_server.port) as proxy,
        TokenManager(source, store=RedisStore(url(proxy.port)), namespace="", start="require") as one,
        TokenManager(source, store=RedisStore(url(proxy.port)), namespace="", start="require") as other,
    ):
        assert await one.get() == await other.get()
        if how == "stopped":
            await asyncio.to_thread(store_server.stop)
            await asyncio.to_thread(store_server.start)
        else:
            proxy.set("cut")
            await asyncio.sleep(0.1)
            proxy.set("pass")

        async def refreshed() -> bool:
            with contextlib.suppress(TokenError):
                await one.refresh()
            return one.snapshot().keys[None].kept and idp.stats.token_requests > 1

        await until(refreshed, "a refresh that is kept")
        await until(lambda: other.peek() == one.peek(), "found by the watch that begins anew")
        newest = await one.refresh()
        # Without a watch it would be when the token is due, in most of an hour.
        await until(lambda: other.peek() == newest, "adopted")
        await one.revoke()
        await until(lambda: other.peek() is None, "signed out")


async def test_flushed(store_server, idp):
    """K3: a store that forgot everything is told again by who knows most, and no spent refresh token is presented."""
    first_login = idp.refresh_token(rotates=True)
    async with (
        TokenManager(first_login, store=RedisStore(url(store_server.port)), namespace="", start="require") as one,
        TokenManager(first_login, store=RedisStore(url(store_server.port)), namespace="", start="require") as other,
        working(one, idp) as bad,
    ):
        await one.refresh()
        await until(lambda: other.peek() == one.peek(), "adopted")
        async with redis_asyncio.Redis(port=store_server.port) as client:
            await client.flushall()
        newest = await other.refresh()
        await until(lambda: one.peek() == newest, "adopted after the flush")
        assert await version_in(store_server.port) > 0
        assert (bad, idp.stats.replays) == ([], 0)


async def test_flushed_while_all_were_away(store_server, idp):
    """
    K3: the store keeps all acknowledged writes: with the log of the server intact, a restart of both needs no login.
    """
    source = idp.refresh_token(rotates=True)
    async with TokenManager(source, store=RedisStore(url(store_server.port)), namespace="", start="require") as tokens:
        await tokens.refresh()
        last = await tokens.get()
    await asyncio.to_thread(store_server.stop)
    await asyncio.to_thread(store_server.start)
    async with TokenManager(source, store=RedisStore(url(store_server.port)), namespace="", start="require") as tokens:
        assert await tokens.get() == last
        assert await tokens.refresh() != last
    assert idp.stats.replays == 0
