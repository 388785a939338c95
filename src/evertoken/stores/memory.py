"""A store in memory, for tests and for several managers in one process."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.clock import SystemClock
from evertoken._model.guarded import Guarded
from evertoken._model.protocols import LONGEST_LEASE, Begun, Held, Lease
from evertoken._model.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from evertoken._model.leases import Quota, Unused
    from evertoken._model.protocols import Clock, Record

__all__ = ["MemoryStore"]

#: The end of a lease that was given back: before any instant.
_ENDED: Final = -math.inf


@final
class MemoryStore(Guarded):
    """
    A `TokenStore` that lives as long as its process.

    Managers that share one store make only one fetch per lifetime together. A new manager finds the tokens of earlier
    ones.

    Args:
        clock: The source of time for leases.
    """

    #: Each write is reported once to each watch.
    tells_each_write: Final = True
    #: This store keeps the rates and budgets of providers.
    keeps_quotas: Final = True

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        # Managers may share a store from several threads.
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        # The newest lease of each key, and its end. It stays after its end, because fences only grow.
        self._leases: dict[str, tuple[Lease, float]] = {}
        self._tallies: dict[str, Tally] = {}
        self._watchers: list[tuple[asyncio.AbstractEventLoop, Callable[[str | None], object]]] = []

    async def read(self, key: str, /) -> Record | None:
        """Return the record of *key*, or None."""
        return self._records.get(key)

    async def read_many(self, keys: Sequence[str], /) -> dict[str, Record]:
        """Return the records of those *keys* that have one."""
        return {key: record for key in keys if (record := self._records.get(key)) is not None}

    async def begin(self, key: str, owner: str, ttl: float, /, *, quota: Quota | None = None) -> Begun:
        """Take the lease of *key*, if it is free or *owner* holds it, with a part of *quota*, and read the record."""
        with self._lock:
            # The time is read under the lock. Otherwise a lease that another thread has just taken could seem to last
            # too long.
            now = self._clock.monotonic()
            fence = 1
            newest = self._leases.get(key)
            if newest is not None:
                held, ends_at = newest
                if now < ends_at <= now + LONGEST_LEASE and held.owner != owner:
                    return Begun(Held(ends_at - now), self._records.get(key))
                fence = held.fence + 1
            wait, spent = 0.0, None
            if quota is not None:
                wait, spent = self._tallies.setdefault(quota.name, Tally()).take(quota, self._clock.time())
                if wait > 0.0:
                    return Begun(Held(wait), self._records.get(key), wait, spent)
            lease = Lease(key, owner, fence)
            self._leases[key] = lease, now + ttl
            return Begun(lease, self._records.get(key), wait, spent)

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* and the lease. Return False if the lease or the version is outdated."""
        with self._lock:
            kept = self._keep(record, lease)
        if kept and self._watchers:
            self._tell(record.key)
        return kept

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Keep *record* and end the lease. Return False if the lease or the version is outdated."""
        with self._lock:
            kept = self._keep(record, lease)
            if kept:
                self._leases[record.key] = lease, _ENDED
        if kept and self._watchers:
            self._tell(record.key)
        return kept

    async def add_many(self, records: Sequence[Record], /) -> list[bool]:
        """Keep each record whose key has no record and whose lease is free. Return for each whether it was kept."""
        with self._lock:
            now = self._clock.monotonic()
            kept = [self._add(record, now) for record in records]
        if self._watchers:
            for record, is_kept in zip(records, kept, strict=True):
                if is_kept:
                    self._tell(record.key)
        return kept

    async def abandon(self, lease: Lease, /, *, unused: Unused | None = None) -> None:
        """End *lease* without a write, if its owner still holds it, and give *unused* back."""
        with self._lock:
            if unused is not None:
                self._tallies.setdefault(unused.quota.name, Tally()).give_back(unused, self._clock.time())
            if self._is_newest(lease):
                self._leases[lease.key] = lease, _ENDED

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Let *lease* end *ttl* seconds from now. Return False if it is no longer held."""
        with self._lock:
            now = self._clock.monotonic()
            if not self._is_newest(lease) or self._leases[lease.key][1] <= now:
                return False
            self._leases[lease.key] = lease, now + ttl
            return True

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """Call *changed* with each key that was written, until cancelled."""
        watcher = asyncio.get_running_loop(), changed
        self._watchers.append(watcher)
        try:
            changed(None)
            await asyncio.get_running_loop().create_future()
        finally:
            self._watchers.remove(watcher)

    async def keys(self) -> AsyncIterator[str]:
        """Yield the key of every record."""
        for key in list(self._records):
            yield key

    async def holder(self, key: str, /) -> tuple[str, float] | None:
        """Return the owner that holds the lease of *key* and the seconds until it ends, or None."""
        newest = self._leases.get(key)
        if newest is None:
            return None
        lease, ends_at = newest
        left = ends_at - self._clock.monotonic()
        return (lease.owner, left) if 0.0 < left <= LONGEST_LEASE else None

    async def delete(self, key: str, /) -> bool:
        """Delete the record of *key*. Return whether there was one."""
        return self._records.pop(key, None) is not None

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._records)} records)"

    def _is_newest(self, lease: Lease) -> bool:
        newest = self._leases.get(lease.key)
        return newest is not None and (newest[0] is lease or newest[0] == lease)

    def _keep(self, record: Record, lease: Lease) -> bool:
        key = record.key
        before = self._records.get(key)
        least = 0 if before is None else before.version
        if record.version <= least or key != lease.key or not self._is_newest(lease):
            return False
        self._records[key] = record
        return True

    def _add(self, record: Record, now: float) -> bool:
        key, fence, newest = record.key, 1, self._leases.get(record.key)
        if newest is not None:
            held, ends_at = newest
            if now < ends_at <= now + LONGEST_LEASE:
                return False
            fence = held.fence + 1
        if key in self._records:
            return False
        self._leases[key] = Lease(key, "", fence), _ENDED
        self._records[key] = record
        return True

    def _tell(self, key: str) -> None:
        here = asyncio.get_running_loop()
        for loop, changed in list(self._watchers):
            if loop is here:
                loop.call_soon(changed, key)
            else:
                # A loop in another thread may close at any moment.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(changed, key)
