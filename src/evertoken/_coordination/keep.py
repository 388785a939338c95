"""
How a token that was fetched comes to be kept before anyone uses it, also where its lease was outlived meanwhile.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from evertoken._coordination.fleet import LEASE, POLL
from evertoken._model.errors import GrantRejected
from evertoken._model.protocols import Held, Lease

if TYPE_CHECKING:
    from evertoken._coordination.fleet import Hold, Sharing
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Record
    from evertoken._model.token import Token

__all__ = ["keep"]

_ATTEMPTS: Final = 3
_PAUSE: Final = 0.1


async def keep(entry: Entry, hold: Hold, token: Token, sharing: Sharing, /) -> bool:
    """
    Keep *token* durably before anyone uses it; return False where that failed although it was tried again.

    Where the lease was outlived, *hold* is to be adopted if a peer fetched meanwhile; if none did, *token* is
    the newest there is, and kept under a new lease.

    Raises:
        GrantRejected: The lease was outlived, and the key signed out meanwhile.
    """
    before = hold.record
    for attempt in range(_ATTEMPTS):
        if hold.lease is None:
            return False
        if attempt:
            await sharing.pause(_PAUSE * 2.0**attempt)
        written = await sharing.fenced(entry, hold, token)
        if written:
            return True
        if written is False:
            await _regain(entry, hold, before, sharing)
            if hold.adopt:
                return True
    return False


async def _regain(entry: Entry, hold: Hold, before: Record | None, sharing: Sharing) -> None:
    owner, end = os.urandom(8).hex(), sharing.clock.monotonic() + LEASE
    hold.lease = None
    while True:
        lease = await sharing.steps.acquire(entry, owner, sharing.ttl_of(entry))
        found = None if lease is None else await sharing.steps.read(entry)
        if found is not None:
            hold.record = found[0]
            hold.adopt = _came_since(before, hold.record)
            if _signed_out_since(before, hold.record):
                await sharing.steps.release(entry, lease)
                error = "revoked"
                raise GrantRejected(error, "the key was signed out while its token was fetched")
        if isinstance(lease, Held) and not hold.adopt and sharing.clock.monotonic() < end:
            # A peer is at it. What it writes is newer than what this flight brought.
            await sharing.look_again(entry, min(POLL, max(lease.remaining, 0.0) + 0.001))
            continue
        if isinstance(lease, Lease) and found is not None and not hold.adopt:
            hold.lease = lease
        else:
            await sharing.steps.release(entry, lease)
        return


def _came_since(before: Record | None, record: Record | None) -> bool:
    token, presented = None if record is None else record.token, None if before is None else before.token
    if token is None or presented is None:
        return token is not None
    # An older one is what a peer offered to a store that was flushed.
    return token.access_token != presented.access_token and token.issued_at >= presented.issued_at


def _signed_out_since(before: Record | None, record: Record | None) -> bool:
    return record is not None and record.revoked and record.version > (0 if before is None else before.version)
