"""The record and the lease of one key, read and written inside a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from evertoken.stores._grants import found_login, joined, plain_of, without_secrets
from evertoken.stores._mapped import LEASE
from evertoken.stores._names import check_owner
from evertoken.stores._offload import offload
from evertoken.stores._reading import key_in, opened, report, written
from evertoken.stores._record import TornRecord

if TYPE_CHECKING:
    from evertoken._model.protocols import Record
    from evertoken.stores._mapped import Place, Row
    from evertoken.stores._own_table import OwnTable
    from evertoken.stores._record import Codec

__all__ = ["RowRecords"]

_ROW: Final = "the row of this key (map columns for both, or set its record to NULL, to begin anew with its tokens)"

#: The lease of a key that never had one.
_FREE: Final = ("", 0, 0)


@final
class RowRecords:
    """
    Records in the rows of *table*.

    Args:
        table: Where.

        codec: The codec that seals them.

        name: The name of the store in the log.
    """

    def __init__(self, table: OwnTable, codec: Codec | None, name: str) -> None:
        self._table = table
        self._codec = codec
        self._name = name

    async def row(self, connection: Any, place: Place, *, lock: bool) -> Row | None:
        """Return the row of *place*, and lock it if need be."""
        found = (await connection.execute(self._table.select([place], lock=lock))).all()
        return self._table.row(place, found)

    async def locked(self, connection: Any, place: Place) -> tuple[tuple[str, int, int], bool, Row | None]:
        """Return the lease, whether it has a row, and the row of the record; all is locked."""
        if self._table.own_leases is None:
            row = await self.row(connection, place, lock=True)
            return _lease_in(row), row is not None, row
        # Always first, so that members cannot wait for each other.
        found = (await connection.execute(self._table.select_lease(place))).first()
        row = await self.row(connection, place, lock=True)
        return (_FREE if found is None else tuple(found)), found is not None, row

    async def now(self, connection: Any) -> float:
        """Return what the database's clock reads."""
        # Once the row is locked: an instant from before the wait for it would make a new lease seem to last too long.
        return float((await connection.execute(self._table.clock())).scalar_one())

    async def put_lease(
        self,
        connection: Any,
        place: Place,
        row: Row | None,
        lease: tuple[str, int, int],
        there: bool,  # noqa: FBT001
    ) -> None:
        """Write *lease*."""
        if self._table.own_leases is not None:
            await connection.execute(self._table.put_lease(place, lease, there=there))
        else:
            await connection.execute(self._table.put(place, row, dict(zip(LEASE, lease, strict=True))))

    async def sealed(self, record: Record) -> memoryview:
        """Return the rest of *record*, as it is written."""
        rest = without_secrets(record, self._table.plain)
        return written(rest, None) if self._codec is None else await offload(written, rest, self._codec)

    async def put(self, connection: Any, place: Place, row: Row | None, record: Record, rest: memoryview) -> None:
        """Write *record*, whose rest is *rest*."""
        values = plain_of(record, self._table.plain) | {"record": bytes(rest).decode()}
        await connection.execute(self._table.put(place, row, values))

    async def opened(self, place: Place, row: Row | None) -> tuple[Record | None, bool]:
        """Return the record in *row*; or what there was before, and that your program has written other tokens."""
        if row is None:
            return None, False
        before = None
        if row.record is not None:
            data = memoryview(row.record.encode())
            if not self._table.verbatim:
                check_owner(place.name, key_in(data), _ROW)
            try:
                if self._codec is None:
                    before = opened(place.name, data, None)
                else:
                    before = await offload(opened, place.name, data, self._codec)
            except TornRecord as error:
                report(self._name, place.name, error.with_traceback(None), "the next write replaces it")
        if before is not None:
            whole = joined(before, row.plain)
            return (before, True) if whole is None else (whole, False)
        is_new = any(row.plain.get(name) for name in ("access_token", "refresh_token"))
        return None, is_new

    async def adopted(self, connection: Any, place: Place, row: Row | None) -> Record | None:
        """Return the record in *row*, which is locked; put on record what your program wrote."""
        before, is_new = await self.opened(place, row)
        if not is_new or row is None:
            return before
        record = found_login(place.name, before, row.plain, row.now, since=row.now)
        if record is not None:
            rest = await self.sealed(record)
            await connection.execute(self._table.put(place, row, {"record": bytes(rest).decode()}))
        return record


def _lease_in(row: Row | None) -> tuple[str, int, int]:
    if row is None or row.lease is None:
        return _FREE
    owner, fence, ends = row.lease
    return owner or "", fence or 0, ends or 0
