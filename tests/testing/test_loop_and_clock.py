"""The virtual loop and the clocks of the testing room."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import pytest
from tests.gated import virtual
from tests.machinery.scripted import ScriptedSource, down, gaps

from evertoken import RefreshPolicy, RetryPolicy, TokenManager, TokenUnavailable
from evertoken.testing import loop as loops
from evertoken.testing.clock import EPOCH, ManualClock, VirtualClock
from evertoken.testing.loop import VirtualTimeLoop


@virtual
async def test_time_jumps(clock):
    """T3: a day passes in no time, in order, for asyncio and for anyio."""
    begun, real = clock.time(), time.perf_counter()
    order: list[str] = []

    async def note(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(name)

    await asyncio.gather(note("c", 300.0), note("a", 100.0), note("b", 200.0))
    await anyio.sleep(3600.0)
    with anyio.move_on_after(5.0) as scope:
        await anyio.sleep_forever()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10.0):
            await asyncio.Event().wait()
    await clock.advance(hours=24, minutes=1, seconds=1)
    assert order == ["a", "b", "c"]
    assert scope.cancelled_caught
    assert clock.time() - begun == pytest.approx(300.0 + 3600.0 + 5.0 + 10.0 + 86_461.0, abs=1e-3)
    assert time.perf_counter() - real < (clock.time() - begun) / 1000.0


@virtual
async def test_jobs_in_threads(clock):
    """T3: virtual time stands while a job runs in a worker thread, asyncio's or anyio's."""
    begun = clock.time()
    later = asyncio.ensure_future(asyncio.sleep(0.001))
    results = await asyncio.gather(
        asyncio.to_thread(lambda: time.sleep(0.03) or threading.get_ident()),
        anyio.to_thread.run_sync(lambda: time.sleep(0.03) or threading.get_ident()),
    )
    assert threading.get_ident() not in results
    assert clock.time() - begun <= 0.002
    await later
    with ThreadPoolExecutor(1) as pool:
        assert await asyncio.get_running_loop().run_in_executor(pool, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await anyio.to_thread.run_sync(lambda: 1 / 0)
    assert asyncio.get_running_loop().outside == 0


@virtual
async def test_a_plain_function_as_source(clock):
    """T3: a manager whose source runs in a thread keeps to virtual time."""
    begun = time.perf_counter()
    async with TokenManager(lambda: ("t", 100.0), clock=clock) as manager:
        assert await manager.get()
        await clock.advance(1000.0)
        assert 11 <= manager.snapshot().fetches <= 14
    assert time.perf_counter() - begun < 100.0


def test_anyio_is_given_back():
    """T3: with the last virtual loop gone, anyio's run_sync is its own again."""
    real = anyio.to_thread.run_sync
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(asyncio.sleep(5.0))
    assert anyio.to_thread.run_sync is real


def test_deadlock(monkeypatch):
    """T3: waiting for what can never come is an error that says so."""
    monkeypatch.setattr(loops, "_DEADLOCK_AFTER", 0.05)

    async def main() -> None:
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        with pytest.raises(RuntimeError, match="deadlock"):
            runner.run(main())


def test_another_thread_may_help():
    """T3: with nothing scheduled, a callback from another thread is waited for."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        timer = threading.Timer(0.03, loop.call_soon_threadsafe, [event.set])
        timer.start()
        await event.wait()
        timer.join()
        return loop.time()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == 1000.0


def test_debug_mode():
    """T3: the loop runs in debug mode, and a late callback is made late on purpose."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert loop.get_debug()
        loop.advance(7.0)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        return loop.time()

    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=True) as runner:
        assert runner.run(main()) == 1007.0


async def test_the_virtual_clock_wants_its_loop():
    """T3: on an ordinary loop the virtual clock says what to use instead."""
    with pytest.raises(RuntimeError, match="ManualClock"):
        VirtualClock().time()


@virtual
async def test_steps(clock):
    """T3: a step moves the wall clock alone."""
    wall, monotonic = clock.time(), clock.monotonic()
    clock.step(-3600.0)
    assert clock.time() - wall == pytest.approx(-3600.0)
    assert clock.monotonic() == monotonic
    await clock.advance(10.0)
    assert clock.time() - wall == pytest.approx(-3590.0)
    assert clock.monotonic() - monotonic == pytest.approx(10.0)
    assert "3600" in repr(clock)


async def test_the_manual_clock():
    """T3: a manual clock stands until it is moved, calls due timers in order, and forgets cancelled ones."""
    clock = ManualClock()
    called: list[tuple[str, float]] = []

    def note(name: str) -> None:
        called.append((name, clock.monotonic()))
        if name == "a":
            clock.call_later(1.0, note, "a2")

    clock.call_later(3.0, note, "b")
    clock.call_later(1.0, note, "a")
    clock.call_later(2.0, note, "never").cancel()
    clock.call_later(-5.0, note, "now")
    assert (clock.time(), clock.monotonic()) == (EPOCH, 0.0)
    await clock.advance(10.0)
    assert called == [("now", 0.0), ("a", 1.0), ("a2", 2.0), ("b", 3.0)]
    assert (clock.time(), clock.monotonic()) == (EPOCH + 10.0, 10.0)
    clock.step(100.0)
    assert (clock.time(), clock.monotonic()) == (EPOCH + 110.0, 10.0)


@pytest.mark.asyncio(loop_factories=["real", "uvloop"])
async def test_a_manager_on_a_manual_clock():
    """T3: on an ordinary loop a manual clock drives refresh, failure, retry, expiry, a step and recovery."""
    clock = ManualClock()
    source = ScriptedSource(clock, lifetime=100.0)
    policy, retry = RefreshPolicy(jitter=0.0), RetryPolicy(jitter=0.0)
    async with TokenManager(source, policy=policy, retry=retry, clock=clock) as manager:
        await manager.get()
        await clock.advance(80.0)
        assert source.fetches == 2
        source.error = down()
        await clock.advance(80.0 + 5.0 + 10.0)
        assert gaps(source.at) == pytest.approx([80.0, 80.0, 5.0, 7.5], abs=0.01)
        assert manager.peek() is not None
        await clock.advance(6.0)
        with pytest.raises(TokenUnavailable):
            await manager.get()
        source.error = None
        await clock.advance(25.0)
        assert await manager.get()
        clock.step(7200.0)
        assert manager.peek() is None
        await clock.advance(11.0)
        assert manager.peek() is not None
        assert manager.health().alive
