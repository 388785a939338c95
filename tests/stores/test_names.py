"""K5: in every store each key has a record and a lease of its own, however alike two keys look."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from evertoken import Lease, Record, Token
from evertoken._coordination.store_client import store_key
from evertoken.stores import FileStore, MemoryStore, PostgresStore, RedisStore, SQLiteStore

# Alike by case, by Unicode normalisation, by the order of a language, by what a file system or a pattern makes of it.
KEYS: list[Any] = [
    "a", "A", "\xe4", "a\u0308", "\xc4", "ae", "\xe5", "\u212b", "K", "k", "\u212a", "\ufb01", "fi", "\xdf", "ss", "SS",
    "\u0130", "i", "I", "\u0131", "", " ", "a ", " a", "a\x00", "a\x00b", "\x00", "a\n", "a/b", "a\\b", "a\\\\b", "..",
    "../a", ".", "a*", "a?", "a%", "a_", "[a]", "{a}", "a:b", "a::b", "con", "CON", "nul.txt", "a.", "1", 1, -1, "-1",
    (1,), ("1",), ("a", "b"), ("a,b",), ("a", ("b",)), (), ("",), None, "None", "null", "'", '"', "a-b", "a b", "ab",
    "\u200bab", "a\u00adb", "\U0001f600", "\u202ea", "a" * 2000, "A" * 2000, "a" * 2001,
]  # fmt: skip
NAMES = [
    store_key(namespace, key, identity) for key in KEYS for namespace in ("", "N", "n") for identity in (None, "i")
]


@pytest.fixture(params=["memory", "file", "sqlite", "redis", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    if request.param == "redis":
        url = f"redis://127.0.0.1:{request.getfixturevalue('valkey_server').port}/0"
        prefix = f"{uuid4().hex}:"
        return lambda: RedisStore(url, prefix=prefix)
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        table = f"t{uuid4().hex}"
        return lambda: PostgresStore(f"postgresql://evertoken@127.0.0.1:{server.port}/postgres", table=table)
    memory = MemoryStore()
    return {
        "memory": lambda: memory,
        "file": lambda: FileStore(tmp_path / "tokens"),
        "sqlite": lambda: SQLiteStore(tmp_path / "tokens.db"),
    }[request.param]


async def test_keys_that_look_alike(make):
    """K5: each has a record and a lease of its own, and is listed by its own name."""
    assert len(set(NAMES)) == len(NAMES)
    async with AsyncExitStack() as stack:
        store = make()
        if hasattr(store, "__aenter__"):
            await stack.enter_async_context(store)
        for name in NAMES:
            lease = (await store.begin(name, "worker", 60.0)).lease
            assert isinstance(lease, Lease), name
            assert await store.mark(Record(name, 1, Token(f"token-{NAMES.index(name)}", issued_at=1.0)), lease)
        for at, name in enumerate(NAMES):
            record = await store.read(name)
            assert (record.key, record.token.access_token) == (name, f"token-{at}")
        assert sorted([name async for name in store.keys()]) == sorted(NAMES)  # noqa: SIM118 - no dict
        assert await store.delete(NAMES[0])
        assert await store.read(NAMES[0]) is None
        assert len([name async for name in store.keys()]) == len(NAMES) - 1  # noqa: SIM118


def test_files_of_records_are_named_in_one_case(tmp_path):
    """K5: a file system that ignores case, or normalises names, has as many files as there are keys."""
    from evertoken.stores._files import _name_of  # noqa: PLC0415 - what this one test looks at

    names = [_name_of(name) for name in NAMES]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and name.isalnum() and name == name.lower() and len(name) == 64 for name in names)
