"""What a store may be able to do besides: take many new records at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from evertoken._model.protocols import TokenStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evertoken._model.protocols import Record

__all__ = ["BatchStore"]


@runtime_checkable
class BatchStore(TokenStore, Protocol):
    """A store that takes many new records in one step, for an import."""

    async def add_many(self, records: Sequence[Record], /) -> list[bool]:
        """
        Keep each of *records* whose key has no record and whose lease is free; tell for each whether it was kept.

        Their keys differ. It is fenced like any write: whoever held a lease before can write no more with it. A watch
        is told of each record that was kept.
        """
