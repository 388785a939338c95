"""
The conformance suite: stores of ours pass it, and stores that break a promise do not.
"""

from __future__ import annotations

from evertoken.stores import MemoryStore
from evertoken.testing.conformance import StoreConformance


class TestMemoryStore(StoreConformance):
    """
    The model of what a store does.
    """

    store: MemoryStore | None = None

    async def make(self) -> MemoryStore:
        if self.store is None:
            self.store = MemoryStore()
        return self.store
