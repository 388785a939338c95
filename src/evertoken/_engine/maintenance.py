"""
What happens to keys without being asked: they come due, are published, lie idle, and are dropped.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.flight import Gate
from evertoken._engine.subscription import Subscription
from evertoken._engine.supervisor import SLACK, Supervisor
from evertoken._model import events
from evertoken._model.redaction import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from evertoken._engine.observers import Observers
    from evertoken._engine.registry import Registry
    from evertoken._model.events import Reason
    from evertoken._model.failure_state import Rules
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Clock

__all__ = ["Upkeep"]

_RECENT: Final = 60.0


@final
class Upkeep:
    """
    The supervisor and what it does for each key.

    Args:
        idle_after: Seconds after which a key that nobody asked for is dropped; None for never.

        kept: Whether a store keeps tokens, so that a dropped key loses nothing.

        launch: Starts a fetch for an entry.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        clock: Clock,
        rules: Rules,
        observers: Observers,
        idle_after: float | None,
        kept: bool,
        launch: Callable[[Entry, Reason], object],
    ) -> None:
        self.supervisor: Supervisor[Entry] = Supervisor(
            clock, on_due=self._due, on_step=self._stepped, on_restart=self._restarted
        )
        self._registry = registry
        self._clock = clock
        self._rules = rules
        self._observers = observers
        self._idle_after = idle_after
        self._kept = kept
        self._launch = launch
        self._closing = False
        self._gates: dict[Entry, Gate] = {}
        self._subscriptions: dict[Hashable, weakref.WeakSet[Subscription]] = {}
        self._evictions: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """
        Run the supervisor. What is in memory is served again, what is missing is fetched.
        """
        # The clock may have been set since it was last looked at.
        self.supervisor.compare_clocks()
        self._closing = False
        now = self._clock.time()
        for entry in self._registry.entries.values():
            entry.seen()
            self.schedule(entry, entry.next_at(now, self._rules))
        self.supervisor.start()

    async def stop(self) -> None:
        """
        End the supervisor and wake all who wait for a change.
        """
        self._closing = True
        for gate in list(self._gates.values()):
            gate.wake()
        await self.supervisor.stop()
        for task in list(self._evictions):
            task.cancel()
        if self._evictions:
            await asyncio.wait(self._evictions)

    def close_subscriptions(self) -> None:
        """
        End all subscriptions.
        """
        for readers in list(self._subscriptions.values()):
            for reader in list(readers):
                reader.close()

    def abandon(self) -> None:
        """
        Forget all deadlines, and all who wait.
        """
        self.supervisor.abandon()
        self._gates.clear()
        self._subscriptions.clear()
        self._evictions.clear()

    def schedule(self, entry: Entry, instant: float) -> None:
        """
        Look at *entry* at *instant*, or earlier if it may have to be dropped before.
        """
        if self._idle_after is not None:
            since = self._clock.time() if entry.idle_since is None else entry.idle_since
            instant = min(instant, since + self._idle_after)
        self.supervisor.set(entry, instant)

    def published(self, entry: Entry, again_at: float) -> None:
        """
        *entry* has changed: schedule it, and tell those who wait for a change.
        """
        if self._registry.entries.get(entry.key) is not entry:
            return
        if self._closing:
            # What lands now, or later, is kept for the next start, and served to nobody before.
            entry.barred()
            return
        if self._idle_after is not None and entry.idle_since is None:
            # The instant of the fetch will do, and is there already: one float less for each key.
            now = self._clock.time()
            entry.watched(entry.fetched_at if now - entry.fetched_at < _RECENT else now)
        self.schedule(entry, again_at)
        self.wake(entry)
        readers = self._subscriptions.get(entry.key)
        if readers is not None and not readers:
            # They were dropped without being closed.
            del self._subscriptions[entry.key]
        token = entry.in_service(self._clock.time()) if readers else None
        if readers and token is not None:
            for reader in list(readers):
                reader.publish(token)

    async def change(self, entry: Entry, seconds: float) -> None:
        """
        Wait until *entry* changes, for at most that long.
        """
        gate = self._gates.get(entry)
        if gate is None:
            gate = self._gates[entry] = Gate()
        try:
            await gate.wait(self._clock, seconds)
        finally:
            if not gate and self._gates.get(entry) is gate:
                del self._gates[entry]

    def wake(self, entry: Entry) -> None:
        """
        Wake those who wait for a change of *entry*.
        """
        gate = self._gates.get(entry)
        if gate is not None:
            gate.wake()

    def subscribe(self, key: Hashable, begin: Callable[[Subscription], Awaitable[object]]) -> Subscription:
        """
        Return a subscription to *key*; *begin* is awaited before its first token.
        """
        readers = self._subscriptions.setdefault(key, weakref.WeakSet())
        subscription = Subscription(begin, lambda reader: self._unsubscribe(key, reader))
        readers.add(subscription)
        return subscription

    def _unsubscribe(self, key: Hashable, subscription: Subscription) -> None:
        readers = self._subscriptions.get(key)
        if readers is not None:
            readers.discard(subscription)
            if not readers:
                del self._subscriptions[key]

    # What the supervisor calls

    def _due(self, entry: Entry) -> None:
        if self._registry.entries.get(entry.key) is not entry:
            return
        now = self._clock.time()
        if self._idle_after is not None:
            if entry.idle_since is None:
                entry.watched(now)
            elif now + SLACK >= entry.idle_since + self._idle_after:
                if self._may_drop(entry):
                    self._drop(entry)
                    return
                entry.watched(now)
        at = entry.next_at(now, self._rules)
        if at > now + SLACK:
            self.schedule(entry, at)
        elif entry.flight is None:
            self._launch(entry, self._reason(entry, now))

    def _reason(self, entry: Entry, now: float) -> Reason:
        if entry.trouble is not None and entry.trouble.error is not None:
            return "retry"
        if entry.token is None:
            return "absent"
        if entry.in_service(now) is None:
            return "expired"
        return "repair" if entry.unkept and now + SLACK < entry.due_at(self._rules) else "due"

    def _may_drop(self, entry: Entry) -> bool:
        if entry.flight is not None or self._gates.get(entry) or self._subscriptions.get(entry.key):
            return False
        # Where no store keeps it, a refresh token that came by rotation lives in memory alone.
        kept = self._kept and not entry.unkept
        return kept or entry.token is None or entry.token.refresh_token is None

    def _drop(self, entry: Entry) -> None:
        task = asyncio.get_running_loop().create_task(self._evict(entry), name=f"evertoken:evict:{entry.key!r}")
        if not task.done():
            self._evictions.add(task)
            task.add_done_callback(self._evictions.discard)

    async def _evict(self, entry: Entry) -> None:
        if await self._registry.evict_idle(entry):
            self.supervisor.deadlines.discard(entry)
            self._observers.emit(events.KeyEvicted(at=self._clock.time(), key=entry.key))
        else:
            self.schedule(entry, entry.next_at(self._clock.time(), self._rules))

    def _stepped(self, by: float) -> None:
        if by < 0.0:
            for entry in self._registry.entries.values():
                entry.reanchored(by)
        self._observers.emit(events.ClockStepped(at=self._clock.time(), by=by))

    def _restarted(self, error: BaseException, restarts: int) -> None:
        self._observers.emit(
            events.SupervisorRestarted(at=self._clock.time(), error=describe(error), restarts=restarts)
        )
