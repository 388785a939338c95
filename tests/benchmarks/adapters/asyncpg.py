"""Logins of asyncpg at a PostgreSQL server."""

from __future__ import annotations

import contextlib

import asyncpg
from tests.clients.logins import PostgresRole, postgres_with_passwords

from evertoken.clients.asyncpg import connector


@contextlib.asynccontextmanager
async def logins(tokens):
    with postgres_with_passwords() as server:
        await PostgresRole(server).issue("token")
        dsn, connect = f"postgresql://app@127.0.0.1:{server.port}/postgres", connector(tokens.handle())

        async def static():
            await (await asyncpg.connect(dsn, password="token")).close()

        async def ours():
            await (await connect(dsn)).close()

        yield static, ours


PAIRS = {"asyncpg.create_pool(connect=connector(handle)), a connection": logins}
