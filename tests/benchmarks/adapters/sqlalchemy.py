"""Logins of SQLAlchemy at a PostgreSQL server."""

from __future__ import annotations

import contextlib

from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from tests.clients.logins import PostgresRole, postgres_with_passwords

from evertoken.clients.sqlalchemy import authenticate


@contextlib.asynccontextmanager
async def logins(tokens):
    with postgres_with_passwords() as server:
        await PostgresRole(server).issue("token")
        place = f"127.0.0.1:{server.port}/postgres"
        theirs = create_async_engine(f"postgresql+asyncpg://app:token@{place}", poolclass=NullPool)
        mine = create_async_engine(f"postgresql+asyncpg://app@{place}", poolclass=NullPool)
        authenticate(mine, tokens.handle())

        async def static():
            async with theirs.connect():
                pass

        async def ours():
            async with mine.connect():
                pass

        yield static, ours


PAIRS = {"authenticate(engine, handle), a connection": logins}
