"""
U5: a call from another thread or loop gets its token or a clear error within seconds, also if the owner has ended.

Real threads and loops; each case ends by an event, and its bound is what a busy machine needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time

import pytest

from evertoken import ManagerClosed, Token, TokenManager, TokenUnavailable

# Loops that end on purpose leave tasks behind, which are told of whenever they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def _collected():
    """Have warnings about leftovers of loops appear here, and not in a later test."""
    yield
    gc.collect()


#: Seconds in which a caller is told.
SOON = 9.0


class Owner:
    """A manager on a loop in a thread, whose source never answers; and what may become of that loop."""

    def __init__(self, **options):
        self.asked = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.release = threading.Event()
        self.manager = TokenManager(self.fetch, close_grace=0.0, fetch_timeout=60.0, **options)
        self.thread = self.run()

    async def fetch(self):
        self.asked.set()
        await asyncio.sleep(120.0)

    def run(self):
        def main():
            asyncio.set_event_loop(self.loop)
            self.loop.run_forever()

        thread = threading.Thread(target=main, daemon=True)
        thread.start()
        return thread

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(15.0)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10.0)

    def cancel_all(self):
        async def cancel():
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        with contextlib.suppress(Exception):
            self.call(cancel())

    # The states of the owner

    def closed(self):
        self.call(self.manager.aclose())

    def stopped(self):
        self.stop()

    def ended(self):
        self.stop()
        self.loop.close()

    def ended_like_run(self):
        self.cancel_all()
        self.stop()
        self.loop.close()

    def busy(self):
        self.loop.call_soon_threadsafe(self.release.wait, 30.0)

    def restarted(self):
        self.stop()
        self.loop.close()
        self.loop = asyncio.new_event_loop()
        self.thread = self.run()
        self.call(self.manager.start())

    def restarted_elsewhere_while_stopped(self):
        self.stop()
        self.loop = asyncio.new_event_loop()
        self.thread = self.run()
        self.call(self.manager.start())

    def end(self):
        self.release.set()
        if self.thread.is_alive():
            with contextlib.suppress(Exception):
                self.call(self.manager.aclose())
            self.cancel_all()
            self.stop()
        if not self.loop.is_closed():
            self.loop.close()


FATES = {
    "closed": ManagerClosed,
    "stopped": RuntimeError,
    "ended": RuntimeError,
    "ended_like_run": (RuntimeError, ManagerClosed),
    "busy": RuntimeError,
    "restarted": (RuntimeError, ManagerClosed),
    "restarted_elsewhere_while_stopped": (RuntimeError, ManagerClosed),
}

OLD = Token("old", issued_at=0.0)


class Ended(RuntimeError):
    """A subscription ended without a token."""

    def __init__(self):
        super().__init__("the subscription has ended")


async def iterated(manager):
    async for _ in manager.subscribe():
        return
    # That is how a subscription says it.
    raise Ended


CALLS = {
    "get_sync": lambda manager: manager.get_sync(),
    "get_sync, timeout": lambda manager: manager.get_sync(timeout=60.0),
    "get": lambda manager: asyncio.run(manager.get()),
    "get, min_ttl": lambda manager: asyncio.run(manager.get(min_ttl=5.0, timeout=60.0)),
    "refresh": lambda manager: asyncio.run(manager.refresh()),
    "refused_sync": lambda manager: manager.refused_sync(OLD),
    "refused": lambda manager: asyncio.run(manager.refused(OLD)),
    "subscribe": lambda manager: asyncio.run(iterated(manager)),
    "handle": lambda manager: manager.handle().get_sync(),
}


@pytest.mark.parametrize("fate", FATES)
def test_something_becomes_of_the_owner(fate):
    """U5: each kind of call that waits elsewhere is told within seconds, and by an error that says what happened."""
    owner = Owner()
    owner.call(owner.manager.start())
    found: dict[str, BaseException | str] = {}

    def run(name):
        try:
            CALLS[name](owner.manager)
            found[name] = "returned"
        except BaseException as error:  # noqa: BLE001 - kept for the test to judge
            found[name] = error

    # While its loop is busy a reader of a subscription waits for it, because the loop lives.
    names = [name for name in CALLS if fate != "busy" or name != "subscribe"]
    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in names]
    try:
        for one in threads:
            one.start()
        assert owner.asked.wait(10.0)
        time.sleep(0.3)
        begun = time.monotonic()
        getattr(owner, fate)()
        for one in threads:
            one.join(max(begun + 25.0 - time.monotonic(), 0.0))
        took = time.monotonic() - begun
        left = set(names) - set(found)
        assert not left, left
        assert took < 2.0 * SOON if fate == "busy" else took < SOON
        for name, error in found.items():
            assert isinstance(error, (Ended if name == "subscribe" else FATES[fate])), (name, error)
            assert str(error), name
    finally:
        owner.end()
        for one in threads:
            one.join(10.0)


@pytest.mark.parametrize("timeout", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("form", ["get_sync", "get"])
def test_its_timeout_is_kept_while_the_owner_is_busy(timeout, form):
    """R4: the timeout of a caller elsewhere is kept, though the owner's loop does not get to it."""
    owner = Owner()
    owner.call(owner.manager.start())
    try:
        owner.busy()
        begun = time.monotonic()
        with pytest.raises(TokenUnavailable):
            if form == "get":
                asyncio.run(owner.manager.get(timeout=timeout))
            else:
                owner.manager.get_sync(timeout=timeout)
        assert time.monotonic() - begun < timeout + 2.0
    finally:
        owner.end()


@pytest.mark.parametrize("form", ["own loop", "from a thread that is joined"])
def test_the_caller_blocks_the_owner(form):
    """U5: where the very caller blocks the loop that would answer, it is told, and does not hang."""

    async def main():
        async with TokenManager(lambda: "token") as manager:
            with pytest.raises(RuntimeError, match="block"):
                if form == "own loop":
                    manager.get_sync(min_ttl=1e9)
                else:
                    raise_from_thread(lambda: manager.get_sync(min_ttl=1e9))

    begun = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - begun < 15.0


def raise_from_thread(call):
    errors = []

    def run():
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - kept for the test to judge
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise errors[0]


@pytest.mark.parametrize("call", ["get", "refresh", "forget", "revoke", "refused"])
def test_without_a_loop_of_asyncio(call):
    """U5: a coroutine that is driven without an asyncio loop raises an error that says what to do."""
    owner = Owner()
    owner.call(owner.manager.start())
    try:
        made = {
            "get": lambda: owner.manager.get(min_ttl=1.0),
            "refresh": owner.manager.refresh,
            "forget": owner.manager.forget,
            "revoke": owner.manager.revoke,
            "refused": lambda: owner.manager.refused(OLD),
        }[call]()
        with pytest.raises(RuntimeError, match="get_sync"):
            made.send(None)
    finally:
        owner.end()


def test_calls_in_the_instant_of_the_close():
    """U5: while managers are closed, callers in threads get their token, or `ManagerClosed`, and nothing else."""
    seen: list[BaseException] = []
    done = threading.Event()
    current: list[TokenManager] = []

    def caller():
        while not done.is_set():
            if current:
                try:
                    current[0].get_sync(min_ttl=1.0, timeout=5.0)
                except ManagerClosed:
                    pass
                except BaseException as error:  # noqa: BLE001 - kept for the test to judge
                    seen.append(error)

    threads = [threading.Thread(target=caller, daemon=True) for _ in range(4)]
    for one in threads:
        one.start()

    async def main():
        for _ in range(30):
            manager = TokenManager(lambda: ("token", 60.0))
            await manager.start()
            current[:] = [manager]
            await asyncio.sleep(0.005)
            await manager.aclose()

    asyncio.run(main())
    done.set()
    for one in threads:
        one.join(10.0)
    assert not [error for error in seen if not isinstance(error, ManagerClosed)]
