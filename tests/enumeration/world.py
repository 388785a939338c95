"""Shared by the processes of one run: the store, the server, the loop, the planned faults, and the list of failures."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

from tests.enumeration.clock import StoreClock
from tests.enumeration.faults import Plan
from tests.enumeration.process import STEP, Process, Source
from tests.enumeration.server import Server, not_to_be_presented, split

from evertoken import RefreshPolicy, Token
from evertoken._model.policy import RETRY_CAP
from evertoken.events import KeyEvicted
from evertoken.stores import MemoryStore
from evertoken.testing.clock import EPOCH

__all__ = ["World"]

FETCH_TIMEOUT: Final = 6.0
# Seconds from a kill to the start of the process that takes its place.
_RESTART: Final = 1.0
# The longest wait between two attempts without the limit of a lifetime, plus a margin.
_UNLIMITED: Final = 75.0
# Clocks that differ by less were not set.
_NOTICED: Final = 1.0
# Seconds after which a rejected grant is tried again, where no token tells its lifetime.
_PROBE: Final = 301.0


class World:
    """One run."""

    def __init__(self, plan: Plan, *, lifetime: float = 60.0) -> None:
        self.plan = plan
        self.shared = plan.where == "store"
        self.server = Server(rotating=plan.provider == "rotating", lifetime=lifetime)
        self.latency = 0.2
        #: The time of the wall clocks at the start of the loop.
        self.offset = EPOCH
        self.memory = MemoryStore(clock=StoreClock())
        self.heard: list[Callable[[str | None], object]] = []
        self.processes: dict[str, Process] = {}
        self.dead: list[Process] = []
        self.lives: dict[str, int] = {}
        #: Every step that was taken, in order; and whether faults may be planned there.
        self.trace: list[tuple[str, str, int]] = []
        self.phase_ended: int | None = None
        self.closing = False
        self.counts: dict[tuple[str, str], int] = {}
        self.planned = {fault[:3]: fault.outcome for fault in plan.faults}
        self.faults: list[str] = []
        self.events: list[tuple[float, str, Any]] = []
        self.current: Process | None = None
        self.owners: dict[asyncio.Task[Any], Process | None] = {}
        self.starts: list[asyncio.Task[Any]] = []

    # Faults

    def outcome(self, process: Process, step: str) -> str | None:
        """Count a step, and return the fault that is planned for it."""
        place = process.name, step
        number = self.counts[place] = self.counts.get(place, 0) + 1
        self.trace.append((*place, number))
        return self.planned.get((*place, number))

    def fault(self, text: str) -> None:
        """The code under test has broken a promise."""
        now = asyncio.get_running_loop().time()
        self.faults.append(f"{now:.2f}: {text}")

    def observed(self, process: Process, event: Any) -> None:
        self.events.append((asyncio.get_running_loop().time(), process.name, event))
        if isinstance(event, KeyEvicted):
            # It loses the records that it forgets, and keeps the others.
            state = process.manager._keys.get(event.key)
            process.known.forget(event.key, None if state is None else state.token)

    def steps(self, *outcomes: str) -> int:
        """Return how many faults of these kinds are planned."""
        return sum(fault.outcome in outcomes for fault in self.plan.faults)

    def step(self, seconds: float) -> None:
        """Set the wall clock of all processes."""
        self.offset += seconds
        for process in [*self.processes.values(), *self.dead]:
            process.clock.step(seconds)

    # The server

    def presented(self, process: Process, key: object, refresh_token: str | None) -> None:
        """A request leaves. Judge whether it may."""
        if refresh_token is None or split(refresh_token)[0] in self.server.revoked:
            # In a grant that was revoked nothing can be lost any more.
            return
        stored = self.stored(key)
        held = None if stored is None else stored.refresh_token
        reason = not_to_be_presented(refresh_token, process.known, held)
        if reason is not None:
            self.fault(f"{process.name} {reason}")
        process.known.unanswered.add(refresh_token)

    def stored(self, key: object) -> Token | None:
        record = self.memory._records.get(self.name_of(key))
        return None if record is None else record.token

    @staticmethod
    def name_of(key: object) -> str:
        return '["",null]' if key is None else f'["","{key}"]'

    # The store

    def do(self, operation: str, *arguments: Any) -> Any:
        """Call the store. Nothing in it waits."""
        call = getattr(self.memory, operation)(*arguments)
        try:
            call.send(None)
        except StopIteration as ended:
            result = ended.value
        if operation in {"mark", "commit"} and result:
            self.tell(arguments[0].key)
        return result

    def tell(self, name: str | None) -> None:
        loop = asyncio.get_running_loop()
        for heard in list(self.heard):
            loop.call_soon(heard, name)

    async def watch(self, heard: Callable[[str | None], object]) -> None:
        self.heard.append(heard)
        try:
            heard(None)
            await asyncio.get_running_loop().create_future()
        finally:
            self.heard.remove(heard)

    def flush(self, *, heard: bool) -> None:
        self.memory = MemoryStore(clock=StoreClock())
        if heard:
            self.tell(None)

    # Processes

    def begin(self, name: str) -> asyncio.Task[Any]:
        """Start a process under this name."""
        life = self.lives[name] = self.lives.get(name, 0) + 1
        options = {
            "policy": RefreshPolicy(),
            "fetch_timeout": FETCH_TIMEOUT,
            "close_grace": 2.0,
            **self.sources(lambda: process),
        }
        process = Process(self, name, life, **options)
        self.processes[name] = process
        task = process.spawn(process.manager.start())
        self.starts.append(task)
        return task

    def sources(self, process: Callable[[], Process]) -> dict[str, Any]:
        """Return what a manager is made with: its sources, and options that differ from those of others."""
        return {"source": self.source(process, None)}

    def source(self, process: Callable[[], Process], key: object) -> Source:
        """Return the source of one key. It is configured with the first login."""
        return Source(process, self.server.log_in(key, 0) if self.server.rotating else None)

    def kill(self, process: Process) -> None:
        """End it without a word, and start another in its place."""
        if process.dead:
            return
        process.dead = True
        self.dead.append(process)
        del self.processes[process.name]
        if not self.closing:
            asyncio.get_running_loop().call_later(_RESTART, self.begin, process.name)

    def close_and_start(self, process: Process) -> None:
        """Close the manager of *process* while it is at work, and start it again."""
        again = not self.closing

        async def closes() -> None:
            begun = asyncio.get_running_loop().time()
            await process.manager.aclose()
            took = asyncio.get_running_loop().time() - begun
            if took > self.close_bound:
                self.fault(f"{process.name}: aclose() took {took:.1f} s")
            if again:
                await process.manager.start()

        process.closings.append(process.spawn(closes()))

    @property
    def close_bound(self) -> float:
        """Seconds that a close may take: its bounds, and those of the faults in it."""
        pauses = sum(fault.outcome.startswith("pause") for fault in self.plan.faults)
        return 30.0 + 15.0 * pauses

    # Invariants

    def check_deadlines(self) -> None:
        """Each open key of a manager that runs has a finite deadline, and none that is out of proportion."""
        # The record of a peer has the times of the peer's clock. After a forget() no lifetime is known, and a retry may
        # wait as long as the policy says.
        most = max(self.server.lifetime, RETRY_CAP) + 15.0 + STEP * self.steps("back", "ahead", "behind")
        if self.server.revoked:
            most = max(most, _PROBE + STEP * self.steps("back", "ahead", "behind"))
        for process in self.processes.values():
            session = process.manager._life.session
            if session is None or session.state != "running" or session.started is not None or process.thaw is not None:
                continue
            now = process.clock.time()
            # A key under eviction stands at the horizon until its task has run.
            evicting = bool(session.maintenance._tasks)
            for key, state in session.registry.keys.items():
                if not self.is_honest(process, state.token, now):
                    self.fault(f"{process.name}: {state.token} is believed to live too long at {now:.0f}")
                # Where no token is known, its lifetime limits no wait.
                longest = max(most, _UNLIMITED) if state.token is None else most
                deadline = state.deadline
                if deadline is None or not math.isfinite(deadline):
                    self.fault(f"{process.name}: key {key!r} has no deadline")
                elif deadline > now + longest and state.flight is None and not state.signed_out and not evicting:
                    self.fault(f"{process.name}: the deadline of key {key!r} is {deadline - now:.0f} s away")

    def is_honest(self, process: Process, token: Token | None, now: float) -> bool:
        """
        Tell whether *process* believes a token that it received itself to end when it does, or before.

        A step of the wall clock is noticed within a beat of the supervisor.
        """
        if token is None or token.expires_at is None or token.access_token not in process.known.own:
            return True
        instant = asyncio.get_running_loop().time()
        if instant < process.clock.noticed_at:
            return True
        left = self.server.expiry[token.access_token] - instant
        return token.expires_at - now < left + _NOTICED

    # Tasks

    def install(self) -> None:
        """Know whose each task is, and hear of what nobody retrieves."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._make_task)
        loop.set_exception_handler(self._unhandled)

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        parent = asyncio.current_task(loop)
        self.owners[task] = self.current if parent is None else self.owners.get(parent, self.current)
        return task

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.fault(f"unhandled: {context.get('message')} {context.get('exception')!r}")

    async def check_close(self, *, rounds: int, owned: bool) -> None:
        """
        Close all managers, and check that no task is left after *rounds* of the loop.

        With *owned* only tasks with an owner count: what a callback of a killed process started has none.
        """
        self.closing = True
        for process in list(self.processes.values()):
            self.close_and_start(process)
            await process.closings[-1]
        for _ in range(rounds):
            await asyncio.sleep(0)
        for task in self.left():
            if not owned or self.owners.get(task) is not None:
                self.fault(f"a task is left: {task.get_name()} {task.get_coro()!r}")

    def left(self) -> list[asyncio.Task[Any]]:
        """Return the tasks of living processes that have not ended."""
        here = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not here]
        return [task for task in tasks if (owner := self.owners.get(task)) is None or not owner.dead]

    async def bury(self) -> None:
        """Remove all remaining tasks and timers of the run from the loop."""
        here = asyncio.current_task()
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        for process in self.dead:
            process.manager._life.session = None
        for _ in range(5):
            tasks = [task for task in asyncio.all_tasks() if task is not here]
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.0)
