"""
A store in memory: for tests, and for several managers in one process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evertoken._clock import SystemClock
from evertoken._contracts import Held, Lease, Record

if TYPE_CHECKING:
    from evertoken._contracts import Clock

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
        self._fences: dict[str, int] = {}

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
        newest = lease.key == record.key and lease.fence == self._fences.get(record.key)
        if not newest or record.version != (0 if before is None else before.version) + 1:
            return False
        self._records[record.key] = record
        return True

    async def acquire(self, key: str, owner: str, ttl: float, /) -> Lease | Held:
        """
        Take the lease of *key* for *ttl* seconds, or say for how long it is somebody else's.
        """
        now = self._clock.monotonic()
        held, ends_at = self._leases.get(key, (None, 0.0))
        if held is not None and ends_at > now:
            return Held(ends_at - now)
        fence = self._fences[key] = self._fences.get(key, 0) + 1
        lease = Lease(key, owner, fence)
        self._leases[key] = lease, now + ttl
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

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._records)} records)"
