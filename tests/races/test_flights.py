"""Sharing of a fetch, ordered by gates."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest
from tests.gated import GatedSource, virtual

from evertoken import (
    GrantRejected,
    Lease,
    Record,
    RefreshPolicy,
    RetryPolicy,
    Token,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
    events,
)
from evertoken.stores import MemoryStore

if TYPE_CHECKING:
    from evertoken.testing import VirtualClock


async def rounds(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@virtual
async def test_cold_callers_share_one_fetch(clock: VirtualClock):
    """R3: ten thousand callers of a cold key cost one fetch, and each is served within two rounds of the loop."""
    source = GatedSource(clock)
    manager: TokenManager[Any] = TokenManager(source_for=lambda key: source, clock=clock)
    async with manager as tokens:
        callers = [asyncio.create_task(tokens.get("k")) for _ in range(10_000)]
        await source.reached()
        await rounds(3)
        source.release()
        # One round for the gate to wake the source, which answers in it; two for the answer to reach everyone.
        await rounds(3)

        assert all(caller.done() for caller in callers)
        assert {id(caller.result()) for caller in callers} == {id(source.last)}
        assert source.fetches == 1


@virtual
async def test_source_that_answers_without_suspending(clock: VirtualClock):
    """R3: with an eager task factory a flight may have landed before the caller can wait for it."""
    source = GatedSource(clock, open_=True)
    manager: TokenManager[Any] = TokenManager(source_for=lambda key: source, clock=clock)
    async with manager as tokens:
        async with asyncio.timeout(1.0):
            assert await tokens.get("a") is source.last
            assert await tokens.refresh("a") is source.last
        assert source.fetches == 2


@virtual
async def test_asked_again_while_starting(clock: VirtualClock):
    """
    R3: a caller that asks on hearing that a fetch starts joins it, also if an eager task factory runs both at once.
    """
    source = GatedSource(clock)
    asking: list[asyncio.Task[Token]] = []

    def ask(event: events.Event) -> None:
        if isinstance(event, events.FetchStarted):
            asking.append(asyncio.get_running_loop().create_task(tokens.get()))

    tokens = TokenManager(source, clock=clock, observers=[ask])
    async with tokens:
        first = asyncio.create_task(tokens.get())
        await source.reached()
        await rounds(3)
        source.release()
        assert await first is source.last
        assert [await task for task in asking] == [source.last]
        assert source.fetches == 1


@virtual
@pytest.mark.parametrize("order", ["first", "last", "random", "all"])
async def test_cancelled_waiters_change_nothing(clock: VirtualClock, order: str):
    """R3: any of a thousand waiters may be cancelled, in any order. The flight lands for the others."""
    source = GatedSource(clock)
    async with TokenManager(source, clock=clock) as tokens:
        callers = [asyncio.create_task(tokens.get()) for _ in range(1000)]
        await source.reached()
        doomed = list(callers)
        if order == "random":
            random.Random(7).shuffle(doomed)
        elif order == "last":
            doomed.reverse()
        doomed = doomed if order == "all" else doomed[:999]
        for caller in doomed:
            caller.cancel()
        await rounds(3)
        source.release()
        await rounds(5)

        assert tokens.peek() is source.last
        assert [caller.result() for caller in callers if caller not in set(doomed)] == (
            [] if order == "all" else [source.last]
        )
        assert source.fetches == 1
        assert tokens.snapshot().keys[None].waiters == 0


@virtual
async def test_failure_is_shared_and_each_has_its_own_exception(clock: VirtualClock):
    """R3, R4: one failed fetch tells all its waiters, each with an exception of its own and the same cause."""
    source = GatedSource(clock)
    source.error = TransientRefreshError("down")
    async with TokenManager(source, clock=clock) as tokens:
        callers = [asyncio.create_task(tokens.get()) for _ in range(50)]
        await source.reached()
        source.release()
        errors = await asyncio.gather(*callers, return_exceptions=True)

        assert {type(error) for error in errors} == {TokenUnavailable}
        assert len({id(error) for error in errors}) == 50
        assert len({id(error.__cause__) for error in errors if isinstance(error, TokenUnavailable)}) == 1
        assert {error.retry_at for error in errors if isinstance(error, TokenUnavailable)} == {clock.time() + 5.0}
        assert source.fetches == 1


@virtual
async def test_joining_in_the_very_round_of_the_landing(clock: VirtualClock):
    """R3: a caller that comes while the flight lands gets its token, or one of a flight that lands too; none hangs."""
    for late in range(8):
        source = GatedSource(clock)
        async with TokenManager(source, clock=clock) as tokens:
            first = asyncio.create_task(tokens.get())
            await source.reached()
            source.release()
            await rounds(late)
            async with asyncio.timeout(1.0):
                assert await tokens.get() is await first is source.last
            assert source.fetches == 1


@virtual
async def test_cancelled_in_the_very_round_of_the_landing(clock: VirtualClock):
    """R3: a waiter cancelled while the flight lands is cancelled or served, and the next call is right."""
    for late in range(8):
        source = GatedSource(clock)
        async with TokenManager(source, clock=clock) as tokens:
            caller = asyncio.create_task(tokens.get())
            await source.reached()
            source.release()
            await rounds(late)
            caller.cancel()
            await asyncio.wait({caller})
            assert caller.cancelled() or caller.result() is source.last
            assert await tokens.get() is source.last
            assert source.fetches == 1


@virtual
async def test_timeout_in_the_very_round_of_the_landing(clock: VirtualClock):
    """R4: a timeout that runs out as the flight lands gives the token or TokenUnavailable, and nothing in between."""
    for late in (0.9, 1.0, 1.1):
        source = GatedSource(clock)
        async with TokenManager(source, clock=clock) as tokens:
            asyncio.get_running_loop().call_later(1.0, source.release)
            caller = asyncio.create_task(tokens.get(timeout=late))
            await asyncio.wait({caller})
            error = caller.exception()
            assert isinstance(error, TokenUnavailable) if error else caller.result() is source.last
            await clock.advance(1.0)
            assert await tokens.get() is source.last


@virtual
async def test_refusals_of_one_token_cost_one_fetch(clock: VirtualClock):
    """U1: five hundred refusals of one token cost one fetch; late ones, of an older token, cost none."""
    source = GatedSource(clock, open_=True)
    async with TokenManager(source, clock=clock, start="require") as tokens:
        old = await tokens.get()
        source.hold()
        refusals = [asyncio.create_task(tokens.refused(old)) for _ in range(500)]
        await source.reached()
        source.release()
        others = await asyncio.gather(*refusals)

        assert {id(other) for other in others} == {id(source.last)}
        assert source.fetches == 2
        assert await tokens.refused(old) is source.last
        assert not await tokens.invalidate(old)
        assert source.fetches == 2


@virtual
async def test_refusals_without_end_are_bounded(clock: VirtualClock):
    """U1: a resource that refuses every token costs ever fewer fetches, and its callers are told at once."""
    source = GatedSource(clock, lifetime=36_000.0, open_=True)
    async with TokenManager(source, clock=clock, start="require") as tokens:
        for _ in range(10_000):
            token = await tokens.get()
            await tokens.refused(token)
            await clock.advance(0.1)

        # Cool-downs of 1, 2, 4, ... 300 s in a thousand seconds.
        assert source.fetches <= 13
        await clock.advance(hours=2)
        assert await tokens.invalidate(await tokens.get())


@virtual
async def test_refused_while_flying(clock: VirtualClock):
    """U1: a token refused while its replacement is being fetched joins that flight."""
    source = GatedSource(clock, open_=True)
    async with TokenManager(source, clock=clock, policy=RefreshPolicy(jitter=0.0), start="require") as tokens:
        old = await tokens.get()
        source.hold()
        await clock.advance(81.0)
        assert source.fetches == 2
        refusal = asyncio.create_task(tokens.refused(old))
        await rounds(3)
        assert not refusal.done()
        source.release()
        assert await refusal is source.last
        assert source.fetches == 2


@virtual
async def test_forgotten_while_flying(clock: VirtualClock):
    """R3: a flight of a key that was forgotten does not bring its token back; its waiters get the new one."""
    source = GatedSource(clock)
    async with TokenManager(source, clock=clock) as tokens:
        waiter = asyncio.create_task(tokens.get())
        await source.reached()
        await tokens.forget()
        await rounds(3)
        source.release()
        token = await waiter
        await rounds(5)
        assert token is tokens.peek()
        assert source.fetches == 2


@virtual
@pytest.mark.parametrize("command", ["forget", "put"])
async def test_a_fetch_that_nobody_needs_is_cancelled(clock: VirtualClock, command):
    """R3: a fetch that spends nothing, and whose key was forgotten or got another token, is cancelled at once."""
    source = GatedSource(clock)
    async with TokenManager(source, clock=clock) as tokens:
        waiter = asyncio.create_task(tokens.get())
        await source.reached()
        if command == "forget":
            await tokens.forget()
        else:
            await tokens.put(Token("put", issued_at=clock.time(), expires_at=clock.time() + 100.0))
        await rounds(5)
        assert source.ended == 1
        source.release()
        assert await waiter is tokens.peek()


@virtual
async def test_forgotten_while_somebody_waits_with_a_handle(clock: VirtualClock):
    """R3: who waited while a key was forgotten, and everybody else after, see one token, however soon it came."""
    source = GatedSource(clock)
    manager: TokenManager[Any] = TokenManager(source_for=lambda key: source, clock=clock)
    async with manager as tokens:
        handle = tokens.handle("a")
        waiting = asyncio.create_task(handle.get())
        await source.reached()
        forgetting = asyncio.create_task(tokens.forget("a"))
        source.release()
        await forgetting
        await waiting
        assert await handle.get() is await tokens.get("a") is source.last
        assert await tokens.refused(await handle.get(), "a") is source.last
        assert await handle.get() is await tokens.get("a") is source.last
        await clock.advance(1000.0)
        assert await handle.get() is await tokens.get("a") is source.last


@virtual
@pytest.mark.parametrize("late", [None, GrantRejected("invalid_grant")])
async def test_put_while_flying(clock: VirtualClock, late: Exception | None):
    """R3: a waiter gets the token that is put, and no token of the earlier grant comes after it."""
    source = GatedSource(clock)
    async with TokenManager(source, clock=clock) as tokens:
        waiters = [asyncio.create_task(call) for call in (tokens.get(), tokens.get(timeout=60.0))]
        await source.reached()
        source.error = late
        token = Token("by-hand", issued_at=clock.time(), expires_at=clock.time() + 1000.0, refresh_token="new")
        await tokens.put(token)
        source.release()
        assert await asyncio.gather(*waiters) == [token, token]
        await clock.advance(10.0)
        assert await tokens.get() is token
        assert tokens.snapshot().keys[None].condition == "ok"
        assert source.fetches == 1


class Unsteady(MemoryStore):  # type: ignore[misc]  # nothing else of it is changed
    """A store that takes a second to write, or to fail."""

    down = False

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        await asyncio.sleep(1.0)
        if self.down:
            msg = "no space left"
            raise OSError(msg)
        return await super().commit(record, lease)


@virtual
@pytest.mark.parametrize("want", ["refresh", "min_ttl", "refused"])
async def test_another_is_wanted_while_one_is_brought_to_the_store(clock: VirtualClock, want: str):
    """R2, K3: who needs another token, just when the store is back and is brought the last one, gets another."""
    source, store = GatedSource(clock, lifetime=1000.0, open_=True), Unsteady(clock=clock)
    source.rotates = False
    async with TokenManager(source, clock=clock, store=store, namespace="") as tokens:
        store.down = True
        first = await tokens.get()
        await clock.advance(200.0)
        store.down, state = False, tokens._state_of(None)
        while state.flight is None:
            await clock.advance(0.1)
        assert state.flight.reason == "repair"
        wanted = {
            "refresh": tokens.refresh,
            "min_ttl": lambda: tokens.get(min_ttl=900.0),
            "refused": lambda: tokens.refused(first),
        }
        another = await wanted[want]()
        assert another is source.last
        assert another is not first
        assert source.fetches == 2
        assert tokens.snapshot().keys[None].kept


@virtual
async def test_many_keys_at_once_keep_to_the_limit(clock: VirtualClock):
    """F6: of a thousand keys, at most as many as the limit are fetched at once, and each is fetched once."""
    source = GatedSource(clock)
    manager: TokenManager[Any] = TokenManager(source_for=lambda key: source, clock=clock, concurrency=7)
    async with manager as tokens:
        callers = [asyncio.create_task(tokens.get(key)) for key in range(1000)]
        await source.reached()
        await rounds(5)
        assert source.concurrent == 7
        assert tokens.snapshot().queued == 993
        source.release()
        await asyncio.gather(*callers)
        assert source.most_concurrent == 7
        assert source.fetches == 1000


@virtual
async def test_callers_pass_the_queue(clock: VirtualClock):
    """F6: a fetch that somebody waits for goes before those of the background, also if it was queued already."""
    source = GatedSource(clock)
    keys = {f"k{number}": source for number in range(50)}
    async with TokenManager(keys, clock=clock, concurrency=1) as tokens:
        await source.reached()
        wanted = asyncio.create_task(tokens.get("k49"))
        await rounds(3)
        source.release()
        await wanted
        # Tasks that an eager task factory ends before the caller hears of it.
        assert source.fetches <= 4


@virtual
async def test_a_fetch_that_ignores_its_cancellation(clock: VirtualClock):
    """F7: a source that swallows its cancellation is left behind after the timeout, and the next fetch is right."""
    calls = 0
    stop = asyncio.Event()

    async def stubborn() -> tuple[str, float]:
        nonlocal calls
        calls += 1
        if calls > 1:
            return "token", 100.0
        while not stop.is_set():
            try:
                await stop.wait()
            except asyncio.CancelledError:
                continue
        return "too late", 1000.0

    async with TokenManager(stubborn, clock=clock, fetch_timeout=2.0) as tokens:
        with pytest.raises(TokenUnavailable, match="no answer within 2 s"):
            await tokens.get()
        assert (await tokens.get(timeout=10.0)).access_token == "token"
        stop.set()
        await rounds(5)
        assert (await tokens.get()).access_token == "token"
        assert calls == 2


@virtual
async def test_cancelled_from_outside(clock: VirtualClock):
    """F5: a program that cancels all tasks, the supervisor and a flight among them, leaves no caller hanging."""
    source = GatedSource(clock)
    async with TokenManager(source, clock=clock, retry=RetryPolicy(first=0.5)) as tokens:
        waiter = asyncio.create_task(tokens.get())
        await source.reached()
        for task in asyncio.all_tasks() - {asyncio.current_task(), waiter}:
            task.cancel()
        with pytest.raises(TokenUnavailable, match="cancelled"):
            await waiter
        source.release()
        assert await tokens.get(timeout=30.0) is source.last
        assert tokens.health().alive
        assert source.most_concurrent == 1


@virtual
async def test_close_while_queued(clock: VirtualClock):
    """L1: those who wait for a queued fetch are told at once that the manager closes."""
    source = GatedSource(clock)
    tokens = await TokenManager({1: source, 2: source}, clock=clock, concurrency=1, close_grace=1.0).start()
    waiters = [asyncio.create_task(tokens.get(key)) for key in (1, 2)]
    await source.reached()
    await tokens.aclose()
    errors = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(error).__name__ for error in errors} == {"ManagerClosed"}
    assert source.fetches == 1


@virtual
async def test_hanging_provider_past_expiry_holds_nobody(clock: VirtualClock):
    """R4: while attempts hang after a failure, get() raises within a second, with an instant to come back at."""
    source = GatedSource(clock, open_=True)
    source.error = TransientRefreshError("down")
    async with TokenManager(source, clock=clock, retry=RetryPolicy(jitter=0.0)) as tokens:
        with pytest.raises(TokenUnavailable):
            await tokens.get()
        source.hold()
        await clock.advance(6.0)
        assert source.concurrent == 1
        begun = clock.monotonic()
        callers = [asyncio.create_task(tokens.get()) for _ in range(100)]
        for error in await asyncio.gather(*callers, return_exceptions=True):
            assert isinstance(error, TokenUnavailable)
            assert isinstance(error.__cause__, TransientRefreshError)
            assert error.retry_at is not None
            assert error.retry_at > clock.time()
        assert clock.monotonic() - begun <= 1.0
        assert source.concurrent == 1
        source.error = None
        source.release()
        assert await tokens.get(timeout=1.0) is source.last
        assert source.fetches == 2


@virtual
async def test_rejection_is_told_once(clock: VirtualClock):
    """F4: a rejected grant is one loud event however often it is probed, also with other failures between."""
    seen: list[events.Event] = []
    source = GatedSource(clock, open_=True)
    source.error = GrantRejected("invalid_grant")
    async with TokenManager(source, clock=clock, observers=[seen.append]) as tokens:
        with pytest.raises(GrantRejected):
            await tokens.get()
        await clock.advance(400.0)
        source.error = TransientRefreshError("down")
        await clock.advance(400.0)
        source.error = GrantRejected("invalid_grant")
        await clock.advance(2000.0)
        assert sum(isinstance(event, events.RefreshRejected) for event in seen) == 1
        source.error = None
        assert await tokens.refresh() is source.last


@virtual
async def test_nothing_is_kept_alive(clock: VirtualClock, caplog: pytest.LogCaptureFixture):
    """F6: flights, waiters and failures of the past are not kept: a thousand refreshes leave no objects behind."""
    # pytest keeps the log.
    caplog.set_level(logging.CRITICAL, "evertoken")
    fetches = 0

    async def login() -> tuple[str, float]:
        nonlocal fetches
        fetches += 1
        if fetches % 5 == 0:
            raise TransientRefreshError(f"down for the {fetches}. time")
        return f"token-{fetches}", 100.0

    def things() -> int:
        gc.collect()
        kinds = (Token, asyncio.Future, TransientRefreshError)
        return sum(isinstance(thing, kinds) for thing in gc.get_objects())

    async with TokenManager(login, clock=clock, start="require") as tokens:
        await clock.advance(1000.0)
        before = things()
        await clock.advance(80_000.0)
        assert fetches > 900
        assert things() <= before + 5
        assert tokens.peek() is not None
