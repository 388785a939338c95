"""An optional ability of a store: to write many new records at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from evertoken._model.protocols import TokenStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evertoken._model.protocols import Record

__all__ = ["BatchStore"]


@runtime_checkable
class BatchStore(TokenStore, Protocol):
    """A store that writes many new records in one step. An import uses it."""

    async def add_many(self, records: Sequence[Record], /) -> list[bool]:
        """
        Keep each of *records* whose key has no record and whose lease is free. Return for each whether it was kept.

        The keys differ. Each write is fenced: a member that held the lease before can no longer write with it. A watch
        is called for each record that was kept.
        """
