"""The conformance suite, on the stores that need no server."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from evertoken.stores import FileStore, MemoryStore, SQLiteStore
from evertoken.stores._folder import private_directory
from evertoken.stores._host_clock import HostClock
from evertoken.testing.conformance import StoreConformance


class TestMemoryStore(StoreConformance):
    """The model of what a store does."""

    store: MemoryStore | None = None

    async def make(self) -> MemoryStore:
        if self.store is None:
            self.store = MemoryStore()
        return self.store

    async def set_lease(self, key: str, seconds: float) -> None:
        assert self.store is not None
        lease, _ = self.store._leases[key]
        self.store._leases[key] = lease, time.monotonic() + seconds


class TestFileStore(StoreConformance):
    """A directory."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "tokens"

    async def make(self) -> FileStore:
        return FileStore(self.path, poll=0.02)

    async def set_lease(self, key: str, seconds: float) -> None:
        lease = self.path / f"{hashlib.sha256(key.encode()).hexdigest()}.lease"
        fields = json.loads(lease.read_bytes()) | {"ends": HostClock().after(seconds).fields()}
        lease.write_text(json.dumps(fields), encoding="utf-8")

    async def plant(self, key: str, data: bytes) -> None:
        with private_directory(self.path) as folder:
            folder.replace(hashlib.sha256(key.encode()).hexdigest() + ".record", memoryview(data), durable=False)


class TestSQLiteStore(StoreConformance):
    """One SQLite file."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "tokens" / "tokens.db"

    async def make(self) -> SQLiteStore:
        return SQLiteStore(self.path, poll=0.02)

    async def set_lease(self, key: str, seconds: float) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            ends = json.dumps(HostClock().after(seconds).fields())
            connection.execute("UPDATE evertoken SET ends = ? WHERE key = ?", (ends, key))

    async def plant(self, key: str, data: bytes) -> None:
        await SQLiteStore(self.path).holder(key)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "INSERT INTO evertoken (key, record, fence, owner) VALUES (?, ?, 0, '')"
                " ON CONFLICT (key) DO UPDATE SET record = excluded.record",
                (key, data),
            )
