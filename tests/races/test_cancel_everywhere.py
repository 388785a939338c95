"""
A cancellation at every point where a caller, a start or a close may be suspended.

Each scenario is run once to count the steps of its task, and then once for each step with a cancellation there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Self

import anyio
import pytest
from tests.gated import GatedSource, virtual

from evertoken import (
    GrantRejected,
    ManagerClosed,
    RetryPolicy,
    Token,
    TokenError,
    TokenManager,
    TransientRefreshError,
    events,
)
from evertoken.stores import MemoryStore
from evertoken.testing import VirtualClock

MOST_STEPS = 60


class Stepped:
    """Awaits a coroutine, and calls back before each of its steps with the number of the step."""

    def __init__(self, coroutine: Any, before: Callable[[int], object]) -> None:
        self._coroutine = coroutine
        self._before = before
        self.steps = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            self._before(self.steps)
            self.steps += 1
            try:
                future = self._coroutine.send(sent) if thrown is None else self._coroutine.throw(thrown)
            except StopIteration as end:
                return end.value
            thrown = None
            try:
                sent = yield future
            except BaseException as error:  # noqa: BLE001 - passed on to the coroutine
                thrown = error


async def cancelled_natively(make: Callable[[], Any], at: int) -> tuple[str, int]:
    """Run what *make* returns in a task, and cancel that task just before step *at*; say how it ended."""
    task: asyncio.Task[Any] | None = None
    loop = asyncio.get_running_loop()

    def before(step: int) -> None:
        if step == at:
            current = asyncio.current_task()
            assert current is not None
            # Takes effect at the next suspension, as a cancellation from another task would.
            loop.call_soon(current.cancel) if step == 0 else current.cancel()

    stepped = Stepped(make(), before)

    async def run() -> Any:
        return await stepped

    task = loop.create_task(run())
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled", stepped.steps
    except (TokenError, RuntimeError) as error:
        return type(error).__name__, stepped.steps
    return "ended", stepped.steps


async def cancelled_by_scope(make: Callable[[], Any], at: int) -> tuple[str, int]:
    """The same by an anyio scope, which cancels again at every suspension."""
    scope = anyio.CancelScope()

    def before(step: int) -> None:
        if step == at:
            scope.cancel()

    stepped = Stepped(make(), before)

    async def run() -> str:
        with scope:
            await stepped
        return "cancelled" if scope.cancelled_caught else "ended"

    try:
        return await asyncio.get_running_loop().create_task(run()), stepped.steps
    except (TokenError, RuntimeError) as error:
        return type(error).__name__, stepped.steps


CANCELLERS = pytest.mark.parametrize("cancelled", [cancelled_natively, cancelled_by_scope])


async def everywhere(scenario: Callable[[int], Awaitable[tuple[str, int]]], *, shielded: bool = False) -> None:
    """Run *scenario* with a cancellation at step 0, 1, ... until the scenario ends before that step."""
    outcomes = []
    for at in range(MOST_STEPS):
        outcome, steps = await scenario(at)
        outcomes.append(outcome)
        if at >= steps:
            # That one came too late; one before must have hit, if there is any point to be hit at. A single suspension
            # may end in the very round in which a scope would deliver its cancellation.
            assert "cancelled" in outcomes or steps <= 2 or shielded, outcomes
            return
    pytest.fail("the scenario never ends")


async def nothing_left(before: set[asyncio.Task[Any]]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


CALLS: dict[str, Callable[[TokenManager[Any, None]], Any]] = {
    "get": lambda tokens: tokens.get(),
    "get with a timeout": lambda tokens: tokens.get(timeout=50.0),
    "get with min_ttl": lambda tokens: tokens.get(min_ttl=90.0),
    "refresh": lambda tokens: tokens.refresh(),
    "forget": lambda tokens: tokens.forget(),
    "subscribe": lambda tokens: anext(tokens.subscribe()),
    "handle": lambda tokens: tokens.handle().get(),
}


@virtual
@CANCELLERS
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("store", [False, True])
async def test_a_cancelled_caller_takes_nothing_from_others(
    clock: VirtualClock, cancelled: Any, call: str, store: bool
):
    """R3: wherever a caller is cancelled, those who wait with it get their token, from at most one fetch more."""
    before = asyncio.all_tasks()

    async def scenario(at: int) -> tuple[str, int]:
        source = GatedSource(clock)
        async with TokenManager(
            source, clock=clock, store=MemoryStore(clock=clock) if store else None, namespace=""
        ) as tokens:
            others = [asyncio.create_task(tokens.get()) for _ in range(3)]
            opened = asyncio.get_running_loop().call_later(1.0, source.release)
            outcome, steps = await cancelled(lambda: CALLS[call](tokens), at)
            opened.cancel()
            source.release()
            found = await asyncio.gather(*others, return_exceptions=call == "forget")
            assert await tokens.get() is not None
            assert source.fetches <= 2
            if call != "forget":
                assert len(set(found)) == 1
            await clock.advance(300.0)
            assert tokens.peek() is not None
        await nothing_left(before)
        return outcome, steps

    await everywhere(scenario)


@virtual
@CANCELLERS
@pytest.mark.parametrize("call", ["get", "get with a timeout", "refresh", "subscribe"])
async def test_a_cancelled_caller_of_a_failing_source(clock: VirtualClock, cancelled: Any, call: str):
    """R4: wherever a caller is cancelled while fetches fail, the schedule goes on and recovery comes by itself."""
    before = asyncio.all_tasks()

    async def scenario(at: int) -> tuple[str, int]:
        source = GatedSource(clock, open_=True)
        source.error = TransientRefreshError("down")
        async with TokenManager(source, clock=clock, retry=RetryPolicy(jitter=0.0)) as tokens:
            asyncio.get_running_loop().call_later(12.0, setattr, source, "error", None)
            outcome, steps = await cancelled(lambda: CALLS[call](tokens), at)
            await clock.advance(2.0 * RetryPolicy().cap)
            assert tokens.peek() is not None
            # By the schedule, and once a second while somebody asks.
            assert source.fetches <= (16 if call == "get with a timeout" else 4)
            assert source.most_concurrent == 1
        await nothing_left(before)
        return outcome, steps

    await everywhere(scenario)


@virtual
@CANCELLERS
@pytest.mark.parametrize("mode", ["lazy", "warm", "require"])
async def test_a_cancelled_start(clock: VirtualClock, cancelled: Any, mode: Any):
    """L1: wherever a start is cancelled nothing is left behind, and the manager may be started again."""
    before = asyncio.all_tasks()

    async def scenario(at: int) -> tuple[str, int]:
        source = GatedSource(clock)
        opened = asyncio.get_running_loop().call_later(1.0, source.release)
        tokens = TokenManager(source, clock=clock, start=mode)
        outcome, steps = await cancelled(tokens.start, at)
        opened.cancel()
        source.release()
        if outcome == "cancelled" and tokens.snapshot().state == "running":
            # The cancellation came at its very last step, when start() had done its work.
            assert steps == at + 1
            await tokens.aclose()
        if outcome == "ended":
            await tokens.aclose()
        await nothing_left(before)
        async with tokens:
            assert await tokens.get() is not None
        await nothing_left(before)
        return outcome, steps

    await everywhere(scenario)


BY_HAND: dict[str, Callable[[TokenManager[Any, None], Token], Any]] = {
    "put": lambda tokens, token: tokens.put(token.replace(access_token="by-hand")),
    "revoke": lambda tokens, token: tokens.revoke(),
    "refused": lambda tokens, token: tokens.refused(token),
    "invalidate": lambda tokens, token: tokens.invalidate(token),
}


@virtual
@CANCELLERS
@pytest.mark.parametrize("call", BY_HAND)
@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("flying", [False, True])
async def test_a_cancelled_change(clock: VirtualClock, cancelled: Any, call: str, store: bool, flying: bool):
    """R3, U1: wherever somebody is cancelled who changes a key, callers hang nowhere, and refresh() begins anew."""
    before = asyncio.all_tasks()

    async def scenario(at: int) -> tuple[str, int]:
        source = GatedSource(clock, open_=True)
        source.rotates = False
        async with TokenManager(
            source, clock=clock, store=MemoryStore(clock=clock) if store else None, namespace=""
        ) as tokens:
            token = await tokens.get()
            source.hold()
            forced = [asyncio.create_task(tokens.refresh())] if flying else []
            asyncio.get_running_loop().call_later(1.0, source.release)
            if flying:
                await source.reached()
            outcome, steps = await cancelled(lambda: BY_HAND[call](tokens, token), at)
            async with asyncio.timeout(30.0):
                found, *_ = await asyncio.gather(tokens.get(), *forced, return_exceptions=True)
                assert isinstance(found, GrantRejected if isinstance(found, Exception) else Token)
                fresh = await tokens.refresh()
            assert await tokens.get() is fresh
            assert source.most_concurrent == 1
            await clock.advance(300.0)
            assert tokens.peek() is not None
        await nothing_left(before)
        return outcome, steps

    await everywhere(scenario)


class Entered(MemoryStore):  # type: ignore[misc]  # nothing else of it is changed
    """A store that takes a while to enter, and counts its current users."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock=clock)
        self.inside = 0

    async def __aenter__(self) -> Self:
        await asyncio.sleep(1.0)
        self.inside += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.inside -= 1
        await asyncio.sleep(1.0)


@virtual
@CANCELLERS
async def test_a_cancelled_start_with_a_store(clock: VirtualClock, cancelled: Any):
    """L1: wherever a start is cancelled, the store that it may have entered is left."""
    before = asyncio.all_tasks()

    async def scenario(at: int) -> tuple[str, int]:
        store = Entered(clock)
        tokens = TokenManager(GatedSource(clock, open_=True), clock=clock, store=store, namespace="", start="require")
        outcome, steps = await cancelled(tokens.start, at)
        await tokens.aclose()
        await nothing_left(before)
        assert store.inside == 0
        async with tokens:
            assert store.inside == 1
            assert await tokens.get() is not None
        assert store.inside == 0
        return outcome, steps

    await everywhere(scenario)


@virtual
async def test_cancelled_in_the_very_round_in_which_the_store_is_entered(clock: VirtualClock):
    """L1: a start that is cancelled while the store says that it is entered leaves it."""
    for late in range(8):
        entering, inside = asyncio.Event(), 0

        class Gated(MemoryStore):  # type: ignore[misc]  # nothing else of it is changed
            async def __aenter__(self, entering: asyncio.Event = entering) -> None:
                nonlocal inside
                await entering.wait()
                inside += 1

            async def __aexit__(self, *_: object) -> None:
                nonlocal inside
                inside -= 1

        tokens = TokenManager(GatedSource(clock, open_=True), clock=clock, store=Gated(clock=clock), namespace="")
        starting = asyncio.create_task(tokens.start())
        await clock.advance(1.0)
        entering.set()
        for _ in range(late):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait({starting})
        await tokens.aclose()
        assert inside == 0


@virtual
async def test_closed_while_starting(clock: VirtualClock):
    """L1: closing while a start opens the store leaves neither a supervisor nor an open store, and start() says so."""
    before, store = asyncio.all_tasks(), Entered(clock)
    for late in (0.0, 0.5, 1.0, 1.5):
        tokens = TokenManager(GatedSource(clock), clock=clock, store=store, namespace="", start="warm")
        starting = asyncio.create_task(tokens.start())
        await asyncio.sleep(late)
        await tokens.aclose()
        with pytest.raises(ManagerClosed):
            await starting
        await tokens.aclose()
        await nothing_left(before)
        assert store.inside == 0


@virtual
async def test_closed_on_hearing_that_it_closes(clock: VirtualClock):
    """L1: an observer that closes the manager in turn joins the close under way, also where tasks are eager."""
    before, closing = asyncio.all_tasks(), list[asyncio.Task[None]]()

    def close(event: events.Event) -> None:
        if isinstance(event, events.ManagerClosing):
            closing.append(asyncio.get_running_loop().create_task(tokens.aclose()))

    tokens = TokenManager(GatedSource(clock, open_=True), clock=clock, observers=[close])
    async with tokens:
        await tokens.get()
    await asyncio.gather(*closing)
    assert len(closing) == 1
    assert tokens.snapshot().state == "closed"
    await nothing_left(before)


@virtual
@CANCELLERS
@pytest.mark.parametrize("flying", ["nothing", "a fetch that lands", "a fetch that hangs"])
async def test_a_cancelled_close(clock: VirtualClock, cancelled: Any, flying: str):
    """
    L1: a close that is cancelled at any point still completes, waiters get ManagerClosed, and fetched tokens are kept.
    """
    before = asyncio.all_tasks()

    async def scenario(at: int) -> tuple[str, int]:
        source = GatedSource(clock, open_=flying == "nothing")
        tokens = await TokenManager(source, clock=clock, close_grace=3.0).start()
        waiter = asyncio.create_task(tokens.get())
        await source.reached()
        if flying == "nothing":
            await waiter
        elif flying == "a fetch that lands":
            asyncio.get_running_loop().call_later(1.0, source.release)
        outcome, steps = await cancelled(tokens.aclose, at)
        if at == 0:
            # It may have been cancelled before its first step.
            await tokens.aclose()
        if flying != "nothing":
            with pytest.raises(ManagerClosed):
                await waiter
        assert tokens.snapshot().state == "closed"
        await nothing_left(before)
        source.release()
        async with tokens:
            assert await tokens.get() is not None
        assert source.fetches == (2 if flying == "a fetch that hangs" else 1)
        await nothing_left(before)
        return outcome, steps

    await everywhere(scenario, shielded=cancelled is cancelled_by_scope)


@virtual
@CANCELLERS
async def test_a_cancelled_block(clock: VirtualClock, cancelled: Any):
    """L1: wherever the task inside `async with` is cancelled, the manager closes cleanly."""
    before = asyncio.all_tasks()

    async def scenario(at: int) -> tuple[str, int]:
        source = GatedSource(clock)
        opened = asyncio.get_running_loop().call_later(1.0, source.release)

        async def block() -> None:
            async with TokenManager(source, clock=clock) as tokens:
                await tokens.get()
                await asyncio.sleep(200.0)

        outcome, steps = await cancelled(block, at)
        opened.cancel()
        await nothing_left(before)
        return outcome, steps

    await everywhere(scenario)
