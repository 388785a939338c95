"""Common code of stores that keep records as bytes: write, read, refuse, and set aside."""

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
    Return the record of *key* from *data*.

    Raises:
        TornRecord: *data* is not a record, or is one of another key.
        UnreadableRecord: It may be a valid record, but this reader cannot read it.
    """
    try:
        return load(key, bytes(data), codec)
    except UnreadableRecord as error:
        # The frames that it passed through hold the record in their locals.
        refused = type(error)(*error.args)
    raise refused


def written(record: Record, codec: Codec | None, /) -> memoryview:
    """
    Return *record* as bytes. The result is a view, because its text in a traceback does not show the content.

    Raises:
        TypeError: The token has extra fields that JSON cannot express.
    """
    try:
        return memoryview(dump(record, codec))
    except Exception as error:  # noqa: BLE001 - a codec may raise anything
        failed = error.with_traceback(None)
    raise failed


def key_in(data: memoryview, /) -> str | None:
    """Return the key in the record *data*, or None if it is not a record."""
    try:
        key = json.loads(bytes(data))["key"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return key if isinstance(key, str) else None


def report(place: str, key: str, error: TornRecord, went: str, /) -> None:
    """Log that the record at *place* was set aside."""
    _log.warning("evertoken: the record of %r in %s counts as missing: %s; %s", key, place, error, went)
