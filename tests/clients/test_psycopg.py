"""Connections and pools of psycopg log in with the token of the day, at a server that checks it: see `SdkContract`."""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from tests.clients.logins import PostgresLogin, postgres_server

from evertoken.clients.psycopg import connection_class

__all__ = ["postgres_server"]


class Named(psycopg.AsyncConnection):
    """A class of the user's."""


class TestAsyncConnection(PostgresLogin):
    name = "psycopg.AsyncConnection"
    extra = "postgres"
    lines = "pool = AsyncConnectionPool(conninfo, connection_class=connection_class(handle))"
    without = 12

    def given(self, handle):
        return connection_class(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def call() -> None:
            async with await given.connect(f"postgresql://{server.address}") as connection:
                await connection.execute("select 1")

        yield call

    async def test_a_pool(self):
        """U1: A pool of psycopg_pool opens connections with the token of the day, and lives through a revocation."""
        async with self.setting() as at:
            conninfo, given = f"postgresql://{at.server.address}", self.given(at.handle)
            async with AsyncConnectionPool(conninfo, connection_class=given, min_size=1, max_size=2) as made:
                await made.wait(5)
                await at.server.revoke("secret-1")
                # Two at once, so that it grows.
                async with made.connection(), made.connection() as second:
                    assert await (await second.execute("select current_user")).fetchone() == ("app",)
            assert at.server.shown == ["secret-1", "secret-1", "secret-2"]

    async def test_a_class_of_the_users(self):
        """U1: The class is made from the user's own, and other arguments of `connect` are passed on."""
        async with self.setting() as at:
            made = connection_class(at.handle, Named)
            async with await made.connect(f"postgresql://{at.server.address}", autocommit=True) as connection:
                assert isinstance(connection, Named)
                assert connection.autocommit

    async def test_the_caller_says_what_a_refusal_is(self):
        """U1: `refused` replaces the rule of the adapter."""
        async with self.setting() as at:
            await at.tokens.get()
            await at.server.revoke("secret-1")
            with pytest.raises(psycopg.OperationalError, match="authentication failed"):
                await connection_class(at.handle, refused=OSError).connect(f"postgresql://{at.server.address}")
            assert at.source.fetches == 1


class TestConnection(PostgresLogin):
    name = "psycopg.Connection"
    extra = "postgres"
    lines = "pool = ConnectionPool(conninfo, connection_class=connection_class(handle, psycopg.Connection))"
    without = 12
    blocking = True

    def given(self, handle):
        return connection_class(handle, psycopg.Connection)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        def call() -> None:
            with given.connect(f"postgresql://{server.address}") as connection:
                connection.execute("select 1")

        yield call

    async def test_a_pool(self):
        """U5: The threads of a synchronous pool open connections beside the manager's loop, and are healed."""
        async with self.setting() as at:

            def use() -> list[tuple[str] | None]:
                with made, made.connection(), made.connection() as second:
                    return [second.execute("select current_user").fetchone()]

            await at.tokens.get()
            await at.server.revoke("secret-1")
            conninfo, given = f"postgresql://{at.server.address}", self.given(at.handle)
            made = ConnectionPool(conninfo, connection_class=given, min_size=0, max_size=2, open=False)
            assert await asyncio.to_thread(use) == [("app",)]
            assert at.source.fetches == 2
