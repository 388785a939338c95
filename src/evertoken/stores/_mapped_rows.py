"""Maps the rows of a user's table to records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from evertoken.stores._mapped import LEASE, WHOSE, Place, Row, as_key, cut, length_of, read
from evertoken.stores._names import Name, name_of, parts_of
from evertoken.stores._reading import key_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MappedRows"]


class MappedRows:
    """
    Rows, as they are read by their roles.

    Args:
        keys: The columns that hold a key.

        columns: The other columns, by their roles.

        plain: The roles of those that hold fields of a token.

        verbatim: Whether the key column holds whole names.
    """

    def __init__(
        self, keys: Sequence[Any], columns: Mapping[str, Any], plain: tuple[str, ...], *, verbatim: bool
    ) -> None:
        self.keys = keys
        self.columns = columns
        self.plain = plain
        self.verbatim = verbatim

    def place(self, name: str) -> Place:
        """
        Return where the record of *name* stands.

        Raises:
            ValueError: The key does not fit the mapped columns.
        """
        if self.verbatim:
            return Place(name, (cut(name, length_of(self.keys[0])),))
        parts = parts_of(name)
        if parts is None:
            msg = "columns maps 'key', and this is no key of a manager; map 'name' instead"
            raise ValueError(msg)
        values = parts.key if len(self.keys) > 1 else (parts.key,)
        if not isinstance(values, tuple) or len(values) != len(self.keys):
            msg = f"columns maps 'key' to {len(self.keys)} columns, so a key must be a tuple with as many parts"
            raise ValueError(msg)
        held = tuple(as_key(column, value) for column, value in zip(self.keys, values, strict=True))
        return Place(name, held, parts.namespace, parts.identity or "")

    def name_in(self, row: Any) -> str:
        """Return the name of the record in *row*, which was read by `listed`."""
        found = None if row.record is None else key_in(memoryview(str(row.record.value).encode()))
        if found is not None:
            return found
        held = [str(value) if isinstance(value, UUID) else value for value in self.keys_in(row)]
        if self.verbatim:
            return str(held[0])
        whose = [row._mapping.get(role) or "" for role in WHOSE]  # noqa: SLF001 - public, for all its name
        return name_of(Name(whose[0], held[0] if len(held) == 1 else tuple(held), whose[1] or None))

    def row(self, place: Place, found: Sequence[Any]) -> Row | None:
        """
        Return the row of *place* among those that were *found*.

        Raises:
            ValueError: A column takes different keys for one.
        """
        mine = [row for row in found if self._is_of(place, row)]
        if any(self.keys_in(row) != list(place.keys) for row in found):
            names = ", ".join(repr(column.name) for column in self.keys)
            msg = f"the column {names} takes different keys for one: give it a collation that compares bytes"
            raise ValueError(msg)
        if not mine:
            return None
        # One of this identity comes before one of nobody's.
        values = max((row._mapping for row in mine), key=lambda row: bool(row.get("identity")))  # noqa: SLF001
        plain = {role: read(role, values[role]) for role in self.plain}
        record = values["record"]
        lease = tuple(values[role] for role in LEASE) if LEASE[0] in self.columns else None
        return Row(values.get("identity"), plain, None if record is None else record.value, lease, float(values["now"]))

    def rows(self, places: Sequence[Place], found: Sequence[Any]) -> dict[str, Row | None]:
        """Return the row of each of *places*, by its name, among those that were *found*."""
        by_keys: dict[tuple[Any, ...], list[Any]] = {}
        for one in found:
            by_keys.setdefault(tuple(self.keys_in(one)), []).append(one)
        return {place.name: self.row(place, by_keys.get(place.keys, ())) for place in places}

    def _is_of(self, place: Place, row: Any) -> bool:
        found = row._mapping  # noqa: SLF001 - public, for all its name
        return found.get("namespace") in {None, place.namespace} and found.get("identity") in {
            None,
            "",
            place.identity,
        }

    def keys_in(self, row: Any) -> list[Any]:
        """Return what the key columns of *row* hold."""
        return [row._mapping[f"key{number}"] for number in range(len(self.keys))]  # noqa: SLF001
