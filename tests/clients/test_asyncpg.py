"""Connections and pools of asyncpg log in with the token of the day, at a server that checks it: see `SdkContract`."""

from __future__ import annotations

import contextlib

import asyncpg
import pytest
from tests.clients.logins import PostgresLogin, postgres_server

from evertoken.clients.asyncpg import connector

__all__ = ["postgres_server"]


class TestConnector(PostgresLogin):
    name = "asyncpg.Pool"
    extra = "asyncpg"
    lines = "pool = await asyncpg.create_pool(dsn, connect=connector(handle))"
    without = 6

    def given(self, handle):
        return connector(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def call() -> None:
            connection = await given(f"postgresql://{server.address}")
            await connection.close()

        yield call

    async def test_a_pool(self):
        """U1: A pool opens connections with the token of the day, and lives through a revocation."""
        async with self.setting() as at:
            given = self.given(at.handle)
            async with asyncpg.create_pool(f"postgresql://{at.server.address}", connect=given, min_size=1) as made:
                await at.server.revoke("secret-1")
                async with made.acquire(), made.acquire() as second:
                    assert await second.fetchval("select current_user") == "app"
            assert at.server.shown == ["secret-1", "secret-1", "secret-2"]

    async def test_the_caller_says_what_a_refusal_is(self):
        """U1: `refused` replaces the rule of the adapter."""
        async with self.setting() as at:
            await at.tokens.get()
            await at.server.revoke("secret-1")
            with pytest.raises(asyncpg.InvalidPasswordError):
                await connector(at.handle, refused=OSError)(f"postgresql://{at.server.address}")
            assert at.source.fetches == 1


class TestPassword(PostgresLogin):
    name = "asyncpg.connect"
    lines = "pool = await asyncpg.create_pool(dsn, password=handle.access_token)"
    without = 2
    heals = (
        "asyncpg does not report a refusal, and the caller gets its error. `asyncpg.Pool` with `connector`, "
        "or `attempt` around the call, heals it"
    )
    library_frames = "The frames of asyncpg hold the password. An `asyncpg.Pool` with `connector` shows none of them"
    refusal = asyncpg.InvalidPasswordError

    def given(self, handle):
        return handle.access_token

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def call() -> None:
            connection = await asyncpg.connect(f"postgresql://{server.address}", password=given)
            await connection.close()

        yield call
