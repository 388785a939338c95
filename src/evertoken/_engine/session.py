"""
A session: one start of a manager. Everything that belongs to one event loop belongs to it, and ends with it.

`start()` makes a session. A close, a fork, or the loss of the loop drops it as a whole. Only plain data outlives it:
keys and their states, counters, settings.
"""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from evertoken._engine.chore import Chore
from evertoken._engine.commands import Commands
from evertoken._engine.connections import Connections
from evertoken._engine.event_stream import EventStreams
from evertoken._engine.flights import Flights
from evertoken._engine.grants import Grants
from evertoken._engine.health_file import HealthFile
from evertoken._engine.inspection import health_of
from evertoken._engine.keep_alive import KeepAlive
from evertoken._engine.maintenance import Maintenance
from evertoken._engine.observers import say
from evertoken._engine.provider_watch import ProviderWatch
from evertoken._engine.providers import Limits
from evertoken._engine.read_path import ReadPath
from evertoken._engine.store_outage import StoreOutage
from evertoken._engine.subscription import Subscriptions
from evertoken._engine.tasks import Gate, Strays, next_turn, spawn, to_its_end
from evertoken._model import events
from evertoken._model.errors import ManagerClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from evertoken._engine.counters import Counters
    from evertoken._engine.observers import Observers
    from evertoken._engine.options import Settings
    from evertoken._engine.registry import Registry
    from evertoken._model.coordinator import Coordinator
    from evertoken._model.events import Reason
    from evertoken._model.key_state import KeyState
    from evertoken._model.policy import Rules
    from evertoken._model.protocols import Clock
    from evertoken._model.snapshot import Health, State

__all__ = ["Session"]

T = TypeVar("T")

#: When the session closes, cancelled calls of sources and stores should end within this many seconds.
_STRAY_GRACE: Final = 1.0

#: When the session closes, tokens are kept, or offered to the store, within this many seconds.
_KEEP_BOUND: Final = 6.0


@final
class Session:
    """
    One start of a manager, on the running loop.

    Args:
        make_coordinator: A function that makes the coordinator of this session.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        *,
        rules: Rules,
        observers: Observers,
        counters: Counters,
        make_coordinator: Callable[[Session], Coordinator],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.pid: int = os.getpid()
        self.state: State = "running"
        self.registry = registry
        self.settings = settings
        self.rules = rules
        self.observers = observers
        self.clock: Clock = settings.clock
        self.lock: asyncio.Lock = asyncio.Lock()
        self.strays: Strays = Strays()
        self.limits: Limits = Limits(
            settings.concurrency, book=registry.providers, clock=self.clock, hurry=rules.retry.demand_delay()
        )
        #: This gate opens when `start()` has ended, with or without success.
        self.started: Gate | None = Gate()
        self.failure: BaseException | None = None
        self._opening: Gate | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self.counters = counters
        self.connections: Connections = Connections(self.clock, self.strays, self.spawn)
        self.subscriptions: Subscriptions = Subscriptions(self.loop, self.is_lost)
        self.event_streams: EventStreams = EventStreams(self.loop, self.is_lost)
        observers.streams = self.event_streams
        self.maintenance: Maintenance = Maintenance(self)
        self.store_outage: StoreOutage = StoreOutage(self.clock, observers, came_back=self.maintenance.store_came_back)
        self.compare_clocks: Callable[[], None] = self.maintenance.supervisor.compare_clocks
        self.providers: ProviderWatch = ProviderWatch(
            settings,
            registry=registry,
            limits=self.limits,
            rules=rules,
            observers=observers,
            came_back=self.maintenance.came_back,
        )
        self.coordinator: Coordinator = make_coordinator(self)
        self.flights: Flights = Flights(self)
        self.read_path: ReadPath = ReadPath(self)
        self.commands: Commands = Commands(self)
        self.grants: Grants = Grants(self)

    @property
    def running(self) -> bool:
        """Whether it accepts callers. In a forked child it does not."""
        return self.state == "running" and self.pid == os.getpid()

    def is_lost(self) -> bool:
        """Tell whether its loop has ended or stopped, or this process is a fork."""
        return self.pid != os.getpid() or self.loop.is_closed() or not self.loop.is_running()

    async def open(self) -> None:
        """Accept callers, run the supervisor, and fetch the first tokens as the start mode requires."""
        # The event comes first, because with an eager task factory the supervisor starts fetches before this returns.
        self.observers.emit(events.ManagerStarted(at=self.clock.time()))
        # Before the store opens, which may take seconds: callers are served from memory meanwhile.
        self.compare_clocks()
        self._opening = opening = Gate()
        try:
            await self.coordinator.open()
        finally:
            self._opening = None
            opening.wake()
        self.check_open()
        self.maintenance.start()
        mode = self.settings.start
        if mode != "lazy":
            await self.read_path.prefetch(self.settings.start_timeout, required=mode == "require")
        await self._begin_chores()

    def opened(self) -> None:
        """The start has ended. Wake the other callers of `start()`."""
        gate, self.started = self.started, None
        if gate is not None:
            gate.wake()

    def refuse(self) -> None:
        """Accept no further callers, and wake those who wait."""
        if self.state != "running":
            return
        self.state = "closing"
        for state in self.registry.keys.values():
            state.barred()
            if state.flight is not None:
                state.flight.wake()
        # The event comes last, because with an eager task factory an observer's task may close the manager here.
        self.observers.emit(events.ManagerClosing(at=self.clock.time()))

    def closing(self) -> asyncio.Task[None]:
        """Return the one task that closes this session."""
        self.refuse()
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(), name="evertoken:close")
        return self._closing

    def drop(self) -> None:
        """Close without awaiting anything, for example if the loop is gone. Responses of flights are kept in memory."""
        if self.state == "closed":
            return
        self.state = "closed"
        self.maintenance.end()
        self.limits.clear()
        if self.pid == os.getpid():
            tasks = [*self.flights.drop(), *self.maintenance.supervisor.forget(), *self._tasks]
            if tasks and not self.loop.is_closed():
                # A stopped loop may run again later.
                self.loop.call_soon_threadsafe(_cancel, tasks)
        for state in self.registry.keys.values():
            state.closed()
        self.subscriptions.end()
        self.event_streams.end()
        self.opened()

    def abandon(self) -> None:
        """The manager was garbage-collected without a close. The session closes itself on its own loop."""
        if self.state == "running" and not self.is_lost():
            self.loop.call_soon_threadsafe(self.closing)

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Run *work* in the session. The close waits for it. If the loop is lost, nobody could run the work."""
        if self.is_lost():
            work.close()
            return
        task = spawn(self.loop, work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def carry(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Run *work* to its end in the session, also if the caller is cancelled. The close waits for it."""
        return await to_its_end(work, name, self._tasks)

    def launch_due(self, state: KeyState, reason: Reason) -> None:
        """Start the flight that is due, unless the session is ending."""
        if self.state == "running":
            self.flights.launch(state, reason, urgent=False)

    def check_open(self) -> None:
        """Raise an error unless the session runs."""
        if self.state != "running":
            msg = f"the manager is {self.state}; enter it again to use it again"
            raise ManagerClosed(msg)

    async def _begin_chores(self) -> None:
        if self.registry.source_for is not None:
            for key in self.registry.critical:
                await self.read_path.state(key)
        self.check_open()
        path, policy, records = self.settings.health_file, self.settings.keep_alive, self.coordinator.records
        if path is not None:
            file = HealthFile(path, self._health, self.clock)
            self.maintenance.add(Chore(file.write, file.remove))
        if policy is not None and records is not None and self.registry.source_for is not None:
            # Keys known in advance are open, and are refreshed like all open keys.
            self.maintenance.add(KeepAlive(self, records, policy).chore)

    def _health(self) -> Health:
        return health_of(self.registry, self, now=self.clock.time(), restarts=0)

    async def _close(self) -> None:
        # This uses the loop's own time, because nothing given by the user may prevent the close.
        end = self.loop.time() + self.settings.close_grace + _KEEP_BOUND
        try:
            for step in (
                self._await_opening,
                self.maintenance.stop,
                self._drain,
                partial(self._offer, end),
                self._leave,
            ):
                try:
                    await step()
                except Exception as error:  # noqa: BLE001 - it is logged, and the next step follows
                    say(logging.ERROR, "closing the manager raised %s", type(error).__qualname__)
        finally:
            self.drop()

    async def _await_opening(self) -> None:
        await next_turn()
        # If a start is under way, wait until it notices that the session closes.
        if self._opening is not None:
            await self._opening.wait(self.clock, _KEEP_BOUND)

    async def _drain(self) -> None:
        self.limits.clear()
        await self.flights.drain(self.settings.close_grace, _KEEP_BOUND)

    async def _offer(self, end: float) -> None:
        # This is the last chance for tokens that exist only in memory. A store that hung before gets no second wait.
        unkept = [state for state in self.registry.keys.values() if state.unkept]
        for state in unkept:
            self.flights.launch(state, "repair", urgent=True)
        if unkept:
            await self.flights.drain(max(end - self.loop.time(), _STRAY_GRACE), 0.0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_KEEP_BOUND)

    async def _leave(self) -> None:
        await self.coordinator.close()
        await self.connections.aclose()
        left = self.strays.end()
        if left:
            _, left = await asyncio.wait(left, timeout=_STRAY_GRACE)
        if left:
            say(logging.WARNING, "%d cancelled calls of sources or stores have not ended", len(left))


def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
