"""
Grants that nobody uses are refreshed before they die of it.

From time to time the store is gone through. A grant that is due is opened, refreshed once by the path that all fetches
take, and dropped again. The lease sees to it that one member does it; a peer that comes later finds the new record.
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
#: The shortest one, and the part of the shortest idle time that is seen.
SHORTEST: Final = 1.0
SHARE: Final = 0.01

# Within so many seconds of its start a member makes its first pass.
_FIRST: Final = 60.0
# So many grants are refreshed at once.
_TOGETHER: Final = 8
# After so many failures in a row the provider is left alone until the next pass.
_TROUBLE: Final = 5
# After so many names others get their turn on the loop.
_TURN: Final = 200
# For so many names it is remembered until when nothing has to be done.
_REMEMBERED: Final = 100_000


@final
class KeepAlive:
    """
    The passes of one session.

    Args:
        session: Whose registry, flights and clock are used.

        records: What is gone through.

        policy: When a grant is due; a number is its `idle`.
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
        # The pass says when the next one begins.
        return math.inf

    async def _pass(self) -> None:
        earliest = math.inf
        try:
            await next_turn()
            earliest = await self.go_through()
        except TransientRefreshError as error:
            say(logging.WARNING, "grants that nobody uses were not gone through: %s", error)
        except Exception as error:  # noqa: BLE001 - told, and tried again with the next pass
            say(logging.ERROR, "a pass over grants that nobody uses raised %s", type(error).__qualname__)
        now = self._clock.time()
        # Members do not begin at the same moment, because they would only wait for each other.
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
            except Exception as error:  # noqa: BLE001 - a key that is nobody's any more is left alone
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
            except Exception as error:  # noqa: BLE001 - a key that is nobody's any more is left alone
                say(logging.DEBUG, "no source for the key %r: %s", key, describe(error))
                return
            if self._records.name_of(key, state.source) != name:
                # The record of another identity: this source must not present what is in it.
                self._registry.drop(state)
                return
            since = self._clock.time() - 1.0
            state.watched(since)
            if state.token is None:
                state.superseded(record, session.rules)
            self._maintenance.schedule(state)
            flight = session.flights.launch(state, "keep_alive", urgent=False)
        while not flight.landed:
            # Not as one that waits for the flight: it would count as a user of the key.
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
                # Somebody has come to use it, or it has what the store lacks.
                self._maintenance.schedule(state)
