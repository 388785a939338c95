"""Other threads, other loops, other processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.gated import GatedSource, at_once, until

from evertoken import ManagerClosed, TokenManager, TokenUnavailable, run_in_background
from evertoken._engine.clock import SystemClock


class Slow:
    """Counts its fetches; each takes some tens of milliseconds."""

    def __init__(self, seconds: float = 0.03, lifetime: float = 3600.0) -> None:
        self.seconds, self.lifetime = seconds, lifetime
        self.fetches = 0
        self.threads: set[int] = set()
        self.error: Exception | None = None

    async def __call__(self) -> tuple[str, float]:
        self.fetches += 1
        self.threads.add(threading.get_ident())
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return f"t{self.fetches}", self.lifetime


def test_another_threads_loop():
    """U5: callers on another loop share the fetch that runs on the owner's loop."""
    source = Slow()

    async def elsewhere(manager: TokenManager[Any, None]) -> set[Any]:
        return set(await asyncio.gather(*(manager.get() for _ in range(50)), manager.handle().get()))

    async def main() -> None:
        async with TokenManager(source) as manager:
            with ThreadPoolExecutor(4) as pool:
                loop = asyncio.get_running_loop()
                jobs = [loop.run_in_executor(pool, asyncio.run, elsewhere(manager)) for _ in range(4)]
                here = await manager.get()
                for found in await asyncio.gather(*jobs):
                    assert found == {here}

    asyncio.run(main())
    assert source.fetches == 1
    assert source.threads == {threading.get_ident()}


def test_two_loops_and_a_sync_caller():
    """U5: two loops in two threads and a caller without one: one fetch for all, refusals and refreshes included."""
    source = Slow()
    with run_in_background(TokenManager(source)) as manager:
        barrier = threading.Barrier(3)

        async def looping() -> Any:
            barrier.wait()
            token = await manager.get()
            # The last caller is served before the first one refuses.
            barrier.wait()
            again = await manager.refused(token)
            return token, again, manager.peek()

        def blocking() -> Any:
            barrier.wait()
            token = manager.get_sync()
            barrier.wait()
            return token, manager.refused_sync(token), manager.peek()

        with ThreadPoolExecutor(3) as pool:
            results = [job.result(20.0) for job in [
                pool.submit(asyncio.run, looping()), pool.submit(asyncio.run, looping()), pool.submit(blocking),
            ]]  # fmt: skip
        assert len({first.access_token for first, _, _ in results}) == 1
        assert {second.access_token for _, second, _ in results} == {"t2"}
        assert source.fetches == 2


async def test_another_loop_does_not_wait_for_the_owners():
    """R1, U5: on another loop a valid token is read at once, also just after a refresh, though the owner's is busy."""
    busy, free = threading.Event(), threading.Event()

    def hold_up() -> None:
        busy.set()
        free.wait(20.0)

    with run_in_background(TokenManager(source_for=lambda key: Slow(0.0))) as manager:
        handle = manager.handle("a")
        await handle.get()
        token = await manager.refresh("a")
        assert manager._life.session.loop is not None
        manager._life.session.loop.call_soon_threadsafe(hold_up)
        busy.wait(20.0)
        try:
            for _ in range(3):
                for call in (manager.get("a"), manager.get("a", timeout=5.0), handle.get()):
                    assert at_once(call) is token
        finally:
            free.set()


def test_run_in_background():
    """U5: a program without a loop gets tokens, failures and ManagerClosed, and no thread is left behind."""
    before = threading.active_count()
    source = Slow()
    with run_in_background(TokenManager({"a": source}, start="warm")) as manager:
        assert manager.peek("a") is not None
        assert manager.get_sync("a").access_token == "t1"
        assert manager.handle("a").get_sync() is manager.peek("a")
        assert manager.health().alive
        assert manager.snapshot().keys["a"].validity == "fresh"
        # It does not keep a program from ending.
        assert {one.daemon for one in threading.enumerate() if one.name == "evertoken:background"} == {True}
    with pytest.raises(ManagerClosed, match="enter it again"):
        manager.get_sync("a")
    assert manager.peek("a") is None
    assert threading.active_count() == before
    with run_in_background(manager):
        assert manager.get_sync("a").access_token == "t1"
    source.error = OSError("down")
    broken = TokenManager(source, start="require")
    with pytest.raises(TokenUnavailable):
        with run_in_background(broken):
            pass
    assert threading.active_count() == before


def test_closing_wakes_callers_elsewhere():
    """U5, L1: a waiting caller in another thread gets ManagerClosed when the manager closes, and does not hang."""
    source = Slow(seconds=30.0)
    manager = TokenManager(source, close_grace=0.0)
    with ThreadPoolExecutor(2) as pool:
        with run_in_background(manager):
            waiting = [pool.submit(manager.get_sync), pool.submit(asyncio.run, manager.get())]
            while manager.snapshot().keys[None].waiters < 2:
                threading.Event().wait(0.01)
        for job in waiting:
            with pytest.raises((ManagerClosed, RuntimeError)):
                job.result(10.0)


async def test_blocking_on_the_own_loop():
    """U5: get_sync on the manager's own loop raises instead of stopping it for ever; with a valid token it answers."""
    async with TokenManager(Slow()) as manager:
        with pytest.raises(RuntimeError, match="await"):
            manager.get_sync()
        token = await manager.get()
        assert manager.get_sync() is token
        with pytest.raises(RuntimeError, match="await"):
            manager.refused_sync(token)
        with pytest.raises(RuntimeError, match="await"):
            manager.get_sync(min_ttl=1.0)


def test_not_started():
    """U5, L1: a manager that was never started says how to start it."""
    manager = TokenManager(Slow())
    assert manager.peek() is None
    for call in (manager.get_sync, lambda: asyncio.run(manager.get()), lambda: asyncio.run(manager.refresh())):
        with pytest.raises(RuntimeError, match="not started"):
            call()


@pytest.mark.filterwarnings("ignore:a TokenManager was not closed:ResourceWarning")
def test_the_owners_loop_is_dead():
    """U5: when the loop that started it is gone, callers get a RuntimeError and never hang; it can be started again."""
    source = Slow(seconds=0.0)
    manager = TokenManager(source)

    async def leave_open() -> None:
        await manager.start()

    asyncio.run(leave_open())
    for call in (manager.get_sync, lambda: asyncio.run(manager.get())):
        with pytest.raises(RuntimeError, match="no longer runs"):
            call()

    async def again() -> None:
        async with manager:
            assert await manager.get()

    asyncio.run(again())
    asyncio.run(again())


@pytest.mark.filterwarnings("ignore:a TokenManager was not closed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_owners_loop_stops_under_a_waiter():
    """U5: a caller in another thread notices within a second that the owner's loop has stopped."""
    manager = TokenManager(Slow(seconds=30.0), close_grace=0.0)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(manager.start())
    owner = threading.Thread(target=loop.run_forever)
    owner.start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(manager.get_sync)
        while not manager.snapshot().keys[None].waiters:
            threading.Event().wait(0.01)
        loop.call_soon_threadsafe(loop.stop)
        owner.join()
        with pytest.raises(RuntimeError, match="no longer runs"):
            waiting.result(5.0)
    loop.run_until_complete(manager.aclose())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


async def test_a_cancelled_caller_elsewhere():
    """R3, U5: cancelling a caller on another loop takes nothing from those on the owner's."""
    source = GatedSource(SystemClock())
    async with TokenManager(source) as manager:

        async def elsewhere() -> None:
            task = asyncio.ensure_future(manager.get())
            await until(lambda: manager.snapshot().keys[None].waiters == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        here = asyncio.ensure_future(manager.get())
        await source.reached()
        await asyncio.to_thread(asyncio.run, elsewhere())
        source.release()
        assert (await here).access_token == "token-1"
        assert source.fetches == 1


def test_subscribe_on_another_loop():
    """U5, L2: a subscription lives on the loop of its reader."""
    source = Slow(seconds=0.0)
    with run_in_background(TokenManager(source)) as manager:

        async def read() -> list[str]:
            found = []
            async with manager.subscribe() as tokens:
                async for token in tokens:
                    found.append(token.access_token)
                    if len(found) == 3:
                        return found
                    await manager.refresh()
            return found

        assert asyncio.run(asyncio.wait_for(read(), 10.0)) == ["t1", "t2", "t3"]


FORK = """
    import asyncio, os, sys, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    from evertoken import TokenManager

    async def fetch():
        return f"from-{os.getpid()}", 3600.0

    manager = TokenManager(fetch)
    handle = manager.handle()

    async def parent():
        await manager.start()
        await manager.get()
        await handle.get()
        return os.fork()

    def child():
        for call in (manager.get, handle.get, manager.refresh):
            try:
                asyncio.run(call())
            except RuntimeError as error:
                assert "fork" in str(error), error
            else:
                raise AssertionError("the child was served")
        try:
            manager.get_sync()
        except RuntimeError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError("the child was served")
        assert manager.peek() is None
        assert not manager.health().alive

        async def again():
            async with manager:
                token = await manager.refresh()
                assert token.access_token == f"from-{os.getpid()}"
                assert await handle.get() is token
                assert manager.health().alive
        asyncio.run(again())

    loop = asyncio.new_event_loop()
    pid = loop.run_until_complete(parent())
    if pid == 0:
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            import traceback; traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    # The parent is none the worse.
    token = loop.run_until_complete(manager.get())
    assert token.access_token == f"from-{os.getpid()}"
    loop.run_until_complete(manager.aclose())
    loop.close()
    sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_fork():
    """U5, L1: a forked child is told at once, even with a valid token, and may start the manager itself."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK)], capture_output=True, text=True, timeout=30.0, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


PREFORK = """
    import asyncio, os
    from evertoken import TokenManager

    async def fetch():
        return "token", 3600.0

    manager = TokenManager(fetch)

    async def due_in():
        async with manager:
            token = await manager.get()
            due_at = manager.snapshot().keys[None].due_at
        async with manager:
            assert manager.snapshot().keys[None].due_at == due_at
            return due_at - token.issued_at

    ours, theirs = os.pipe()
    for _ in range(4):
        if os.fork() == 0:
            os.write(theirs, f"{asyncio.run(due_in())!r}\\n".encode())
            os._exit(0)
        os.wait()
    os.close(theirs)
    print(os.read(ours, 4096).decode())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_forked_workers_spread_out():
    """F2, trap 75: workers that start a manager made before they were forked do not refresh in step."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PREFORK)], capture_output=True, text=True, timeout=30.0, check=False
    )
    assert done.returncode == 0, done.stderr
    leads = [round(3600.0 - float(line), 3) for line in done.stdout.split()]
    assert len(set(leads)) == len(leads) == 4
    assert all(720.0 <= lead <= 720.0 * 1.1 for lead in leads)
