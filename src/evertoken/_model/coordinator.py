"""The coordinator decides who may fetch, and keeps the records. The engine knows only this protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Sequence

    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Lease, Record
    from evertoken._model.token import Token

__all__ = ["Coordinator", "Permit", "Records"]


@final
class Permit:
    """
    The right to make one fetch.

    Args:
        lease: The lease of this fetch. It is None if there is no store or the store is down.

        record: The record in the store, as far as it is known.

        until: When the lease ends unless it is renewed, by the monotonic and by the wall clock.
    """

    __slots__ = ("lease", "lost", "record", "renewal", "until")

    def __init__(
        self, lease: Lease | None = None, record: Record | None = None, until: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self.lease = lease
        self.record = record
        self.until = until
        self.renewal: Any = None
        #: The record that the store had while this member waited for the lease, and has lost since.
        self.lost: Record | None = None


class Records(Protocol):
    """The records of keys that are not open."""

    def name_of(self, key: Hashable, source: object, /) -> str:
        """Return the name of the record of *key* in the store."""

    def key_of(self, name: str, /) -> tuple[Hashable] | None:
        """Return the key of the record *name*, in a tuple. Return None if the key does not belong to this manager."""

    def names(self) -> AsyncIterator[str]:
        """
        Yield the name of each record of this manager's namespace.

        Raises:
            TransientRefreshError: The store cannot be read.
        """

    async def read(self, name: str, key: Hashable, /) -> Record | None:
        """
        Return the record *name*, or None.

        Raises:
            TransientRefreshError: The store cannot be read.
        """

    async def add_new(self, grants: Sequence[tuple[str, Token]], /) -> list[bool]:
        """
        Write each token as a new login under its name. Return for each whether it was written.

        A token is not written if its name has a record, if another member holds the lease, or if the store cannot do
        it.
        """

    async def add(self, name: str, key: Hashable, token: Token, /, *, replace: bool) -> bool:
        """
        Write *token* as a new login under *name*, and return whether it was written.

        A record that exists already is only overwritten if *replace* is true.

        Raises:
            TransientRefreshError: The token could not be written.
        """


class Coordinator(Protocol):
    """Decides who may fetch a key, and keeps its record. Each session has one coordinator."""

    @property
    def records(self) -> Records | None:
        """The records of keys that are not open. It is None without a store."""

    async def open(self) -> None:
        """Get ready for flights. A store that is down does not prevent the start."""

    async def close(self) -> None:
        """Stop watching, and leave the store."""

    async def look(self, state: KeyState, flight: Any, /) -> Record | None:
        """Return the record if it is newer than memory. If it is older, mark the key as unkept."""

    async def begin(self, state: KeyState, flight: Any, /) -> Permit | Record:
        """
        Return the right to fetch, or a newer record that makes the fetch unnecessary.

        Raises:
            TransientRefreshError: No member may fetch now: an answer is missing, or another member fetches.
            GrantRejected: The key was signed out, or its refresh token may not be presented again.
        """

    async def mark(self, state: KeyState, flight: Any, permit: Permit, sent_at: float, /) -> None:
        """
        Write into the record that a refresh token is about to be presented.

        Raises:
            TransientRefreshError: The mark could not be written, so the request must not be sent.
        """

    def check(self, permit: Permit, /) -> None:
        """Raise `TransientRefreshError` if *permit* no longer holds, for example after this process was suspended."""

    def renew(self, state: KeyState, permit: Permit, /) -> None:
        """From now on keep *permit* alive, because the fetch takes long."""

    async def finish(self, state: KeyState, flight: Any, permit: Permit, token: Token | None, /) -> bool | Record:
        """
        Write the state of memory, or the *token* that was just fetched, into the store, and give *permit* back.

        Return whether it was written, or the newer record that a peer wrote in the meantime.
        """

    def ended(self, state: KeyState, flight: Any, permit: Permit, /) -> None:
        """The flight has ended, perhaps by cancellation. Do now what `finish` has not done yet."""
