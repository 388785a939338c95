"""
Other threads, other loops, other processes: where a manager lives, and how to reach it from elsewhere.

Token state is plain data that any thread may read. Whatever starts or joins a fetch runs on the loop that entered
the manager; callers elsewhere are routed there. What cannot work raises; it never hangs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, final

import anyio.from_thread

from evertoken._model.errors import ManagerClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["Home", "run_in_background"]

#: Seconds between two looks at whether the manager's loop still runs.
_WATCH: Final = 0.5

T = TypeVar("T")

_homes: weakref.WeakSet[Home] = weakref.WeakSet()


@final
class Home:
    """
    The process, thread and loop a manager runs on.

    Args:
        on_fork: Called in a forked child, where no supervisor runs.
    """

    def __init__(self, on_fork: Callable[[], object]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._left = False
        self._pid = 0
        self._on_fork = on_fork

    @property
    def lost(self) -> bool:
        """
        Whether it was settled in another process, or on a loop that is closed.
        """
        return self.loop is not None and (self.forked_away or self.loop.is_closed())

    @property
    def forked_away(self) -> bool:
        """
        Whether it was settled in another process.
        """
        return self._pid != os.getpid()

    def settle(self) -> None:
        """
        Live on the running loop.
        """
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        _homes.add(self)

    def leave(self) -> None:
        """
        Live nowhere.
        """
        self.loop = None
        self._left = True
        _homes.discard(self)

    def check(self) -> asyncio.AbstractEventLoop:
        """
        Return the loop.

        Raises:
            ManagerClosed: The manager was closed.
            RuntimeError: The manager was not started, was started before a fork, or its loop no longer runs.
        """
        if self.loop is None and self._left:
            msg = "the manager is closed; enter it again to use it again"
            raise ManagerClosed(msg)
        if self.loop is None:
            msg = "the manager is not started: use `async with manager:` or `await manager.start()`"
            raise RuntimeError(msg)
        if self.forked_away:
            msg = (
                f"the manager was started in process {self._pid} and this is its fork {os.getpid()}, where no "
                f"supervisor runs: start a manager after the fork"
            )
            raise RuntimeError(msg)
        if self.loop.is_closed() or not self.loop.is_running():
            msg = "the event loop on which the manager was started no longer runs: start it again on the running one"
            raise RuntimeError(msg)
        return self.loop

    def elsewhere(self) -> bool:
        """
        Whether the running loop is another than the manager's.
        """
        return asyncio.get_running_loop() is not self.loop

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], /, *arguments: Any) -> Coroutine[Any, Any, T]:
        """
        Return *function* as called on the manager's own loop, to be awaited wherever this is called.
        """
        loop = self.check()
        # No coroutine around it: ten thousand waiters pay for each frame when they are cancelled.
        return (
            function(*arguments) if asyncio.get_running_loop() is loop else self._elsewhere(loop, function, arguments)
        )

    async def _elsewhere(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Coroutine[Any, Any, T]],
        arguments: tuple[Any, ...],
    ) -> T:
        there = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(*arguments), loop))
        try:
            while not there.done():
                await asyncio.wait({there}, timeout=_WATCH)
                if not there.done():
                    self.check()
        except BaseException:
            there.cancel()
            raise
        return there.result()

    def call_sync(self, function: Callable[..., Coroutine[Any, Any, T]], /, *arguments: Any) -> T:
        """
        The same for callers without a loop; it blocks their thread.

        Raises:
            RuntimeError: It was called on the manager's own loop, which it would block for ever.
        """
        loop = self.check()
        if _running_loop() is loop:
            msg = "blocking here would stop the manager's own event loop: await the async form instead"
            raise RuntimeError(msg)
        there = asyncio.run_coroutine_threadsafe(function(*arguments), loop)
        try:
            while True:
                try:
                    return there.result(_WATCH)
                except concurrent.futures.TimeoutError:
                    if there.done():
                        raise
                    self.check()
        except BaseException:
            there.cancel()
            raise

    def forked(self) -> None:
        """
        This is a forked child.
        """
        self._on_fork()


class _Entered(Protocol):
    async def __aenter__(self) -> object: ...
    async def __aexit__(self, *_: object) -> object: ...


ManagerT = TypeVar("ManagerT", bound=_Entered)


@contextlib.contextmanager
def run_in_background(manager: ManagerT, /) -> Iterator[ManagerT]:
    """
    Run a manager on an event loop in a thread of its own, for programs that have none.

    Inside the block `manager.get_sync()`, `manager.peek()` and `httpx.Client(auth=manager.auth())` work from any
    thread.

    Args:
        manager: A `TokenManager` that is not started.

    Raises:
        TokenError: Whatever entering the manager raises.
    """
    with (
        anyio.from_thread.start_blocking_portal(name="evertoken:background") as portal,
        portal.wrap_async_context_manager(_Wrapped(manager)),
    ):
        yield manager


@final
class _Wrapped(contextlib.AbstractAsyncContextManager[None]):
    def __init__(self, manager: _Entered) -> None:
        self._manager = manager

    async def __aenter__(self) -> None:
        await self._manager.__aenter__()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._manager.__aexit__(*exc_info)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _after_fork() -> None:
    for home in list(_homes):
        home.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
