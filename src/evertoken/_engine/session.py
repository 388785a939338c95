"""
The parts of one manager, put together; how they start, and how they end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from evertoken._coordination.watch import Fleet
from evertoken._engine.commands import ByHand
from evertoken._engine.flight import Gate, Strays
from evertoken._engine.flights import Flights
from evertoken._engine.maintenance import Upkeep
from evertoken._engine.observers import Observers, say
from evertoken._engine.rate_limit import Lanes
from evertoken._engine.read_path import Callers
from evertoken._engine.refresh import Refresher
from evertoken._engine.settlement import Landing
from evertoken._model import events
from evertoken._model.errors import ManagerClosed
from evertoken._model.failure_state import Rules

if TYPE_CHECKING:
    from evertoken._engine.options import Settings
    from evertoken._engine.registry import Registry
    from evertoken._model.events import Reason
    from evertoken._model.key_state import Entry
    from evertoken._model.protocols import Clock

__all__ = ["Engine", "State"]

State: TypeAlias = Literal["new", "running", "closing", "closed"]

#: Seconds in which cancelled calls of sources and stores should have ended when the manager closes.
_STRAY_GRACE: Final = 1.0


@final
class Engine:
    """
    The keys, the flights and the upkeep of one manager.
    """

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self.state: State = "new"
        self.clock: Clock = settings.clock
        self.registry = registry
        shared = settings.store is not None
        self.rules: Rules = Rules(settings.policy, settings.retry, os.urandom(8).hex(), shared, settings.strict_persist)
        self._pid = os.getpid()
        self.observers: Observers = Observers(settings.observers)
        self.lanes: Lanes = Lanes(settings.concurrency)
        self._grace = settings.close_grace
        self._start = settings.start
        self._start_timeout = settings.start_timeout
        self._strays = Strays()
        # There while a start opens the store.
        self._opening: Gate | None = None
        self._fleet: Fleet | None = None
        if settings.store is not None:
            self._fleet = Fleet(
                settings.store,
                settings.namespace,
                clock=self.clock,
                rules=self.rules,
                observers=self.observers,
                strays=self._strays,
                registry=registry,
                launch=self._launch_due,
            )
        sharing = None if self._fleet is None else self._fleet.sharing
        self.upkeep: Upkeep = Upkeep(
            registry,
            clock=self.clock,
            rules=self.rules,
            observers=self.observers,
            idle_after=None if registry.source_for is None else settings.idle_after,
            kept=shared,
            launch=self._launch_due,
        )
        self.landing: Landing = Landing(
            clock=self.clock,
            rules=self.rules,
            observers=self.observers,
            publish=self.upkeep.published,
            compare_clocks=self.upkeep.supervisor.compare_clocks,
        )
        self.refresher: Refresher = Refresher(
            clock=self.clock,
            rules=self.rules,
            observers=self.observers,
            lanes=self.lanes,
            strays=self._strays,
            sharing=sharing,
            fetch_timeout=settings.fetch_timeout,
            landing=self.landing,
        )
        self.flights: Flights = Flights(
            self.refresher.run,
            clock=self.clock,
            lanes=self.lanes,
            provider_of=registry.provider_of,
            landing=self.landing,
        )
        self.callers: Callers = Callers(
            registry,
            clock=self.clock,
            rules=self.rules,
            observers=self.observers,
            upkeep=self.upkeep,
            flights=self.flights,
            namespace=settings.namespace if shared else None,
            check_open=self.check_open,
        )

        self.by_hand: ByHand = ByHand(
            clock=self.clock,
            rules=self.rules,
            observers=self.observers,
            strays=self._strays,
            upkeep=self.upkeep,
            flights=self.flights,
            callers=self.callers,
            sharing=sharing,
            timeout=settings.fetch_timeout,
        )

    async def start(self) -> None:
        """
        Take callers, run the supervisor, and fetch first tokens as the start mode says.
        """
        # A lock belongs to the loop of its first contended use, and the manager may be entered on another.
        self.registry.lock = asyncio.Lock()
        if self._pid != os.getpid():
            # Workers forked from one parent, which made the manager for them all, are not to refresh in step.
            self._pid, self.rules.seed = os.getpid(), os.urandom(8).hex()
        async with self.registry.lock:
            self.state = "running"
        # First: with an eager task factory the supervisor starts fetches before start() returns.
        self.observers.emit(events.ManagerStarted(at=self.clock.time()))
        if self._fleet is not None:
            self._opening = opening = Gate()
            try:
                await self._fleet.start()
            finally:
                self._opening = None
                opening.wake()
        self.check_open()
        self.upkeep.start()
        if self._start != "lazy":
            await self.callers.prefetch(self._start_timeout, required=self._start == "require")

    def refuse(self) -> None:
        """
        Take no more callers from now on, and wake those who wait.
        """
        if self.state != "running":
            return
        self.state = "closing"
        for entry in self.registry.entries.values():
            entry.barred()
            if entry.flight is not None:
                entry.flight.wake()
        # Last: with an eager task factory an observer's task may close the manager before this returns.
        self.observers.emit(events.ManagerClosing(at=self.clock.time()))

    async def close(self) -> None:
        """
        Wake all who wait, let flights land within the grace, and leave no task behind.
        """
        try:
            if self._opening is not None:
                # A start under way is let through to where it finds that it is not wanted any more.
                await self._opening.wait(self.clock)
            await self.upkeep.stop()
            await self.flights.drain(self._grace)
            if self._fleet is not None:
                await self._fleet.stop()
            left = self._strays.tasks()
            if left:
                _, left = await asyncio.wait(left, timeout=_STRAY_GRACE)
            if left:
                say(logging.WARNING, "%d cancelled calls of sources or stores have not ended", len(left))
        finally:
            for entry in self.registry.entries.values():
                if entry.flight is not None:
                    entry.flight.land(None, ManagerClosed("the manager was closed"))
            self.upkeep.close_subscriptions()
            self.abandon()

    def abandon(self) -> None:
        """
        Be closed without touching a task or future: those of another process, or of a loop that is gone.
        """
        self.state = "closed"
        self._opening = None
        self.lanes.reset()
        self.flights.abandon()
        self.upkeep.abandon()
        for entry in self.registry.entries.values():
            entry.closed()

    def check_open(self) -> None:
        """
        Raise unless the manager runs.
        """
        if self.state != "running":
            msg = f"the manager is {self.state}; enter it again to use it again"
            raise ManagerClosed(msg)

    def _launch_due(self, entry: Entry, reason: Reason) -> None:
        if self.state == "running":
            self.flights.launch(entry, reason, urgent=False)
