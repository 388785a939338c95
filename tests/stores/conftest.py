"""One Valkey, one PostgreSQL and one MariaDB server for all tests of stores that need no one of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio as redis_asyncio
from tests.stores.servers import Server, mariadb, postgres, valkey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    with valkey() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    with mariadb() as server:
        yield server


@pytest.fixture
async def admin(valkey_server: Server) -> AsyncIterator[Any]:
    """A client of the server who may do all."""
    async with redis_asyncio.Redis.from_url(f"redis://127.0.0.1:{valkey_server.port}/0") as client:
        yield client
