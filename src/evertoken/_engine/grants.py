"""Logins of keys that are not open: their status, and the import of many logins into a store."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from evertoken._model.errors import TransientRefreshError
from evertoken._model.grant import token_of
from evertoken._model.key import check_key
from evertoken._model.key_status import idle_lifetime_of, status_of_record, status_of_state
from evertoken._model.redaction import describe

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from evertoken._engine.session import Session
    from evertoken._model.coordinator import Records
    from evertoken._model.grant import Grant
    from evertoken._model.key_status import KeyStatus
    from evertoken._model.token import Token

__all__ = ["Grants", "Outcome"]

#: The result for one grant: it was imported, the existing record was kept, or an error.
Outcome: TypeAlias = Literal["imported", "kept"] | Exception

#: The number of concurrent writes.
WORKERS: Final = 16

# After this many store failures in a row, the rest of the import is not tried.
_DOWN: Final = 2 * WORKERS


@final
class Grants:
    """The logins of one session's keys."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._registry = session.registry
        self._clock = session.clock
        self._records: Records | None = session.coordinator.records

    async def status(self, key: Hashable) -> KeyStatus:
        """Return the status of *key*: from memory if the key is known there, or else from its record."""
        self._session.check_open()
        now, state = self._clock.time(), self._registry.find(key)
        known = None if state is None else status_of_state(state, now)
        if known is not None and (known.status != "pending" or self._records is None):
            return known
        source = self._registry.source_of(key) if state is None else state.source
        record = None
        if self._records is not None:
            record = await self._records.read(self._records.name_of(key, source), key)
        return status_of_record(record, now, idle_lifetime_of(source))

    async def bring(
        self,
        batch: Sequence[tuple[Hashable, Token | Grant]],
        replace: bool,  # noqa: FBT001 - it is passed between threads by position
    ) -> list[Outcome]:
        """
        Write each grant of *batch* into the store. Return the result for each.

        Raises:
            ValueError: There is no store.
            TransientRefreshError: The store is down.
        """
        self._session.check_open()
        records = self._records
        if records is None:
            msg = "import_grants() needs a store; without one, use put() for a login of an open key"
            raise ValueError(msg)
        outcomes: list[Outcome] = ["kept"] * len(batch)
        left = iter(await self._others(batch, outcomes, records))
        down = _Down()
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(WORKERS, len(batch))):
                workers.create_task(self._work(left, outcomes, records, down, replace=replace))
        if down.failures >= _DOWN:
            msg = f"{down.failures} writes in a row failed; the last failure: {down.last}"
            raise TransientRefreshError(msg)
        return outcomes

    async def _others(
        self, batch: Sequence[tuple[Hashable, Token | Grant]], outcomes: list[Outcome], records: Records
    ) -> list[tuple[int, Hashable, Token | Grant]]:
        """
        Write all new grants in one step, if the store can do that. Return the grants that must be written one by one.
        """
        now = self._clock.time()
        new: dict[str, tuple[int, Token]] = {}
        for place, (key, given) in enumerate(batch):
            # Faults of a grant are reported when it is written separately.
            with contextlib.suppress(Exception):
                if self._registry.find(key) is None:
                    check_key(key)
                    name = records.name_of(key, self._registry.source_of(key))
                    new.setdefault(name, (place, token_of(given, now)))
        kept = await records.add_new([(name, token) for name, (_, token) in new.items()])
        done = {place for (place, _), is_kept in zip(new.values(), kept, strict=True) if is_kept}
        for place in done:
            outcomes[place] = "imported"
        return [(place, key, given) for place, (key, given) in enumerate(batch) if place not in done]

    async def _work(
        self,
        left: Iterator[tuple[int, Hashable, Token | Grant]],
        outcomes: list[Outcome],
        records: Records,
        down: _Down,
        *,
        replace: bool,
    ) -> None:
        for place, key, given in left:
            if down.failures >= _DOWN:
                return
            try:
                outcomes[place] = await self._one(key, given, records, replace=replace)
                down.failures = 0
            except TransientRefreshError as error:
                down.failures, down.last = down.failures + 1, str(error)
                outcomes[place] = error.with_traceback(None)
            except (LookupError, TypeError, ValueError) as error:
                outcomes[place] = error.with_traceback(None)
            except Exception as error:  # noqa: BLE001 - a failure to make a source concerns only this key
                outcomes[place] = ValueError(describe(error))

    async def _one(
        self, key: Hashable, given: Token | Grant, records: Records, *, replace: bool
    ) -> Literal["imported", "kept"]:
        token = token_of(given, self._clock.time())
        state = self._registry.find(key)
        if state is not None and (state.token is not None or state.signed_out):
            # Memory is newer than the record that would be written here.
            if replace:
                await self._session.commands.put(key, token)
            return "imported" if replace else "kept"
        check_key(key)
        source = self._registry.source_of(key) if state is None else state.source
        added = await records.add(records.name_of(key, source), key, token, replace=replace)
        return "imported" if added else "kept"


@final
class _Down:
    """Counts how often in a row the store has failed."""

    __slots__ = ("failures", "last")

    def __init__(self) -> None:
        self.failures = 0
        self.last = ""
