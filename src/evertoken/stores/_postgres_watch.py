"""How `PostgresStore` learns of writes by others: by notices, or by polling if a pooler blocks notices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from evertoken.stores._postgres_wire import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken.stores._postgres_statements import Statements
    from evertoken.stores._postgres_wire import Wire

__all__ = ["LONGEST_NOTICE", "SILENCE", "watch"]

#: Seconds of silence after which a watch checks whether the server is still there.
SILENCE: Final = 5.0

#: The longest key that fits into a notice, in bytes. For a longer key, all watchers check everything.
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

        statements: The statements for the table.

        poll: Seconds between two looks.

        longest: The length in bytes up to which a key itself identifies a row.

        changed: A function that is called with each written key, or with None if it may have been any.

        listening: A function that is called with whether each write is reported once, or the table is polled.

    Raises:
        Exception: The server is gone, or *changed* raised.
    """
    wire = await connect(conninfo, lambda said: changed(said or None))
    try:
        if not wire.shared and await _listens(wire, statements):
            listening(listens=True)
            changed(None)
            while True:
                # A connection that was cut silently looks like one on which nothing happens.
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
    # A pooler that lends a session for a single transaction forgets the LISTEN.
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
                # Earlier writes are found by a read.
                changed(None)
            found = {key: change for _, key, change in rows if key is not None}
            for key, change in found.items():
                if known.get(key) != change:
                    # The row of a longer key contains a digest instead of the key.
                    changed(key if len(key.encode()) <= longest else None)
            since, known = rows[0][0], found
        await _pause(wire, poll)


async def _pause(wire: Wire, seconds: float) -> None:
    await asyncio.wait({wire.lost}, timeout=seconds)
    if wire.lost.done():
        raise wire.gone()
