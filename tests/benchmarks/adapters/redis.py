"""Logins of redis-py at a Valkey server, and commands after them."""

from __future__ import annotations

import contextlib

from redis.asyncio import Redis
from tests.clients.test_redis import ValkeyUser
from tests.stores.servers import valkey

from evertoken.clients.redis import TokenProvider


@contextlib.asynccontextmanager
async def clients(tokens):
    with valkey() as server:
        await ValkeyUser(server).issue("token")
        provider = TokenProvider(tokens.handle(), "app")
        async with (
            Redis(port=server.port, username="app", password="token") as theirs,
            Redis(port=server.port, credential_provider=provider, redis_connect_func=provider.connect) as mine,
        ):
            yield theirs, mine


@contextlib.asynccontextmanager
async def commands(tokens):
    async with clients(tokens) as (theirs, mine):

        async def static():
            await theirs.ping()

        async def ours():
            await mine.ping()

        yield static, ours


@contextlib.asynccontextmanager
async def logins(tokens):
    async with clients(tokens) as (theirs, mine):

        async def static():
            await theirs.connection_pool.disconnect()
            await theirs.ping()

        async def ours():
            await mine.connection_pool.disconnect()
            await mine.ping()

        yield static, ours


PAIRS = {
    "Redis(credential_provider=provider), a connection": logins,
    "Redis(credential_provider=provider), a command": commands,
}
