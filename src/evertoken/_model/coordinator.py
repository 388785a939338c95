"""The coordinator: who may fetch, and what is on record. The engine knows it by this protocol alone."""

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
    The right to fetch, once.

    Args:
        lease: The lease under which is fetched; None where there is no store, or it is down.

        record: What the store has, as far as is known.

        until: When the lease ends if it is not renewed, by the monotonic and by the wall clock.
    """

    __slots__ = ("lease", "lost", "record", "renewal", "until")

    def __init__(
        self, lease: Lease | None = None, record: Record | None = None, until: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self.lease = lease
        self.record = record
        self.until = until
        self.renewal: Any = None
        #: What the store had while the lease was waited for, and has lost since.
        self.lost: Record | None = None


class Records(Protocol):
    """The records of keys that are not open."""

    def name_of(self, key: Hashable, source: object, /) -> str:
        """Return the name under which *key* stands in the store."""

    def key_of(self, name: str, /) -> tuple[Hashable] | None:
        """Return the key that stands under *name*, in a tuple; None where it is none of this manager's."""

    def names(self) -> AsyncIterator[str]:
        """
        Yield the name of each record of this manager's namespace.

        Raises:
            TransientRefreshError: The store cannot be read.
        """

    async def read(self, name: str, key: Hashable, /) -> Record | None:
        """
        Return the record that stands under *name*, or None.

        Raises:
            TransientRefreshError: The store cannot be read.
        """

    async def add_new(self, grants: Sequence[tuple[str, Token]], /) -> list[bool]:
        """
        Write each token as a new login under its name; tell for each whether that was done.

        It is not where the name has a record, where another member holds its lease, and where the store cannot.
        """

    async def add(self, name: str, key: Hashable, token: Token, /, *, replace: bool) -> bool:
        """
        Write *token* as a new login under *name*; tell whether that was done. Without *replace* what is there stays.

        Raises:
            TransientRefreshError: It could not be written.
        """


class Coordinator(Protocol):
    """Who may fetch for a key, and what is kept of it. One object serves one session."""

    @property
    def records(self) -> Records | None:
        """The records of keys that are not open; None without a store."""

    async def open(self) -> None:
        """Be ready for flights. A store that is down keeps nothing from starting."""

    async def close(self) -> None:
        """Stop watching, and leave the store."""

    async def look(self, state: KeyState, flight: Any, /) -> Record | None:
        """
        Return what is on record, if it is newer than what memory has. Where the record is older, the key is unkept.
        """

    async def begin(self, state: KeyState, flight: Any, /) -> Permit | Record:
        """
        Return the right to fetch, or the newer record that makes a fetch needless.

        Raises:
            TransientRefreshError: Nobody may fetch now, as while an answer is missing or another member is at it.
            GrantRejected: The key was signed out, or its refresh token may not be presented again.
        """

    async def mark(self, state: KeyState, flight: Any, permit: Permit, sent_at: float, /) -> None:
        """
        Put on record that a refresh token is about to be presented.

        Raises:
            TransientRefreshError: That could not be done, so nothing may be sent.
        """

    def check(self, permit: Permit, /) -> None:
        """Raise `TransientRefreshError` unless *permit* still holds, however long this process stood still."""

    def renew(self, state: KeyState, permit: Permit, /) -> None:
        """Keep *permit* alive from now on, because the fetch takes its time."""

    async def finish(self, state: KeyState, flight: Any, permit: Permit, token: Token | None, /) -> bool | Record:
        """
        Put on record what memory has, or *token* that was just fetched, and give *permit* back.

        Return whether that was done, or the newer record that a peer wrote meanwhile.
        """

    def ended(self, state: KeyState, flight: Any, permit: Permit, /) -> None:
        """The flight is at its end, perhaps cancelled: whatever `finish` has not done yet is done without it."""
