"""Stores, in which tokens are kept and shared."""

from evertoken.stores.file import FileStore
from evertoken.stores.memory import MemoryStore
from evertoken.stores.postgres import PostgresStore
from evertoken.stores.redis import RedisStore
from evertoken.stores.sqlite import SQLiteStore

__all__ = ["FileStore", "MemoryStore", "PostgresStore", "RedisStore", "SQLiteStore"]
