"""How `PostgresStore` hears of what others write: by notices, or by looks where a pooler keeps notices away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from evertoken.stores._postgres_wire import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken.stores._postgres_statements import Statements
    from evertoken.stores._postgres_wire import Wire

__all__ = ["LONGEST_NOTICE", "SILENCE", "watch"]

#: Seconds of silence after which a watch asks whether the server is still there.
SILENCE: Final = 5.0

#: The longest key that fits in a notice, in bytes; for a longer one everybody looks at everything.
LONGEST_NOTICE: Final = 7000


async def watch(
    conninfo: str,
    statements: Statements,
    poll: float,
    longest: int,
    changed: Callable[[str | None], object],
    *,
    listening: Callable[..., object],
) -> None:
    """
    Call *changed* with each key that is written, until cancelled.

    Args:
        conninfo: How to connect.

        statements: For the table.

        poll: Seconds between two looks.

        longest: Bytes of the longest key that is a row's own.

        changed: Told of each key, and of None where it may have been any.

        listening: Told whether each write will be told once, or the table is looked at from time to time.

    Raises:
        Exception: The server is gone, or what *changed* raised.
    """
    wire = await connect(conninfo, lambda said: changed(said or None))
    try:
        if not wire.shared and await _listens(wire, statements):
            listening(listens=True)
            changed(None)
            while True:
                # A connection that was cut without a word looks like one where nothing happens.
                await _pause(wire, SILENCE)
                if not await _still(wire, statements):
                    break
        listening(listens=False)
        await _look(wire, statements, poll, longest, changed)
    finally:
        wire.close()


async def _listens(wire: Wire, statements: Statements) -> bool:
    await wire.run(statements.listen)
    return await _still(wire, statements)


async def _still(wire: Wire, statements: Statements) -> bool:
    # A pooler that lends a session for one transaction forgets who listens.
    return await wire.run(statements.listens) == [(True,)]


async def _look(
    wire: Wire, statements: Statements, poll: float, longest: int, changed: Callable[[str | None], object]
) -> None:
    since: str | None = None
    known: dict[str, Any] = {}
    changed(None)
    while True:
        if since is not None or await wire.run(statements.exists, statements.name) == [(True,)]:
            rows = await wire.run(statements.changes, since)
            if since is None:
                # A read finds earlier writes.
                changed(None)
            found = {key: change for _, key, change in rows if key is not None}
            for key, change in found.items():
                if known.get(key) != change:
                    # The row of a longer key has a digest for its key.
                    changed(key if len(key.encode()) <= longest else None)
            since, known = rows[0][0], found
        await _pause(wire, poll)


async def _pause(wire: Wire, seconds: float) -> None:
    await asyncio.wait({wire.lost}, timeout=seconds)
    if wire.lost.done():
        raise wire.gone()
