"""Stores, in which tokens are kept and shared."""

from evertoken.stores._record import TornRecord, UnreadableRecord, dump_record, load_record
from evertoken.stores.file import FileStore
from evertoken.stores.hooks import HookStore
from evertoken.stores.memory import MemoryStore
from evertoken.stores.postgres import PostgresStore
from evertoken.stores.redis import RedisStore
from evertoken.stores.sqlalchemy import SQLAlchemyStore
from evertoken.stores.sqlite import SQLiteStore

__all__ = [
    "FileStore",
    "HookStore",
    "MemoryStore",
    "PostgresStore",
    "RedisStore",
    "SQLAlchemyStore",
    "SQLiteStore",
    "TornRecord",
    "UnreadableRecord",
    "dump_record",
    "load_record",
]
