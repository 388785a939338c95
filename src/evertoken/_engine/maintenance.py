"""Automatic work on keys: it schedules them, announces changes, notices idle keys, and drops them."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.chore import Chore
from evertoken._engine.flight import LOOKS
from evertoken._engine.observers import SHUTDOWN, say
from evertoken._engine.supervisor import BEAT, SLACK, Supervisor
from evertoken._engine.tasks import Gate
from evertoken._model import events, supervisor_events
from evertoken._model.errors import TransientRefreshError
from evertoken._model.redaction import describe

if TYPE_CHECKING:
    from collections.abc import Coroutine, Hashable

    from evertoken._engine.session import Session
    from evertoken._model.events import Reason
    from evertoken._model.key_state import KeyState

__all__ = ["Maintenance"]

# Within this part of the idle time, the start of a fetch can stand for its end.
_RECENT: Final = 0.1


@final
class Maintenance:
    """The supervisor of one session, and its work for each key."""

    def __init__(self, session: Session) -> None:
        self.supervisor: Supervisor[KeyState | Chore] = Supervisor(
            session.clock, on_due=self._due, on_step=self._stepped, on_restart=self._restarted
        )
        # The clock may have been set since the previous session compared it.
        self.supervisor.offset = session.registry.offset
        self._session = session
        self._registry = session.registry
        self._lock = session.lock
        self._clock = session.clock
        self._rules = session.rules
        self._observers = session.observers
        self._subscriptions = session.subscriptions
        idle_after = None if session.registry.source_for is None else session.settings.idle_after
        self._idle_after: float = math.inf if idle_after is None else idle_after
        self._closing = False
        self._gates: dict[KeyState, Gate] = {}
        self._chores: list[Chore] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Run the supervisor. Tokens in memory are served again, and missing ones are fetched."""
        for state in self._registry.keys.values():
            state.seen()
            self.schedule(state)
        self.supervisor.start()

    def add(self, chore: Chore) -> None:
        """From now on, run *chore* when it is due."""
        self._chores.append(chore)
        self.supervisor.set(chore, chore.due_at)

    def do(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Do *work* in a task. The task is cancelled when the session ends."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return task

    def end(self) -> None:
        """Stop scheduling and serving, and wake all who wait for a change."""
        self._closing = True
        chores, self._chores = self._chores, []
        for chore in chores:
            chore.end()
        self._registry.offset = self.supervisor.offset
        for gate in list(self._gates.values()):
            gate.wake()

    async def stop(self) -> None:
        """End the supervisor, and wake all who wait for a change."""
        self.end()
        await self.supervisor.stop()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def schedule(self, state: KeyState) -> None:
        """Set the deadline of *state* to its next flight, or earlier if it may have to be dropped before."""
        try:
            now = self._clock.time()
            instant = state.next_at(now, self._rules)
            if self._may_be_idle(state):
                since = now if state.idle_since is None else state.idle_since
                instant = min(instant, since + self._idle_after)
            # A policy of another author may return NaN.
            self.supervisor.set(state, instant if instant == instant else now)  # noqa: PLR0124 - NaN
        except SHUTDOWN:
            raise
        except BaseException as problem:  # noqa: BLE001 - every open key needs a deadline
            say(logging.ERROR, "the policy or the clock raised %s", type(problem).__qualname__)
            # The deadline counts from the last beat, because the clock itself may have raised.
            self.supervisor.deadlines.set(state, (self.supervisor.last_beat or 0.0) + BEAT)

    def published(self, state: KeyState) -> None:
        """*state* has changed. Schedule it, and wake all who wait for a change."""
        if self._registry.keys.get(state.key) is not state:
            return
        if self._closing:
            # A token that lands now is kept for the next start. Until then it is not served.
            state.barred()
            return
        if state.idle_since is None and self._may_be_idle(state):
            # The instant of the fetch is accurate enough, and already stored. That saves one float for each key.
            now = self._clock.time()
            recent = now - state.fetched_at < self._idle_after * _RECENT
            state.watched(state.fetched_at if recent else now)
        self.schedule(state)
        self.wake(state)
        self._subscriptions.changed(state.key)

    def came_back(self, provider: Hashable) -> None:
        """*provider* was down and has answered. Its failed keys are tried again now, earlier than planned."""
        now = self._clock.time()
        for state in list(self._registry.keys.values()):
            failure = state.failure
            if failure is None or failure.retry_at <= now or not isinstance(failure.error, TransientRefreshError):
                continue
            if state.flight is None and self._registry.provider_of(state) == provider:
                state.hurried(max(now, failure.not_before))
                self.schedule(state)

    def store_came_back(self) -> None:
        """The store was down and has answered. Tokens that it lacks are offered to it again now."""
        now = self._clock.time()
        for state in list(self._registry.keys.values()):
            if state.unkept and state.flight is None:
                state.offered_soon(now)
                self.schedule(state)

    async def change(self, state: KeyState, seconds: float) -> None:
        """Wait until *state* changes, for at most *seconds*."""
        gate = self._gates.get(state)
        if gate is None:
            gate = self._gates[state] = Gate()
        try:
            await gate.wait(self._clock, seconds)
        finally:
            if not gate and self._gates.get(state) is gate:
                del self._gates[state]

    def wake(self, state: KeyState) -> None:
        """Wake those who wait for a change of *state*."""
        gate = self._gates.get(state)
        if gate is not None:
            gate.wake()

    def in_use(self, state: KeyState) -> bool:
        """Tell whether a caller waits for *state*, or subscribes to it."""
        flight = state.flight
        # A flight that is still queued and has no waiters is no use of the key.
        flown = flight is not None and (flight.started or len(flight) > 0 or flight.reason in LOOKS)
        return bool(flown or self._gates.get(state) or self._subscriptions.has(state.key))

    def may_drop(self, state: KeyState) -> bool:
        """Tell whether *state* is unused, and can be dropped without a loss."""
        if self.in_use(state):
            return False
        # Without a store, a rotated refresh token exists only in memory. The same is true for a sign-out.
        return not state.unkept if self._rules.shared else state.droppable

    def _may_be_idle(self, state: KeyState) -> bool:
        return self._idle_after < math.inf and state.key not in self._registry.critical

    # Called by the supervisor

    def _due(self, state: KeyState | Chore) -> None:
        if isinstance(state, Chore):
            if self._clock.time() + SLACK >= state.due_at:
                state.due_at = state.run()
            self.supervisor.set(state, state.due_at)
            return
        if self._registry.keys.get(state.key) is not state:
            self.supervisor.deadlines.discard(state)
            return
        now = self._clock.time()
        if self._may_be_idle(state):
            if state.idle_since is None:
                state.watched(now)
            elif now + SLACK >= state.idle_since + self._idle_after:
                if self.may_drop(state):
                    self._drop(state)
                    return
                state.watched(now)
        if self._next_at(state, now) > now + SLACK:
            self.schedule(state)
        elif state.flight is None:
            self._session.launch_due(state, self._reason(state, now))

    def _next_at(self, state: KeyState, now: float) -> float:
        try:
            return state.next_at(now, self._rules)
        except SHUTDOWN:
            raise
        except BaseException:  # noqa: BLE001 - without a policy, a key is fetched at its deadline
            return now

    def _reason(self, state: KeyState, now: float) -> Reason:
        failure, serving = state.failure, state.in_service(now) is not None
        if failure is not None and failure.unkept:
            at = state.due_at(self._rules) if serving else now
            if now + SLACK < (at if failure.error is None else failure.retry_at):
                return "repair"
        if failure is not None and failure.error is not None:
            return "peer" if state.signed_out else "retry"
        if state.token is None:
            return "absent"
        return "due" if serving else "expired"

    def _drop(self, state: KeyState) -> None:
        self.do(self._evict(state), f"evertoken:evict:{state.key!r}")

    async def _evict(self, state: KeyState) -> None:
        async with self._lock:
            # It may have been used while this code waited for the lock.
            if state.idle_since is None or not self.may_drop(state):
                self.schedule(state)
                return
            self._registry.drop(state)
            self.supervisor.deadlines.discard(state)
            state.closed()
        self._observers.emit(events.KeyEvicted(at=self._clock.time(), key=state.key))

    def _stepped(self, by: float) -> None:
        if by < 0.0:
            for state in self._registry.keys.values():
                state.reanchored(by)
            for chore in self._chores:
                chore.due_at += by
        self._observers.emit(supervisor_events.ClockStepped(at=self._clock.time(), by=by))

    def _restarted(self, error: BaseException, restarts: int) -> None:
        self._observers.emit(
            supervisor_events.SupervisorRestarted(at=self._clock.time(), error=describe(error), restarts=restarts)
        )
