"""The cost of the stores: one refresh of one key, with few and with 100,000 keys there, and the start of a manager."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.benchmarks._measure import Options, Row, Rows
from tests.stores.servers import postgres, valkey

from evertoken import Lease, Record, Token, TokenManager
from evertoken.stores import FileStore, PostgresStore, RedisStore, SQLiteStore

SIZE = 1024


def rows(options: Options) -> Rows:
    many = options.pick(100_000, 2_000)
    for name in ("FileStore", "SQLiteStore", "RedisStore", "PostgresStore"):
        with _place(name) as (store, folder):
            yield from asyncio.run(_measured(name, store, folder, many))


@contextlib.contextmanager
def _place(name: str) -> Iterator[tuple[Any, Path | None]]:
    with contextlib.ExitStack() as stack:
        if name == "RedisStore":
            # With the log written at every second, as it comes; the others are durable at every write.
            server = stack.enter_context(valkey("--appendfsync", "everysec"))
            yield RedisStore(f"redis://127.0.0.1:{server.port}/0"), None
        elif name == "PostgresStore":
            server = stack.enter_context(postgres())
            yield PostgresStore(f"postgresql://evertoken@127.0.0.1:{server.port}/postgres"), None
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            yield (FileStore(folder / "tokens") if name == "FileStore" else SQLiteStore(folder / "tokens.db")), folder


async def _measured(name: str, store: Any, folder: Path | None, many: int) -> list[Row]:
    async with store if hasattr(store, "__aenter__") else contextlib.nullcontext():
        few = await _cycle(store, "few")
        await _fill(store, many)
        full = await _cycle(store, "many")
        begun = perf_counter()
        listed = 0
        async for _ in store.keys():
            listed += 1
        listing = perf_counter() - begun
        assert listed >= many
        begun = perf_counter()
        async with TokenManager(_fetch, store=store, namespace="") as tokens:
            await tokens.get()
            start = perf_counter() - begun
    size = 0.0
    if folder is not None:
        size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*")) / 2**20
    return [
        Row(f"{name}: a refresh, empty store", few * 1e3, unit="ms", note="the lease and the record, a durable write"),
        Row(f"{name}: a refresh, {many:,} keys there", full * 1e3, few * 1e3 * 2.0 + 0.5, unit="ms"),
        Row(f"{name}: start of a manager and its first token", start * 1e3, unit="ms"),
        Row(f"{name}: listing them all", listing, unit="s"),
        *([Row(f"{name}: on disk", size, unit="MiB")] if size else []),
    ]


async def _fetch() -> tuple[str, float]:
    return "t" * SIZE, 3600.0


async def _refresh(store: Any, key: str, version: int) -> None:
    lease = (await store.begin(key, "me", 10.0)).lease
    assert isinstance(lease, Lease)
    assert await store.commit(Record(key, version, Token("t" * SIZE, issued_at=1.0)), lease)


async def _cycle(store: Any, key: str) -> float:
    taken = []
    for version in range(1, 201):
        begun = perf_counter()
        await _refresh(store, key, version)
        taken.append(perf_counter() - begun)
    return statistics.median(taken)


async def _fill(store: Any, many: int) -> None:
    numbers = iter(range(many))

    async def work() -> None:
        for number in numbers:
            await _refresh(store, f"key-{number}", 1)

    await asyncio.gather(*(work() for _ in range(4)))
