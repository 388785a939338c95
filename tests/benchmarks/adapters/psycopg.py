"""Logins of psycopg at a PostgreSQL server."""

from __future__ import annotations

import contextlib

import psycopg
from tests.clients.logins import PostgresRole, postgres_with_passwords

from evertoken.clients.psycopg import connection_class


@contextlib.asynccontextmanager
async def logins(tokens):
    with postgres_with_passwords() as server:
        await PostgresRole(server).issue("token")
        conninfo, ours_class = f"postgresql://app@127.0.0.1:{server.port}/postgres", connection_class(tokens.handle())

        async def static():
            await (await psycopg.AsyncConnection.connect(conninfo, password="token")).close()

        async def ours():
            await (await ours_class.connect(conninfo)).close()

        yield static, ours


PAIRS = {"AsyncConnectionPool(connection_class=connection_class(handle)), a connection": logins}
