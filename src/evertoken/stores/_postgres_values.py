"""Converts values to and from the binary format of the PostgreSQL protocol."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from evertoken.stores._postgres_statements import BIGINT, BOOLEAN, BYTES, DOUBLE, TEXT, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken.stores._postgres_statements import Statement

__all__ = ["DECODE", "encoded"]

_BIGINT: Final = struct.Struct("!q")
_DOUBLE: Final = struct.Struct("!d")

_ARRAY: Final = struct.Struct("!iiIii")
_LENGTH: Final = struct.Struct("!i")


def _texts(values: list[str]) -> bytes:
    # The array has one dimension and no nulls, and its first index is one.
    parts = [_ARRAY.pack(1, 0, TEXT, len(values), 1)]
    for value in values:
        data = value.encode()
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


_ENCODE: Final[dict[int, Callable[[Any], Any]]] = {
    TEXT: str.encode,
    BIGINT: _BIGINT.pack,
    DOUBLE: _DOUBLE.pack,
    BOOLEAN: lambda value: b"\1" if value else b"\0",
    # A view is used, because its text in a traceback does not show the content.
    BYTES: memoryview,
    TEXTS: _texts,
}
#: The functions that convert the content of a column, by its type.
DECODE: Final[dict[int, Callable[[bytes], Any]]] = {
    TEXT: bytes.decode,
    BIGINT: lambda data: _BIGINT.unpack(data)[0],
    DOUBLE: lambda data: _DOUBLE.unpack(data)[0],
    BOOLEAN: lambda data: data != b"\0",
    BYTES: memoryview,
}


def encoded(statement: Statement, values: tuple[Any, ...]) -> list[Any]:
    """Return *values* as the parameters of *statement*."""
    kinds = zip(statement.types, values, strict=True)
    return [None if value is None else _ENCODE[kind](value) for kind, value in kinds]
