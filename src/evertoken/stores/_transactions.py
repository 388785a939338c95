"""
Transactions of the user's engine: each step of the store is one, begun again where another one got in its way.

A database may quote the values of a failed statement in its message. That message is never shown.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from evertoken._model.redaction import scrub
from evertoken.stores._home_loop import HomeLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from evertoken.stores._offload import Abandoned

__all__ = ["Transactions"]

T = TypeVar("T")

#: How often a step is begun before it fails.
_TRIES: Final = 6

#: Another transaction was in the way: PostgreSQL's states for a deadlock and for a conflict, and MySQL's numbers for a
#: deadlock and for a row that has changed since it was read.
_CONFLICTS: Final = frozenset({"40001", "40P01", "1213", "1020"})
#: A table is missing.
_NO_TABLE: Final = frozenset({"42P01", "1146"})

#: The writers of a database that has one lock take turns here: such a database lets them look for it by chance.
_TURNS: Final[weakref.WeakKeyDictionary[Any, tuple[asyncio.AbstractEventLoop, asyncio.Lock]]] = (
    weakref.WeakKeyDictionary()
)

_QUOTED: Final = re.compile(r"'([^']*)'|\"([^\"]*)\"")


@final
class Transactions:
    """
    The transactions of one engine.

    It belongs to the event loop that uses it first, as its connections do. Calls from other loops are made there.

    Args:
        engine: An `AsyncEngine`.

        errors: The exceptions of SQLAlchemy: the base of all, and that of a broken constraint.

        names: The names that a message may quote.
    """

    def __init__(self, engine: Any, errors: tuple[type[Exception], type[Exception]], names: Iterable[str]) -> None:
        self._engine = engine
        self._failures, self._broken = errors
        self._names = frozenset(names)
        self._home = HomeLoop()

    async def run(
        self, work: Callable[[Any], Awaitable[T]], /, *, first: Any = None, abandoned: Abandoned | None = None
    ) -> T:
        """
        Return what *work* returns, which is given a connection; commit where it ends well, and else change nothing.

        Args:
            work: It may be called again.

            first: A statement that takes the lock of a database that has but one.

            abandoned: It is set when the caller has gone. In SQLite the work goes on then.

        Raises:
            OSError: The database failed.
        """
        # In SQLite the thread of the driver cannot be stopped: a cancelled caller would leave a statement open there.
        call = self._home.call_to_its_end if self._engine.dialect.name == "sqlite" else self._home.call
        try:
            return await call(lambda: self._run(work, first))
        except asyncio.CancelledError:
            if abandoned is not None:
                abandoned.set()
            raise

    async def _run(self, work: Callable[[Any], Awaitable[T]], first: Any) -> T:
        left = _TRIES
        while True:
            left -= 1
            try:
                async with self._turn(first), self._engine.connect() as connection:
                    if self._engine.dialect.name != "sqlite":
                        await connection.execution_options(isolation_level="READ COMMITTED")
                    elif first is not None:
                        await connection.execute(first)
                    result = await work(connection)
                    await connection.commit()
                    return result
            except self._failures as error:
                if left and self._is_conflict(error):
                    continue
                failure = self._described(error)
            raise failure

    @asynccontextmanager
    async def _turn(self, first: Any) -> AsyncIterator[None]:
        if first is None:
            yield
            return
        here = asyncio.get_running_loop()
        loop, lock = _TURNS.get(self._engine, (None, None))
        if loop is not here or lock is None:
            lock = asyncio.Lock()
            _TURNS[self._engine] = here, lock
        async with lock:
            yield

    def _is_conflict(self, error: Exception) -> bool:
        # Two have inserted the same row: the next try finds it.
        return isinstance(error, self._broken) or not _CONFLICTS.isdisjoint(_codes(error))

    def _described(self, error: Exception) -> OSError:
        cause = getattr(error, "orig", None) or error
        # Details follow in other lines, and quote whole rows.
        words = _words(cause).strip().partition("\n")[0]
        words = _QUOTED.sub(lambda found: found[0] if {*found.groups()} & self._names else "'***'", words)
        codes = " ".join(sorted(_codes(error)))
        said = f"the database failed: {type(error).__name__}{f' {codes}' if codes else ''}: {scrub(words)}"
        missing = not _NO_TABLE.isdisjoint(_codes(error)) or "no such table" in words
        return FileNotFoundError(said) if missing else OSError(said)


def _words(cause: Any) -> str:
    # The drivers of MySQL put a number before them.
    parts: Any = getattr(cause, "args", ())
    return str(parts[1]) if len(parts) > 1 and type(parts[0]) is int else str(cause)


def _codes(error: Exception) -> set[str]:
    # The codes of psycopg and asyncpg, and of the drivers of MySQL.
    cause: Any = getattr(error, "orig", None)
    number = next(iter(getattr(cause, "args", ())), None)
    found = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return {str(code) for code in (found, number if type(number) is int else None) if code}
