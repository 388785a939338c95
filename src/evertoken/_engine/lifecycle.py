"""The sessions of a manager over time: started, closed, lost, started again. Callers find the running session here."""

from __future__ import annotations

import asyncio
import os
import warnings
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, final

import anyio

from evertoken._engine.counters import Counters
from evertoken._engine.loops import call_elsewhere, call_sync, loop_lost, running_loop
from evertoken._engine.observers import Observers
from evertoken._engine.session import Session
from evertoken._model.errors import ManagerClosed
from evertoken._model.policy import Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from evertoken._engine.options import Settings
    from evertoken._engine.registry import Registry
    from evertoken._model.coordinator import Coordinator
    from evertoken._model.snapshot import State

__all__ = ["Lifecycle"]

T = TypeVar("T")

_living: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


@final
class Lifecycle:
    """The sessions of one manager. There is at most one at a time."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        *,
        make_coordinator: Callable[[Session], Coordinator],
    ) -> None:
        self.registry = registry
        self.settings = settings
        self.rules: Rules = Rules(
            settings.policy,
            settings.retry,
            _random(),
            _random(),
            shared=settings.store is not None,
            strict=settings.strict_persist,
        )
        self.observers: Observers = Observers(settings.observers)
        self.counters: Counters = Counters()
        self.session: Session | None = None
        self.restarts: int = 0
        self._ran = False
        self._pid = os.getpid()
        self._make_coordinator = make_coordinator
        _living.add(self)

    @property
    def state(self) -> State:
        """The state: "new", "running", "closing" or "closed"."""
        session = self.session
        return session.state if session is not None else "closed" if self._ran else "new"

    async def start(self, *, again: bool) -> None:
        """Start a session on the running loop. With *again*, a session that already runs on this loop is accepted."""
        self._forget_lost()
        session = self.session
        if session is not None and session.loop is asyncio.get_running_loop() and session.running:
            if session.started is not None:
                await session.started.wait(session.clock)
                if session.failure is not None or not session.running:
                    why = "the manager was closed" if session.failure is None else type(session.failure).__name__
                    msg = f"the start that this call joined failed: {why}"
                    raise ManagerClosed(msg) from session.failure
            if again:
                return
        if self.session is not None:
            msg = f"the manager is {self.state} already: it runs on one loop at a time, and once"
            raise RuntimeError(msg)
        if self._pid != os.getpid():
            # Several workers may be forked from one parent that made the manager. With their own names and seeds they
            # count as different members, and refresh at different times.
            self._pid = os.getpid()
            self.rules.seed, self.rules.owner = _random(), _random()
        self._ran = True
        self.session = session = Session(
            self.registry,
            self.settings,
            rules=self.rules,
            observers=self.observers,
            counters=self.counters,
            make_coordinator=self._make_coordinator,
        )
        try:
            await session.open()
        except BaseException as error:
            # This must come before the close, which wakes the callers that joined this start.
            session.failure = error
            await self.close()
            raise
        finally:
            session.opened()

    async def close(self) -> None:
        """Close the running session, if there is one. A cancellation is raised only after the close has ended."""
        self._forget_lost()
        session = self.session
        if session is None:
            return
        if asyncio.get_running_loop() is not session.loop:
            await call_elsewhere(session, self.close, (), None)
            return
        closing = session.closing()
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not closing.done():
                try:
                    await asyncio.wait({closing})
                except asyncio.CancelledError as error:
                    cancelled = error
        if self.session is session:
            self._ended(session)
        if not closing.cancelled():
            closing.result()
        if cancelled is not None:
            raise cancelled

    def check(self) -> Session:
        """
        Return the running session.

        Raises:
            ManagerClosed: The manager was closed.
            RuntimeError: The manager was not started, was started before a fork, or its loop no longer runs.
        """
        session = self.session
        if session is None and self._ran:
            msg = "the manager is closed; enter it again to use it again"
            raise ManagerClosed(msg)
        if session is None:
            msg = "the manager is not started: use `async with manager:` or `await manager.start()`"
            raise RuntimeError(msg)
        if session.pid != os.getpid():
            msg = (
                f"the manager was started in process {session.pid} and this is its fork {os.getpid()}, where no "
                f"supervisor runs: start a manager after the fork"
            )
            raise RuntimeError(msg)
        if session.is_lost():
            raise loop_lost()
        return session

    @property
    def serving(self) -> bool:
        """Whether a session runs in this process."""
        return self.session is not None and self.session.running

    def elsewhere(self) -> bool:
        """Whether the running loop is not the session's loop."""
        session = self.session
        return session is not None and running_loop() is not session.loop

    def call(
        self,
        function: Callable[[Session], Callable[..., Coroutine[Any, Any, T]]],
        /,
        *arguments: Any,
        timeout: float | None = None,
    ) -> Coroutine[Any, Any, T]:
        """
        Return the awaitable call of a session's *function*. It runs on the session's loop, but can be awaited anywhere.
        """
        session, loop = self.check(), running_loop()
        if loop is None:
            msg = "this needs a running asyncio event loop; without one, and under trio, use the sync form: get_sync()"
            raise RuntimeError(msg)
        # There is no coroutine around it, because ten thousand waiters pay for each frame when they are cancelled.
        if loop is session.loop:
            return function(session)(*arguments)
        return call_elsewhere(session, function(session), arguments, timeout)

    def call_sync(
        self,
        function: Callable[[Session], Callable[..., Coroutine[Any, Any, T]]],
        /,
        *arguments: Any,
        timeout: float | None = None,
    ) -> T:
        """Do the same from a thread without a loop, which is blocked until the result is there."""
        session = self.check()
        return call_sync(session, function(session), arguments, timeout)

    def dropped(self, manager: object) -> None:
        """*manager* was garbage-collected. Its session ends too."""
        session = self.session
        if session is not None and session.pid == os.getpid():
            warnings.warn("a TokenManager was not closed", ResourceWarning, source=manager, stacklevel=1)
            session.abandon()

    def forked(self) -> None:
        """
        This is a forked child without a supervisor. The next get() raises an error instead of serving until expiry.
        """
        for state in self.registry.keys.values():
            state.barred()

    def _forget_lost(self) -> None:
        session = self.session
        if session is not None and session.is_lost():
            session.drop()
            self._ended(session)

    def _ended(self, session: Session) -> None:
        self.restarts += session.maintenance.supervisor.restarts
        self.session = None


def _random() -> str:
    return os.urandom(8).hex()


def _after_fork() -> None:
    for lifecycle in list(_living):
        lifecycle.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
