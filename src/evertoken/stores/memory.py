"""
A store in memory: for tests, and for several managers in one process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, final

from evertoken._engine.clock import SystemClock
from evertoken._model.protocols import Held, Lease, Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from evertoken._model.protocols import Clock

__all__ = ["MemoryStore"]


@final
class MemoryStore:
    """
    A `TokenStore` that lives as long as its process.

    Managers that share one make one fetch a lifetime between them, and a manager made anew finds its tokens again.

    Args:
        clock: Where time comes from, for leases.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._records: dict[str, Record] = {}
        self._leases: dict[str, tuple[Lease, float]] = {}
        self._newest: dict[str, Lease] = {}
        self._watchers: list[tuple[asyncio.AbstractEventLoop, Callable[[str | None], object]]] = []

    async def read(self, key: str, /) -> Record | None:
        """
        Return the record of *key*, or None.
        """
        return self._records.get(key)

    async def write(self, record: Record, lease: Lease, /) -> bool:
        """
        Keep *record*; return False where the lease or the version is outdated.
        """
        before = self._records.get(record.key)
        newest = self._newest.get(record.key) == lease
        if not newest or record.version <= (0 if before is None else before.version):
            return False
        self._records[record.key] = record
        for loop, changed in list(self._watchers):
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed, record.key)
        return True

    async def acquire(self, key: str, owner: str, ttl: float, /) -> Lease | Held:
        """
        Take the lease of *key* for *ttl* seconds, or say for how long it is somebody else's.
        """
        now = self._clock.monotonic()
        held, ends_at = self._leases.get(key, (None, 0.0))
        if held is not None and ends_at > now:
            return Held(ends_at - now)
        newest = self._newest.get(key)
        lease = Lease(key, owner, 1 if newest is None else newest.fence + 1)
        self._leases[key] = lease, now + ttl
        self._newest[key] = lease
        return lease

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """
        Let *lease* end *ttl* seconds from now; return False where it is no longer held.
        """
        now = self._clock.monotonic()
        held, ends_at = self._leases.get(lease.key, (None, 0.0))
        if held != lease or ends_at <= now:
            return False
        self._leases[lease.key] = lease, now + ttl
        return True

    async def release(self, lease: Lease, /) -> None:
        """
        End *lease*, if it is still held by its owner.
        """
        if self._leases.get(lease.key, (None, 0.0))[0] == lease:
            del self._leases[lease.key]

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """
        Call *changed* with each key that was written, until cancelled.
        """
        watcher = asyncio.get_running_loop(), changed
        self._watchers.append(watcher)
        try:
            changed(None)
            await asyncio.get_running_loop().create_future()
        finally:
            self._watchers.remove(watcher)

    async def keys(self) -> AsyncIterator[str]:
        """
        Yield the key of every record.
        """
        for key in list(self._records):
            yield key

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """
        Return who holds the lease of *key* and for how many seconds yet, or None.
        """
        lease, ends_at = self._leases.get(key, (None, 0.0))
        left = ends_at - self._clock.monotonic()
        return None if lease is None or left <= 0.0 else (lease.owner, left)

    async def delete(self, key: str, /) -> bool:
        """
        Take the record of *key* out; tell whether there was one.
        """
        return self._records.pop(key, None) is not None

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._records)} records)"
