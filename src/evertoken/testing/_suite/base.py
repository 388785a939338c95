"""The common base of the conformance suite: it makes stores to test, and limits the waiting."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from evertoken._model.protocols import LONGEST_LEASE, BulkStore, Held, Lease, ListedStore, Record, WatchedStore
from evertoken._model.token import Token

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from evertoken._model.protocols import TokenStore

__all__ = ["GRAIN", "Suite", "a_token", "held_from", "keep", "lease_of", "listed", "wait_until", "watched", "win"]


#: Seconds by which a coarse clock may be behind.
GRAIN = 0.05


def a_token(value: str = "token", **changes: Any) -> Token:
    """Return a token from some time in the past."""
    return Token(value, **{"issued_at": 1_700_000_000.0, "expires_at": 1_700_003_600.0, **changes})


class Suite(ABC):
    """
    The store to test, and the limits for its operations.

    Attributes:
        short: The length in seconds of leases whose end is awaited. It must suffice for a few steps of the store.

        patience: The longest time in seconds that any operation may take.

        many: The number of records in tests with many records.
    """

    short: float = 0.5
    patience: float = 20.0
    many: int = 200

    @abstractmethod
    async def make(self) -> TokenStore:
        """Return a store. All stores of one test use the same data, which is empty when the test begins."""

    async def clean(self) -> None:  # noqa: B027 - most stores leave nothing
        """Remove the data of the test. It is called after the stores have been left."""

    async def plant(self, key: str, data: bytes) -> None:  # noqa: ARG002 - overriding methods use it
        """
        Put *data* in the place of the record of *key*, as another release of the library or a stranger would.

        Tests of stored bytes are skipped unless this is implemented.
        """
        pytest.skip("plant() is not implemented, so nothing can be put under the store")

    async def set_lease(self, key: str, seconds: float) -> None:  # noqa: ARG002 - overriding methods use it
        """
        Let the newest lease of *key* end *seconds* from now, by the store's clock.

        Tests of leases from another time are skipped unless this is implemented.
        """
        pytest.skip("set_lease() is not implemented, so the end of a lease cannot be set")

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[TokenStore]:
        """Give one store, entered if it is a context manager."""
        async with self.pair(1) as stores:
            yield stores[0]

    @asynccontextmanager
    async def pair(self, count: int = 2) -> AsyncGenerator[list[TokenStore]]:
        """Give *count* stores on the same data, entered if they are context managers."""
        try:
            async with AsyncExitStack() as stack:
                stores = [await self.make() for _ in range(count)]
                for store in stores:
                    if hasattr(store, "__aenter__"):
                        await stack.enter_async_context(store)  # type: ignore[arg-type]
                yield stores
        finally:
            await self.clean()


async def lease_of(store: TokenStore, key: str = "k", owner: str = "me", ttl: float = LONGEST_LEASE) -> Lease:
    """Take a lease that must be free."""
    lease = (await store.begin(key, owner, ttl)).lease
    assert isinstance(lease, Lease), f"the lease of {key!r} is free, and was not given: {lease!r}"
    assert (lease.key, lease.owner) == (key, owner)
    return lease


async def held_from(store: TokenStore, key: str = "k", owner: str = "other", ttl: float = LONGEST_LEASE) -> Held:
    """Ask for a lease that another owner holds, and return the answer of the store."""
    held = (await store.begin(key, owner, ttl)).lease
    assert isinstance(held, Held), f"the lease of {key!r} is somebody else's, and was given: {held!r}"
    return held


async def win(store: TokenStore, key: str, owner: str, ttl: float, patience: float) -> Lease:
    """Take a lease that becomes free within *patience* seconds."""
    end = time.monotonic() + patience
    while True:
        lease = (await store.begin(key, owner, ttl)).lease
        if isinstance(lease, Lease):
            return lease
        assert isinstance(lease, Held)
        assert time.monotonic() < end, f"the lease of {key!r} did not become free within {patience} s"
        await asyncio.sleep(min(max(lease.remaining, 0.0), 0.02) + 0.001)


async def keep(store: TokenStore, key: str, version: int = 1, token: Token | None = None) -> Record:
    """Write a record under a new lease."""
    lease = await lease_of(store, key)
    record = Record(key, version, a_token(f"token-of-version-{version}") if token is None else token)
    assert await store.commit(record, lease)
    return record


async def wait_until(condition: Callable[[], bool], patience: float, what: str) -> None:
    """Wait for *condition*, for at most *patience* seconds."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {patience} s"
        await asyncio.sleep(0.005)


def watched(store: TokenStore) -> WatchedStore:
    """Return *store* if it can be watched. Otherwise skip the test."""
    if not isinstance(store, WatchedStore):
        pytest.skip("the store cannot be watched")
    return store


def bulk(store: TokenStore) -> BulkStore:
    """Return *store* if it reads many records at once. Otherwise skip the test."""
    if not isinstance(store, BulkStore):
        pytest.skip("the store reads one record at a time")
    return store


def listed(store: TokenStore) -> ListedStore:
    """Return *store* if it can be listed. Otherwise skip the test."""
    if not all(hasattr(store, name) for name in ("keys", "holder", "delete")):
        pytest.skip("the store cannot be listed")
    return store  # type: ignore[return-value]
