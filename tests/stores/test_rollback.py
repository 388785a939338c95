"""An older record that somebody puts back: a process that has seen a newer one is not misled by it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from tests.stores.on_redis import new_prefix, url

from evertoken import GrantRejected, TokenManager
from evertoken.stores import FileStore, PostgresStore, RedisStore, SQLiteStore
from evertoken.stores.encryption import AesGcm, generate_key
from evertoken.testing import TokenServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stores.servers import Server


class Place:
    """Where one record is kept, and what somebody without the key of the codec may do to its bytes."""

    def __init__(self, kind: str, folder: Path, postgres: Server, valkey: Server, redis: Any) -> None:
        self.kind, self.folder, self.redis = kind, folder, redis
        self.table, self.prefix, self.key = f"t{uuid4().hex}", new_prefix(), generate_key()
        self.conninfo = f"postgresql://evertoken@127.0.0.1:{postgres.port}/postgres"
        self.url = url(valkey)

    def store(self) -> Any:
        codec = AesGcm(self.key)
        match self.kind:
            case "file":
                return FileStore(self.folder, codec, poll=0.02)
            case "sqlite":
                return SQLiteStore(self.folder / "tokens.db", codec, poll=0.02)
            case "redis":
                return RedisStore(self.url, codec, prefix=self.prefix)
            case _:
                return PostgresStore(self.conninfo, codec, table=self.table)

    async def change(self, data: bytes | None) -> bytes:
        """Put *data* in the place of the record, if any is given, and announce it. Return the previous data."""
        match self.kind:
            case "file":
                (file,) = self.folder.glob("*.record")
                before = file.read_bytes()
                if data is not None:
                    # Replaced as a whole, because the manager may read it at any moment.
                    draft = file.with_suffix(".draft")
                    draft.touch(0o600)
                    draft.write_bytes(data)
                    draft.replace(file)
            case "sqlite":
                with closing(sqlite3.connect(self.folder / "tokens.db")) as db, db:
                    (before,) = db.execute("SELECT record FROM evertoken").fetchone()
                    if data is not None:
                        db.execute("UPDATE evertoken SET record = ?, change = change + 1", (data,))
            case "redis":
                (name,) = [name async for name in self.redis.scan_iter(match=f"{self.prefix}*")]
                before = await self.redis.hget(name, "record")
                if data is not None:
                    await self.redis.hset(name, "record", data)
                    await self.redis.publish(f"{self.prefix}written", (await self.redis.hget(name, "key")).decode())
            case _:
                with psycopg.connect(self.conninfo, autocommit=True) as server:
                    (before,) = server.execute(f"SELECT record FROM {self.table}".encode()).fetchone() or (b"",)
                    if data is not None:
                        update = f"UPDATE {self.table} SET record = %s, changed = pg_current_xact_id()"
                        server.execute(update.encode(), (data,))
                        channel = self.store()._sql.channel
                        server.execute(f"SELECT pg_notify(%s, key) FROM {self.table}".encode(), (channel,))
        return bytes(before)


@pytest.fixture(params=["file", "sqlite", "redis", "postgres"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: Server, valkey_server: Server, admin: Any
) -> Place:
    return Place(request.param, tmp_path / "store", postgres_server, valkey_server, admin)


@pytest.mark.parametrize("looks", [False, True], ids=["at the refresh", "when it looks"])
async def test_an_older_token_is_not_presented_again(place, looks):
    """S3, K1: the refresh token of an older record was spent; the process that spent it presents the one it has."""
    with TokenServer() as idp:
        source = idp.refresh_token(rotates=True)
        async with TokenManager(source, store=place.store(), namespace="n") as tokens:
            await tokens.get()
            older = await place.change(None)
            await tokens.refresh()
            token = await tokens.refresh()
            await place.change(older)
            if looks:
                await asyncio.sleep(0.3)
                assert tokens.peek() == token
            token = await tokens.refresh()
            assert idp.stats.replays == 0
            (name,) = [key async for key in place.store().keys()]  # noqa: SIM118 - a store is no dict
            record = await place.store().read(name)
            assert record is not None
            assert record.token == token
        async with TokenManager(source, store=place.store(), namespace="n") as tokens:
            assert await tokens.get() == token
            await tokens.refresh()
        assert idp.stats.replays == 0


async def test_a_sign_out_is_not_undone(place):
    """S3: the record of before a sign-out signs nobody in whose process knows of the sign-out."""
    with TokenServer() as idp:
        source = idp.refresh_token(rotates=True)
        async with TokenManager(source, store=place.store(), namespace="n") as tokens:
            await tokens.get()
            older = await place.change(None)
            await tokens.revoke()
            await place.change(older)
            asked = idp.stats.token_requests
            async with asyncio.timeout(20.0):
                while not json.loads(await place.change(None))["revoked"]:
                    with pytest.raises(GrantRejected, match="signed out"):
                        await tokens.get()
                    await asyncio.sleep(0.05)
            assert idp.stats.token_requests == asked


@pytest.mark.parametrize(
    "field", ["version", "sent_at", "sent_by", "revoked", "since", "origins", "generation", "format", "key", "more"]
)
async def test_an_altered_record_is_set_aside(place, field, caplog):
    """S3: a sealed record in which any field was changed is set aside with a warning, and not believed."""
    with TokenServer() as idp:
        source = idp.refresh_token(rotates=True)
        async with TokenManager(source, store=place.store(), namespace="n") as tokens:
            await tokens.get()
            await tokens.revoke()
        body = json.loads(await place.change(None))
        changed = {
            "version": body["version"] + 1, "sent_at": 5.0, "sent_by": "me", "revoked": False, "since": 0.0,
            "origins": ["a"], "generation": 99, "format": True, "key": f"{body['key']} ", "more": 1,
        }[field]  # fmt: skip
        await place.change(json.dumps({**body, field: changed}).encode())
        store = place.store()
        assert await store.read(body["key"]) is None
        (warning,) = [record for record in caplog.records if "counts as missing" in record.getMessage()]
        assert warning.levelname == "WARNING"
        assert await store.read(body["key"]) is None
        assert len([record for record in caplog.records if "counts as missing" in record.getMessage()]) == 1
