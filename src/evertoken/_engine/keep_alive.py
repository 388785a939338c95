"""
Refreshes unused grants before they expire from disuse.

From time to time a pass reads all records of the store. If a grant is due, its key is opened, refreshed once on the
normal refresh path, and dropped again. The lease ensures that only one member does it. Later peers find the new record.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.chore import Chore
from evertoken._engine.observers import say
from evertoken._engine.supervisor import BEAT
from evertoken._engine.tasks import next_turn
from evertoken._model import events
from evertoken._model.errors import TransientRefreshError
from evertoken._model.key_status import dies_at, dying_at, idle_lifetime_of, is_dead_grant, rejection_of
from evertoken._model.policy import KeepAlivePolicy, spread
from evertoken._model.redaction import describe

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._engine.session import Session
    from evertoken._model.coordinator import Records
    from evertoken._model.key_state import KeyState
    from evertoken._model.protocols import Record

__all__ = ["KeepAlive"]

#: The longest time between two passes, in seconds.
LONGEST: Final = 6 * 3600.0
#: The shortest time between two passes, and the share of the shortest idle time that lies between them.
SHORTEST: Final = 1.0
SHARE: Final = 0.01

# A member makes its first pass within this many seconds of its start.
_FIRST: Final = 60.0
# The number of grants that are refreshed at once.
_TOGETHER: Final = 8
# After this many failures in a row, the provider is not asked until the next pass.
_TROUBLE: Final = 5
# After this many names, other tasks get their turn on the loop.
_TURN: Final = 200
# For this many names, the pass remembers until when nothing has to be done.
_REMEMBERED: Final = 100_000


@final
class KeepAlive:
    """
    The passes of one session.

    Args:
        session: The session whose registry, flights and clock are used.

        records: The records to read.

        policy: The policy for when a grant is due. A number is its `idle`.
    """

    def __init__(self, session: Session, records: Records, policy: KeepAlivePolicy | float) -> None:
        self._session = session
        self._records = records
        self._policy = policy if isinstance(policy, KeepAlivePolicy) else KeepAlivePolicy(idle=policy)
        self._clock = session.clock
        self._registry = session.registry
        self._maintenance = session.maintenance
        self.chore: Chore = Chore(self._begin, lambda: None)
        self.chore.due_at = session.clock.time() + _FIRST * spread(session.rules.seed)
        # Names whose grant is not due before an instant.
        self._rests: dict[str, float] = {}
        self._pause = LONGEST
        self._trouble = 0
        self._announced: set[str] = set()

    def _begin(self) -> float:
        self._maintenance.do(self._pass(), "evertoken:keep-alive")
        # The pass itself sets the start of the next one.
        return math.inf

    async def _pass(self) -> None:
        earliest = math.inf
        try:
            await next_turn()
            earliest = await self.go_through()
        except TransientRefreshError as error:
            say(logging.WARNING, "unused grants could not be checked: %s", error)
        except Exception as error:  # noqa: BLE001 - it is logged, and the next pass tries again
            say(logging.ERROR, "checking unused grants raised %s", type(error).__qualname__)
        now = self._clock.time()
        # Members start at different moments, because otherwise they would only wait for each other.
        apart = self._pause * spread(self._session.rules.seed)
        self.chore.due_at = min(max(earliest, now + self._pause), now + LONGEST) + apart
        self._maintenance.supervisor.set(self.chore, self.chore.due_at)

    async def go_through(self) -> float:
        """
        Make one pass, and return when the next grant is due.

        Raises:
            TransientRefreshError: The store cannot be read.
        """
        earliest, rests = math.inf, dict[str, float]()
        due: list[tuple[str, Hashable, Record]] = []
        self._trouble = seen = 0
        async for name in self._records.names():
            seen += 1
            if seen % _TURN == 0:
                await next_turn()
            now = self._clock.time()
            at = self._rests.get(name, -math.inf)
            if at <= now:
                found = self._records.key_of(name)
                if found is None or found[0] in self._registry.keys:
                    continue
                key = found[0]
                record = await self._records.read(name, key)
                at = math.inf if record is None else self._due_at(name, key, record)
                if record is not None and at <= now:
                    due.append((name, key, record))
                    if len(due) == _TOGETHER:
                        await self._refresh(due)
                        due = []
                    continue
            if now < at < math.inf:
                earliest = min(earliest, at)
                if len(rests) < _REMEMBERED:
                    rests[name] = at
        self._rests = rests
        await self._refresh(due)
        return earliest

    def _due_at(self, name: str, key: Hashable, record: Record) -> float:
        token = record.token
        if record.revoked or token is None or token.refresh_token is None or rejection_of(token) is not None:
            return math.inf
        found: tuple[float, bool] | None
        if self._policy.idle is not None:
            found = token.issued_at + self._policy.idle, True
        else:
            try:
                found = dies_at(token, idle_lifetime_of(self._registry.source_of(key)))
            except Exception as error:  # noqa: BLE001 - a key without a source is skipped
                say(logging.DEBUG, "no source for the key %r: %s", key, describe(error))
                return math.inf
        if found is None:
            return math.inf
        dies, put_off = found
        self._pause = min(self._pause, max((dies - token.issued_at) * SHARE, SHORTEST))
        if put_off:
            return self._policy.due_at(token.issued_at, dies, spread(name))
        if name not in self._announced and dying_at(token, self._clock.time()) is not None:
            self._announced.add(name)
            self._session.observers.emit(events.GrantExpiring(at=self._clock.time(), key=key, expires_at=dies))
        return math.inf

    async def _refresh(self, due: list[tuple[str, Hashable, Record]]) -> None:
        if due and self._trouble < _TROUBLE:
            async with asyncio.TaskGroup() as together:
                for name, key, record in due:
                    together.create_task(self._refresh_one(name, key, record))

    async def _refresh_one(self, name: str, key: Hashable, record: Record) -> None:
        session = self._session
        async with session.lock:
            if key in self._registry.keys or not session.running:
                return
            try:
                state, _ = self._registry.open(key)
            except Exception as error:  # noqa: BLE001 - a key without a source is skipped
                say(logging.DEBUG, "no source for the key %r: %s", key, describe(error))
                return
            if self._records.name_of(key, state.source) != name:
                # The record belongs to another identity, so this source must not present its refresh token.
                self._registry.drop(state)
                return
            since = self._clock.time() - 1.0
            state.watched(since)
            if state.token is None:
                state.superseded(record, session.rules)
            self._maintenance.schedule(state)
            flight = session.flights.launch(state, "keep_alive", urgent=False)
        while not flight.landed:
            # It does not wait as a waiter of the flight, because then it would count as a user of the key.
            await self._maintenance.change(state, BEAT)
        failed = flight.error is not None and not is_dead_grant(flight.error)
        self._trouble = self._trouble + 1 if failed else 0
        await self._let_go(state, since)

    async def _let_go(self, state: KeyState, since: float) -> None:
        async with self._session.lock:
            if self._registry.keys.get(state.key) is not state:
                return
            if state.idle_since == since and self._maintenance.may_drop(state):
                self._registry.drop(state)
                self._maintenance.supervisor.deadlines.discard(state)
                state.closed()
            else:
                # Somebody uses the key now, or it has something that the store lacks.
                self._maintenance.schedule(state)
