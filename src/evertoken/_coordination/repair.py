"""
What is done with a store when no fetch is due: look at what a peer wrote, and bring to it what it did not keep.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from evertoken._model.failures import is_sign_out
from evertoken._model.protocols import Lease, Record

if TYPE_CHECKING:
    from evertoken._coordination.fleet import Sharing
    from evertoken._model.key_state import Entry

__all__ = ["look", "repair"]


async def look(entry: Entry, sharing: Sharing, /) -> Record | None:
    """
    Return what is newer in the store than what is known here: a better token, or a tombstone.

    Where the store knows less than this process it was flushed, or restored: it is repaired.
    """
    found = await sharing.steps.read(entry)
    if found is None:
        sharing.unread(entry)
        return None
    record = found[0]
    if record is not None and _is_news(entry, record, sharing):
        return record
    outdated = (0 if record is None else record.version) < entry.version and entry.token is not None
    return await repair(entry, sharing) if outdated else None


async def repair(entry: Entry, sharing: Sharing, /) -> Record | None:
    """
    Bring the token in memory to the store, unless a newer one is there already. Return what is kept then.

    None says that it could not be done now, be it that the store is down or that a peer holds the lease.
    """
    lease = await sharing.steps.acquire(entry, os.urandom(8).hex(), sharing.ttl_of(entry))
    if lease is None:
        return None
    try:
        found = await sharing.steps.read(entry)
        if found is None:
            return None
        kept = found[0]
        if kept is not None and _is_news(entry, kept, sharing):
            return kept
        if not isinstance(lease, Lease):
            return None
        version = max(entry.version, 0 if kept is None else kept.version) + 1
        record = Record(sharing.steps.key_of(entry), version, entry.token)
        return record if await sharing.steps.write(entry, record, lease) else None
    finally:
        await sharing.steps.release(entry, lease)


def _is_news(entry: Entry, record: Record, sharing: Sharing) -> bool:
    if sharing.better(entry, record):
        return True
    # A tombstone of an earlier version too: the store was flushed, and the key signed out since.
    return record.revoked and record.version != entry.version and not _is_signed_out(entry)


def _is_signed_out(entry: Entry) -> bool:
    return entry.token is None and entry.trouble is not None and is_sign_out(entry.trouble.error)
