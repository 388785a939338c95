"""Lists, reads and writes records of keys that are not open, and have no state in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from evertoken._coordination.store_client import NO_NAME, STORE_TIMEOUT, key_of, store_key
from evertoken._engine.flight import Flight
from evertoken._engine.tasks import Gate, must_propagate
from evertoken._model.errors import TransientRefreshError
from evertoken._model.identity import identity_of
from evertoken._model.key_state import TICK, KeyState
from evertoken._model.protocols import LONGEST_LEASE, Held, Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Sequence

    from evertoken._coordination.store_client import StoreClient
    from evertoken._engine.session import Session
    from evertoken._model.protocols import Begun, ListedStore
    from evertoken._model.token import Token

__all__ = ["StoreRecords"]

# Seconds between two looks at a lease that another member holds.
_POLL: Final = 0.25


@final
class StoreRecords:
    """
    The `Records` of a store.

    Args:
        client: The client for the store.

        namespace: The namespace of the manager.

        session: The session whose clock and member name are used.
    """

    def __init__(self, client: StoreClient, namespace: str | None, session: Session) -> None:
        self._client = client
        self._namespace = namespace
        self._clock = session.clock
        self._rules = session.rules

    def name_of(self, key: Hashable, source: object, /) -> str:
        """Return the name of the record of *key* in the store."""
        return store_key(self._namespace, key, identity_of(source))

    def key_of(self, name: str, /) -> tuple[Hashable] | None:
        """Return the key of the record *name*, in a tuple. Return None if the key does not belong to this manager."""
        key = key_of(self._namespace or "", name)
        return None if key is NO_NAME else (key,)

    async def names(self) -> AsyncIterator[str]:
        """
        Yield the name of each record of this manager's namespace.

        Raises:
            TransientRefreshError: The store cannot be read.
        """
        store: ListedStore = self._client.store  # type: ignore[assignment]  # checked when it was given
        names = aiter(store.keys())
        flight, ours = Flight("peer"), store_key(self._namespace, None).removesuffix("null]")
        while True:
            try:
                name = await flight.step(anext(names, None), STORE_TIMEOUT, self._clock)
            except BaseException as error:
                if must_propagate(error):
                    raise
                self._client.failed("keys", error)
                break
            if name is None:
                return
            if name.startswith(ours):
                yield name
        raise self._down()

    async def read(self, name: str, key: Hashable, /) -> Record | None:
        """
        Return the record *name*, or None.

        Raises:
            TransientRefreshError: The store cannot be read.
        """
        found = await self._client.read(KeyState(key, None), _flight(name))
        if found is None:
            raise self._down()
        return found[0]

    async def add_new(self, grants: Sequence[tuple[str, Token]], /) -> list[bool]:
        """Write each token as a new login under its name, if the name is free and the store can write many at once."""
        return await self._client.add_many([self._following(name, None, token) for name, token in grants])

    async def add(self, name: str, key: Hashable, token: Token, /, *, replace: bool) -> bool:
        """
        Write *token* as a new login under *name*, fenced like any write. Return whether it was written.

        Args:
            name: The name of the record.

            key: The key of the login.

            token: The token of the login.

            replace: Whether to replace an existing record, even a tombstone.

        Raises:
            TransientRefreshError: The store failed, or another member held the lease all the time.
        """
        if not replace and self._client.takes_many and _is_taken(await self.read(name, key)):
            # The step that writes many records left it out, so it probably has a record.
            return False
        state, flight = KeyState(key, None), _flight(name)
        # A name of its own is used, because a flight of this member may hold the lease under the member's name.
        owner = f"{self._rules.owner}/import"
        end = self._clock.monotonic() + 2.0 * LONGEST_LEASE
        while True:
            begun = await self._client.begin(state, flight, owner, LONGEST_LEASE, STORE_TIMEOUT)
            if begun is None:
                raise self._down()
            if not isinstance(begun.lease, Held):
                before = begun.record
                if _is_taken(before) and not replace:
                    await self._client.abandon(state, flight, begun.lease)
                    return False
                record = self._following(name, before, token)
                written = await self._client.commit(state, flight, record, begun.lease, STORE_TIMEOUT)
                if written:
                    return True
                if written is None:
                    raise self._down()
            if self._clock.monotonic() >= end:
                msg = "another member of the fleet holds the lease"
                raise TransientRefreshError(msg)
            await Gate().wait(self._clock, _pause(begun))

    def _following(self, name: str, before: Record | None, token: Token) -> Record:
        now = self._clock.time()
        if before is None:
            return Record(name, 1, token, since=now, generation=1)
        return Record(
            name,
            before.version + 1,
            token,
            since=max(now, before.since + TICK),
            origins=before.origins,
            generation=before.generation + 1,
        )

    def _down(self) -> TransientRefreshError:
        return TransientRefreshError(f"the store failed: {self._client.failure}")


def _flight(name: str) -> Flight:
    flight = Flight("repair")
    flight.name = name
    return flight


def _is_taken(record: Record | None) -> bool:
    return record is not None and (record.token is not None or record.revoked)


def _pause(begun: Begun) -> float:
    left = begun.lease.remaining if isinstance(begun.lease, Held) else 0.0
    return min(_POLL, max(left, 0.0) + 0.001)
