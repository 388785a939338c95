"""Common parts of the tests of the store in Redis: steps to take, and a record to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from evertoken import Lease, Record, Token

if TYPE_CHECKING:
    from tests.stores.servers import Server

    from evertoken.stores import RedisStore

SECRET = "planted-access-token-4711"
TOKEN = Token(SECRET, issued_at=1.0, refresh_token="planted-refresh-token-4711")


def url(server: Server, more: str = "") -> str:
    return f"redis://{more}127.0.0.1:{server.port}/0"


def new_prefix() -> str:
    return f"{uuid4().hex}:"


async def lease_of(store: RedisStore, key: str = "k", owner: str = "me", ttl: float = 10.0) -> Lease:
    lease = (await store.begin(key, owner, ttl)).lease
    assert isinstance(lease, Lease)
    return lease


async def keep(store: RedisStore, key: str = "k", version: int = 1) -> None:
    assert await store.commit(Record(key, version, TOKEN), await lease_of(store, key))


async def known(store: RedisStore) -> None:
    """Let the server know all scripts."""
    lease = await lease_of(store, "other key")
    assert await store.renew(lease, 10.0)
    await store.abandon(lease)
    await keep(store, "other key")


async def minted(store: RedisStore) -> None:
    assert await store.commit(Record("k", 2, TOKEN), await lease_of(store))


async def renewed(store: RedisStore) -> None:
    assert await store.renew(await lease_of(store), 10.0)
