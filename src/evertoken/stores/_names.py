"""The text under which a manager keeps a record, and the key that the manager's user knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from evertoken.stores._record import UnreadableRecord

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Name", "check_owner", "name_of", "parts_of"]


class Name(NamedTuple):
    """
    The parts of a manager's name of a record.

    Args:
        namespace: That of the manager; empty where it has none.

        key: The key, as in `tokens.get(key)`; it is None if the manager has one source.

        identity: The digest of the source's identity, or None where it states none.
    """

    namespace: str
    key: Hashable
    identity: str | None


def parts_of(text: str, /) -> Name | None:
    """Return what *text* is made of, or None where no manager writes such a name."""
    try:
        found = json.loads(text)
        namespace, key, *identity = found
    except (ValueError, TypeError, RecursionError):
        return None
    parts = Name(namespace, _hashable(key), identity[0] if identity else None)
    return parts if isinstance(found, list) and isinstance(namespace, str) and name_of(parts) == text else None


def name_of(parts: Name, /) -> str:
    """Return the text that is made of *parts*."""
    written = parts if parts.identity is not None else parts[:2]
    return json.dumps(list(written), separators=(",", ":"))


def check_owner(name: str, found: object, what: str, /) -> None:
    """
    Raise where a record of the name *found* stands in the place of *name*, and belongs to another manager.

    Raises:
        UnreadableRecord: It has the same key, and another namespace or identity.
    """
    if not isinstance(found, str) or found == name:
        return
    whose, asked = parts_of(found), parts_of(name)
    if whose is not None and asked is not None and whose.key == asked.key:
        msg = f"{what} belongs to another namespace or identity: managers that differ in these must not share it"
        raise UnreadableRecord(msg)


def _hashable(key: Any) -> Any:
    # JSON has no tuples, and a key has no lists.
    return tuple(map(_hashable, key)) if isinstance(key, list) else key
