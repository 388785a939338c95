"""
One process of a fleet: its clock, its way to the store, its way to the server, and its manager.

It can stand still, be killed, and have its clock set. It stands still truly: no timer of its own fires, and no answer
reaches it. The calls of a killed process never come back, and its peers see nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tests.enumeration.clock import PAUSE, Clock
from tests.enumeration.server import Knowledge

from evertoken import FetchRequest, Lease, Record, TokenManager

if TYPE_CHECKING:
    from tests.enumeration.world import World

__all__ = ["PAUSE", "STEP", "Process", "Source"]

T = TypeVar("T")

#: Seconds by which a wall clock is set.
STEP: Final = 120.0
# Seconds of a step that is slow. A step of a store may take five, and a fetch six.
SLOW: Final = 7.0
# Seconds from a call to its effect.
_STORE_LATENCY: Final = 0.01
# The outcomes of a fetch before its request leaves. The other outcomes meet it afterwards.
_BEFORE: Final = frozenset(
    {"fail", "cancel", "kill", "pause", "flush", "restart", "forward", "back", "ahead", "behind", "close"}
)
# Rounds of the loop that an answer needs from the socket to the source, while late timers fire at once.
_ROUNDS: Final = 3


class Process:
    """One process. It is the store and the source of its own manager."""

    def __init__(self, world: World, name: str, life: int, **options: Any) -> None:
        self.world = world
        self.name = name
        self.dead = False
        self.thaw: asyncio.Future[None] | None = None
        self.late: list[Callable[[], object]] = []
        self.clock = Clock(self, world.offset)
        self.known = Knowledge()
        self.flying: dict[object, int] = {}
        self.closings: list[asyncio.Task[Any]] = []
        #: Whether the store tells it of writes, which it does not where the watch hangs.
        self.hears = False
        self.manager: TokenManager[Any, Any] = TokenManager(
            **options,
            store=Face(self) if world.shared else None,
            namespace="",
            clock=self.clock,
            observers=[self._observe],
        )
        rules = self.manager._life.rules
        rules.seed = rules.owner = f"{name}{life}"

    # Life

    def run(self, callback: Callable[..., object], *args: object) -> None:
        """Call something of this process from the loop."""
        self.world.current = self
        try:
            callback(*args)
        finally:
            self.world.current = None

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Start a task of this process."""
        self.world.current = self
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            self.world.current = None

    async def alive(self) -> None:
        """Pass while the process runs; wait while it stands still, and for ever once it is killed."""
        while self.dead or self.thaw is not None:
            if self.dead:
                await asyncio.get_running_loop().create_future()
            await asyncio.shield(self.thaw)  # type: ignore[arg-type]  # checked above
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)

    def pause(self) -> None:
        """Stand still."""
        loop = asyncio.get_running_loop()
        if self.thaw is None:
            self.thaw = loop.create_future()
            loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        if self.clock.noticed_at > asyncio.get_running_loop().time() - PAUSE:
            # A clock that was set meanwhile is noticed once the supervisor has had its turn.
            self.clock.noticed_at = max(self.clock.noticed_at, asyncio.get_running_loop().time() + 0.1)
        thaw, self.thaw = self.thaw, None
        late, self.late = self.late, []
        if thaw is not None and not thaw.done():
            thaw.set_result(None)
        for fire in late:
            fire()

    def _observe(self, event: object) -> None:
        # The tasks of a killed process end when they are collected, perhaps during the next run.
        if not self.dead:
            self.world.observed(self, event)

    # Steps

    async def step(self, name: str, do: Callable[[], T], latency: float = _STORE_LATENCY) -> T:
        """Take one step, which ends as the plan says."""
        outcome = self.world.outcome(self, name)
        await asyncio.sleep(latency)
        await self.alive()
        if outcome is None:
            return do()
        return await self._ends(outcome, do)

    async def _ends(self, outcome: str, do: Callable[[], T]) -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        result: Any = None
        if outcome in {"lost", "cancelled", "killed", "paused", "received"}:
            result = do()
        if outcome in {"fail", "lost"}:
            raise ConnectionError(outcome)
        if outcome == "hang":
            await loop.create_future()
        elif outcome == "slow":
            # Cancelling the call does not take the request back.
            answer: asyncio.Future[Any] = loop.create_future()
            loop.call_later(SLOW, _answer, answer, do)
            result = await answer
            await self.alive()
            return result
        elif outcome in {"cancel", "cancelled"}:
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        elif outcome in {"kill", "killed"}:
            self.world.kill(self)
            await self.alive()
        elif outcome in {"pause", "paused"}:
            self.pause()
            await self.alive()
        elif outcome in {"flush", "restart"}:
            self.world.flush(heard=outcome == "restart")
        elif outcome in {"forward", "back"}:
            self.world.step(STEP if outcome == "forward" else -STEP)
        elif outcome in {"ahead", "behind"}:
            self.clock.step(STEP if outcome == "ahead" else -STEP)
        elif outcome == "close":
            self.world.close_and_start(self)
            await asyncio.sleep(0.2)
            await self.alive()
        return result if outcome in {"cancelled", "killed", "paused"} else do()

    # A source

    async def fetch(self, request: FetchRequest, source: Source) -> Any:
        """Fetch a token as a source over HTTP does."""
        world, key = self.world, request.key
        self.flying[key] = self.flying.get(key, 0) + 1
        if self.flying[key] > 1:
            world.fault(f"{self.name} asked the provider twice at a time")
        try:
            presented = request.refresh_token_for(source.initial) if source.initial is not None else None
            return await self._exchange(request, presented)
        finally:
            self.flying[key] -= 1

    async def _exchange(self, request: FetchRequest, presented: str | None) -> Any:
        world, outcome = self.world, self.world.outcome(self, "fetch")
        reply = outcome if outcome in {"dead", "unusable", "received"} else None

        def send() -> None:
            request.sending()
            world.presented(self, request.key, presented)

        def take() -> Any:
            answer = world.server.take(presented)
            if reply == "dead":
                answer["expires_in"] = 0
            elif reply == "unusable":
                answer["token_type"] = "unheard-of"
            return answer

        if outcome in _BEFORE:
            await self._ends(outcome, lambda: None)
        await self.alive()
        send()
        await asyncio.sleep(world.latency)
        await self.alive()
        answer = take() if outcome in _BEFORE or outcome is None or reply else await self._ends(outcome, take)
        if presented is not None:
            self.known.unanswered.discard(presented)
            self.known.learn(answer.get("refresh_token"))
        self.known.own.add(answer["access_token"])
        request.received(answer)
        if reply == "received":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return answer


class Source:
    """The source of one key of one process."""

    on_ambiguous = None

    def __init__(self, process: Callable[[], Process], initial: str | None) -> None:
        self._process = process
        self.initial = initial
        self.rotates = initial is not None

    async def fetch(self, request: FetchRequest, /) -> Any:
        return await self._process().fetch(request, self)


class Face:
    """The store, as one process sees it."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def __aenter__(self) -> None:
        await self.process.step("open", lambda: None)

    async def __aexit__(self, *_: object) -> None:
        await self.process.step("close", lambda: None)

    async def read(self, key: str, /) -> Record | None:
        return self._read(await self.process.step("read", lambda: self.process.world.do("read", key)))

    async def read_many(self, keys: Sequence[str], /) -> dict[str, Record]:
        found: dict[str, Record] = await self.process.step("read", lambda: self.process.world.do("read_many", keys))
        for record in found.values():
            self._read(record)
        return found

    async def begin(self, key: str, owner: str, ttl: float, /) -> Any:
        begun = await self.process.step("begin", lambda: self.process.world.do("begin", key, owner, ttl))
        self._read(begun.record)
        return begun

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        done: bool = await self.process.step("mark", lambda: self.process.world.do("mark", record, lease))
        return done

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        done: bool = await self.process.step("commit", lambda: self.process.world.do("commit", record, lease))
        return done

    async def abandon(self, lease: Lease, /) -> None:
        await self.process.step("abandon", lambda: self.process.world.do("abandon", lease))

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        done: bool = await self.process.step("renew", lambda: self.process.world.do("renew", lease, ttl))
        return done

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        process = self.process

        def heard(name: str | None) -> None:
            if process.dead:
                return
            if process.thaw is not None:
                process.late.append(lambda: heard(name))
            else:
                process.run(changed, name)

        process.hears = False
        await process.step("watch", lambda: None)
        process.hears = True
        await process.world.watch(heard)

    def _read(self, record: Record | None) -> Record | None:
        if record is not None and record.token is not None:
            self.process.known.learn(record.token.refresh_token)
        return record


def _answer(future: asyncio.Future[Any], do: Callable[[], Any]) -> None:
    try:
        result = do()
    except Exception as error:  # noqa: BLE001 - it is the answer
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(result)
