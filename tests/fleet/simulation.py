"""
A fleet in one process and in virtual time: workers that die, stop and resume, a store that fails, a strict server.

A dead worker is one whose calls never come back and whose requests never leave. That is what its peers see of a
`kill -9`; a stopped one goes on where it was.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from evertoken import Begun, FetchRequest, GrantRejected, Lease, Record, RefreshPolicy, Token, TokenManager
from evertoken.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from evertoken import events
    from evertoken.testing import VirtualClock

T = TypeVar("T")

KEY = '["",null]'


class Server:
    """An authorization server whose refresh tokens are good once. It remembers who presented what."""

    def __init__(self, clock: VirtualClock, *, rotating: bool, lifetime: float = 60.0) -> None:
        self.clock = clock
        self.rotating = rotating
        self.lifetime = lifetime
        self.latency = 0.3
        self.issued = 0
        self.good = "rt-0"
        #: Each refresh token that was presented after it was spent, and whether the one given for it had been kept.
        self.replays: list[tuple[str, bool]] = []
        self.kept: Callable[[str], bool] = lambda _: False
        self.successor: dict[str, str] = {}
        self.down = False

    def take(self, presented: str | None) -> Token:
        now = self.clock.time()
        if self.rotating and presented is not None and presented != self.good:
            self.replays.append((presented, self.kept(self.successor[presented])))
            raise GrantRejected("invalid_grant", "reused")
        self.issued += 1
        following = None
        if self.rotating and presented is not None:
            following = self.good = self.successor[presented] = f"rt-{self.issued}"
        return Token(f"at-{self.issued}", issued_at=now, expires_at=now + self.lifetime, refresh_token=following)


class Store:
    """Shared by all workers. It counts its calls, checks each write, and may be down or flushed."""

    def __init__(self, clock: VirtualClock) -> None:
        self.memory = MemoryStore(clock=clock)
        self.clock = clock
        self.down = False
        self.notices = True
        self.writes: list[Record] = []
        self.holders: dict[int, str] = {}
        self.flushed = 0

    async def flush_unheard(self) -> None:
        """Be flushed, and let nobody know."""
        self.notices = False
        self.flush()
        await self.clock.advance(0.1)
        self.notices = True

    def flush(self) -> None:
        self.flushed += 1
        watchers = self.memory._watchers
        self.memory = MemoryStore(clock=self.clock)
        self.memory._watchers = watchers
        self.holders.clear()
        for loop, changed in watchers:
            loop.call_soon(changed, None)

    async def call(self, operation: str, *args: Any) -> Any:
        if self.down:
            raise ConnectionError("the store is down")
        before = None
        if operation in {"mark", "commit"}:
            before = await self.memory.read(args[0].key)
        result = await getattr(self.memory, operation)(*args)
        if operation == "begin" and isinstance(result.lease, Lease):
            # At most one holder for a fence.
            assert self.holders.setdefault(result.lease.fence, result.lease.owner) == result.lease.owner
        if operation in {"mark", "commit"} and result:
            # Versions only grow.
            assert before is None or args[0].version > before.version
            self.writes.append(args[0])
        return result

    async def record(self) -> Record:
        """Return the present content."""
        found = await self.memory.read(KEY)
        assert found is not None
        return found

    def kept(self, refresh_token: str) -> bool:
        """Tell whether a record with this refresh token was ever written."""
        return any(record.token is not None and record.token.refresh_token == refresh_token for record in self.writes)


class Worker:
    """A process: its manager, its way to the store and its way to the server."""

    def __init__(
        self,
        name: str,
        store: Store,
        server: Server,
        *,
        on_ambiguous: Literal["hold", "reject"] | None = None,
        fetch_timeout: float = 10.0,
        observers: Sequence[Callable[[events.Event], object]] = (),
    ) -> None:
        self.name = name
        self.store = store
        self.server = server
        self.state: Literal["running", "stopped", "dead"] = "running"
        self.rotates = server.rotating
        self.on_ambiguous = on_ambiguous
        self.errors: list[BaseException] = []
        self.fetches = 0
        #: Where this worker dies by itself: the name of a step of the protocol, and after how many of them.
        self.dies_at: tuple[str, int] | None = None
        self.stops_at: str | None = None
        self.steps: list[str] = []
        self._go = asyncio.Event()
        self._go.set()
        self.manager: TokenManager[Any, None] = TokenManager(
            self,
            store=self,
            namespace="",
            clock=server.clock,
            policy=RefreshPolicy(),
            fetch_timeout=fetch_timeout,
            observers=observers,
        )

    # Life and death

    async def stand(self, step: str) -> None:
        """Pass a step, unless it is where this worker dies or stops."""
        self.steps.append(step)
        if self.dies_at is not None and self.dies_at[0] == step:
            self.dies_at = (step, self.dies_at[1] - 1)
            if self.dies_at[1] <= 0:
                self.state = "dead"
        if self.stops_at == step:
            self.stops_at = None
            self.stop()
        while self.state != "running":
            self._go.clear()
            await self._go.wait()

    def stop(self) -> None:
        self.state = "stopped"

    def resume(self) -> None:
        if self.state == "stopped":
            self.state = "running"
            self._go.set()

    async def bury(self) -> None:
        """Remove its remaining tasks and timers from the loop."""
        self.state = "dead"
        tasks = [task for task in asyncio.all_tasks() if getattr(task, "worker", None) is self]
        for task in tasks:
            task.cancel()

    async def guarded(self, step: str, call: Callable[[], Awaitable[T]]) -> T:
        await self.stand(f"before {step}")
        result = await call()
        await self.stand(f"after {step}")
        return result

    # A store

    async def read(self, key: str, /) -> Record | None:
        found: Record | None = await self.guarded("read", lambda: self.store.call("read", key))
        return found

    async def read_many(self, keys: Sequence[str], /) -> dict[str, Record]:
        found: dict[str, Record] = await self.guarded("read", lambda: self.store.call("read_many", keys))
        return found

    async def begin(self, key: str, owner: str, ttl: float, /) -> Begun:
        begun: Begun = await self.guarded("begin", lambda: self.store.call("begin", key, owner, ttl))
        return begun

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        done: bool = await self.guarded("mark", lambda: self.store.call("mark", record, lease))
        return done

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        done: bool = await self.guarded("commit", lambda: self.store.call("commit", record, lease))
        return done

    async def abandon(self, lease: Lease, /) -> None:
        await self.guarded("abandon", lambda: self.store.call("abandon", lease))

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        done: bool = await self.guarded("renew", lambda: self.store.call("renew", lease, ttl))
        return done

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        def heard(key: str | None) -> None:
            if self.state == "running" and self.store.notices:
                changed(key)

        await self.store.memory.watch(heard)

    # A source

    async def fetch(self, request: FetchRequest, /) -> Token:
        await self.stand("before fetch")
        if self.server.down:
            raise ConnectionRefusedError("the server is down")
        request.sending()
        self.fetches += 1
        presented = None
        if self.server.rotating:
            presented = "rt-0" if request.current is None else request.current.refresh_token
        await asyncio.sleep(self.server.latency / 2.0)
        token = self.server.take(presented)
        await asyncio.sleep(self.server.latency / 2.0)
        await self.stand("after fetch")
        return token

    # Its purpose

    async def use(self) -> Token | None:
        """Ask for a token as a caller would. Return None if this worker does not run or no token is available."""
        if self.state != "running":
            return None
        try:
            return await self.manager.get()
        except Exception as error:  # noqa: BLE001 - kept for the test to judge
            self.errors.append(error)
            return None


async def start(workers: list[Worker]) -> None:
    for worker in workers:
        await worker.manager.start()


async def end(workers: list[Worker]) -> None:
    """Close the living; take out the dead, whose calls would otherwise wait for ever."""
    for worker in workers:
        worker.resume()
        if worker.state == "running":
            await worker.manager.aclose()
    here = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not here]
    for _ in range(3):
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=0.0) if left else None
    for worker in workers:
        if worker.state == "dead":
            life = worker.manager._life
            if life.session is not None:
                life.session.drop()
            life.session = None
