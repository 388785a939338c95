"""Rows of a table of the user's, and what its columns can hold."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, final
from uuid import UUID

from evertoken._model.guarded import Hidden, Opaque
from evertoken.stores._grants import PLAIN, SECRETS

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = [
    "LEASE",
    "LEAST_NAME",
    "ROLES",
    "WHOSE",
    "Place",
    "Row",
    "as_instant",
    "as_key",
    "by_role",
    "check_kind",
    "cut",
    "length_of",
    "read",
]

#: The roles of the columns of a lease: its holder, its fence, and the millisecond since the epoch at which it ends.
LEASE: Final = ("lease_owner", "lease_fence", "lease_ends")
WHOSE: Final = ("namespace", "identity")
ROLES: Final = frozenset({"name", "key", "record", *WHOSE, *PLAIN, *LEASE})

#: Bytes of a name at the most: an index of PostgreSQL takes no more than 2704. A longer name ends in its digest.
_LONGEST_NAME: Final = 2000
_DIGEST: Final = 65

#: Characters that a column of names has at least.
LEAST_NAME: Final = 130

_NUMBERS: Final = (int, float, Decimal)
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "key": (int, str, UUID),
    "expires_at": (datetime, *_NUMBERS),
    "lease_fence": (int,),
    "lease_ends": (int,),
}


@final
class Place:
    """
    Where a record stands.

    Args:
        name: The manager's name of it.

        row: The name's digest: the key of its lease.

        keys: The values of the key columns.

        namespace: The value of the column of the namespace, if there is one.

        identity: The value of the column of the identity, if there is one.
    """

    __slots__ = ("identity", "keys", "name", "namespace", "row")

    def __init__(self, name: str, keys: tuple[Hashable, ...], namespace: str = "", identity: str = "") -> None:
        self.name = name
        self.row = hashlib.sha256(name.encode()).hexdigest()
        self.keys = keys
        self.namespace = namespace
        self.identity = identity


@final
class Row(Opaque):
    """
    The content of a row.

    Args:
        identity: Its identity, where there is a column for it.

        plain: The fields of its token, by their roles.

        record: The rest of its record.

        lease: Its lease, where that has columns here: owner, fence and end in milliseconds.

        now: The time of the database's clock, in epoch seconds.
    """

    __slots__ = ("identity", "lease", "now", "plain", "record")

    def __init__(
        self,
        identity: str | None,
        plain: dict[str, Any],
        record: str | None,
        lease: tuple[str, int, int] | None,
        now: float,
    ) -> None:
        self.identity = identity
        self.plain = plain
        self.record = record
        self.lease = lease
        self.now = now


def by_role(columns: Mapping[str, Any], known: Mapping[str, Any], /) -> dict[str, list[Any]]:
    """
    Return the columns that have each role.

    Args:
        columns: The roles of the columns, as the user gave them.

        known: The columns that there are, by their names.

    Raises:
        TypeError: *columns* is no mapping.
        ValueError: There is no such role, or no such column.
    """
    if not isinstance(columns, Mapping):
        msg = f"columns must be a mapping of roles to names of columns, not {type(columns).__name__}"
        raise TypeError(msg)
    found: dict[str, list[Any]] = {}
    for role, given in columns.items():
        if role not in ROLES:
            msg = f"columns has no role {role!r}; there are {', '.join(sorted(ROLES))}"
            raise ValueError(msg)
        names = given if isinstance(given, tuple | list) else (given,)
        # An attribute of a mapped class, or a column, is named by its key.
        keys: list[Any] = [getattr(name, "key", name) for name in names]
        for key in keys:
            if key not in known:
                msg = f"columns[{role!r}]: the table has no column {key!r}; it has {', '.join(sorted(known))}"
                raise ValueError(msg)
        found[role] = [known[key] for key in keys]
    return found


def length_of(column: Any, /) -> int | None:
    """Return how many characters *column* holds, or None where nobody said."""
    length = getattr(column.type, "length", None)
    return length if isinstance(length, int) else None


def check_kind(role: str, column: Any, /) -> None:
    """
    Raise unless *column* holds what its *role* needs.

    Raises:
        ValueError: It does not.
    """
    wanted = _KINDS.get(role, (str,))
    try:
        kind = column.type.python_type
    except Exception:  # noqa: BLE001 - a type that has none says so in its own way
        kind = object
    if not issubclass(kind, wanted) or kind is bool:
        kinds = " or ".join(one.__name__ for one in wanted)
        msg = f"columns[{role!r}] must be a column of {kinds}, and {column.name!r} is of {column.type!r}"
        raise ValueError(msg)
    length = length_of(column)
    if role == "name" and length is not None and length < LEAST_NAME:
        msg = f"columns['name'] must have room for {LEAST_NAME} characters at least, and {column.name!r} has {length}"
        raise ValueError(msg)


def cut(name: str, length: int | None, /) -> str:
    """Return *name*, or what stands for it where a column of this *length* has no room for it."""
    most = min(_LONGEST_NAME, length or _LONGEST_NAME) - _DIGEST
    data = name.encode()
    # A cut name is longer than any whole one, so that it cannot be another record's name.
    whole = len(data) <= most
    return name if whole else f"{data[:most].decode(errors='ignore')}#{hashlib.sha256(data).hexdigest()}"


def as_key(column: Any, value: object, /) -> Any:
    """
    Return the part *value* of a key as *column* holds it.

    Raises:
        ValueError: It holds no such values.
    """
    kind = column.type.python_type
    if issubclass(kind, UUID) and isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    elif type(value) is kind:
        return value
    msg = f"the column {column.name!r} holds {kind.__name__}, and the key of this token has a {type(value).__name__}"
    raise ValueError(msg)


def as_instant(column: Any, value: float | None, /) -> Any:
    """Return the instant *value* (epoch seconds) as *column* holds it, a little earlier where it is coarse."""
    if value is None and column.nullable:
        return None
    instant = 0.0 if value is None else value
    kind = column.type.python_type
    if issubclass(kind, int):
        return math.floor(instant)
    if not issubclass(kind, datetime):
        return instant
    moment = datetime.fromtimestamp(instant, UTC)
    # Types that wrap another one tell it by their `impl`.
    zoned = getattr(column.type, "timezone", getattr(getattr(column.type, "impl", None), "timezone", False))
    return moment if zoned else moment.replace(tzinfo=None)


def read(role: str, value: Any, /) -> Any:
    """Return the value of a column with this *role*, in the form that a token uses."""
    if isinstance(value, Hidden):
        value = value.value
    if isinstance(value, datetime):
        # Without a time zone it is UTC.
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
    if role == "expires_at":
        if value is not None and (isinstance(value, bool) or not isinstance(value, _NUMBERS)):
            msg = f"expires_at must be a date and time or a number of epoch seconds, not a {type(value).__name__}"
            raise ValueError(msg)
        return None if value is None else float(value)
    return value if role in SECRETS or value is None else str(value)
