"""Run a manager on an event loop in a separate thread, for programs without a loop."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["run_in_background"]

#: Seconds between two checks whether the program is about to end.
_WATCH: Final = 0.5

#: Seconds that the program's end waits for the manager to close.
_EXIT: Final = 15.0


class _Entered(Protocol):
    async def __aenter__(self) -> object: ...
    async def __aexit__(self, *_: object) -> object: ...


ManagerT = TypeVar("ManagerT", bound=_Entered)


@contextlib.contextmanager
def run_in_background(manager: ManagerT, /) -> Iterator[ManagerT]:
    """
    Run a manager on an event loop in a separate thread, for programs without a loop.

    Inside the block `manager.get_sync()`, `manager.peek()` and `httpx.Client(auth=manager.auth())` work from any
    thread. If the program ends inside the block, the manager is closed first. In a forked child the block ends at once.

    Args:
        manager: A `TokenManager` that is not started.

    Raises:
        TokenError: The manager could not be entered; the error is the one that it raised.
    """
    background = _Background(manager)
    background.start()
    try:
        yield manager
    finally:
        background.stop()


@final
class _Background:
    """The thread in which the manager and its loop run."""

    def __init__(self, manager: _Entered) -> None:
        self._manager = manager
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Future[None] | None = None
        self._entered = threading.Event()
        self._failure: BaseException | None = None
        # A daemon thread does not keep the program from ending. `_leave` closes the manager before that.
        self._thread = threading.Thread(target=self._run, name="evertoken:background", daemon=True)

    def start(self) -> None:
        """Enter the manager. Return after it has started."""
        self._thread.start()
        self._entered.wait()
        if self._loop is None:
            self._thread.join()
        else:
            atexit.register(self._leave)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def stop(self) -> None:
        """Leave the manager, and end the thread."""
        if self._pid != os.getpid():
            # The thread exists only in the parent process.
            return
        atexit.unregister(self._leave)
        self._tell_to_stop()
        self._thread.join()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _leave(self) -> None:
        if self._pid == os.getpid():
            self._tell_to_stop()
            self._thread.join(_EXIT)

    def _tell_to_stop(self) -> None:
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_end, stopping)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that started this one
            self._failure = error
        finally:
            self._entered.set()

    async def _leaving(self, *_: object) -> None:
        await self._manager.__aexit__(None, None, None)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        self._stopping = stopping = loop.create_future()
        async with contextlib.AsyncExitStack() as stack:
            await self._manager.__aenter__()
            stack.push_async_exit(self._leaving)
            self._loop = loop
            self._entered.set()
            main = threading.main_thread()
            while not stopping.done() and main.is_alive():
                # The threads of sources keep a program alive until their loop has ended.
                await asyncio.wait({stopping}, timeout=_WATCH)


def _end(stopping: asyncio.Future[None]) -> None:
    if not stopping.done():
        stopping.set_result(None)
