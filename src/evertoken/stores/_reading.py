"""What stores that keep records as bytes do: write them, and read, refuse or set aside what they find."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from evertoken.stores._record import UnreadableRecord, dump, load

if TYPE_CHECKING:
    from evertoken._model.protocols import Record
    from evertoken.stores._record import Codec, TornRecord

__all__ = ["key_in", "opened", "report", "written"]

_log = logging.getLogger("evertoken")


def opened(key: str, data: memoryview, codec: Codec | None, /) -> Record:
    """
    Return the record of *key* that *data* is.

    Raises:
        TornRecord: It is no record, or one of another key.
        UnreadableRecord: It may be a good one, but not for this reader.
    """
    try:
        return load(key, bytes(data), codec)
    except UnreadableRecord as error:
        # The frames it came through hold the record in their locals.
        refused = type(error)(*error.args)
    raise refused


def written(record: Record, codec: Codec | None, /) -> memoryview:
    """
    Return *record* as bytes, as a view: the text of a traceback does not show what that holds.

    Raises:
        TypeError: The token carries extra fields that JSON has no form for.
    """
    try:
        return memoryview(dump(record, codec))
    except Exception as error:  # noqa: BLE001 - a codec may raise anything
        failed = error.with_traceback(None)
    raise failed


def key_in(data: memoryview, /) -> str | None:
    """Return the key that the record *data* carries, or None where it is no record."""
    try:
        key = json.loads(bytes(data))["key"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return key if isinstance(key, str) else None


def report(place: str, key: str, error: TornRecord, went: str, /) -> None:
    """Write to the log that what stood at *place* was set aside."""
    _log.warning("evertoken: the record of %r in %s is taken for missing: %s; %s", key, place, error, went)
