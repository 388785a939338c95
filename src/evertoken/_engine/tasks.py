"""Tools for tasks: a gate to wait at, calls with a strict time limit, and calls that did not end in time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import types
from typing import TYPE_CHECKING, Any, TypeVar, final

from evertoken._engine.observers import SHUTDOWN
from evertoken._model.failures import Overdue
from evertoken._model.guarded import Hidden

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from evertoken._model.protocols import Clock

__all__ = [
    "Gate",
    "Strays",
    "bounded",
    "cancelled_here",
    "must_propagate",
    "next_turn",
    "ring",
    "spawn",
    "to_its_end",
    "told_to_end",
]

T = TypeVar("T")


class Gate:
    """A place where tasks wait until it is woken, or for a number of seconds."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[None], None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, clock: Clock, seconds: float | None = None) -> bool:
        """
        Wait until woken, or for *seconds*. Return whether it was woken.

        A cancellation does not affect the other waiters.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiters[future] = None
        timer = None if seconds is None else clock.call_later(max(seconds, 0.0), ring, future)
        try:
            await future
            return future not in self._waiters
        finally:
            self._waiters.pop(future, None)
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Wake all waiters."""
        waiters, self._waiters = self._waiters, {}
        for future in waiters:
            ring(future)


@final
class Strays:
    """Calls that were cancelled but have not ended yet. They are held here so that they are not lost."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: asyncio.Task[Any], *, cancel: bool = True) -> None:
        """Hold *task* until it ends. With *cancel*, cancel it first."""
        if cancel:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self) -> set[asyncio.Task[Any]]:
        """Cancel all tasks that have not ended, and return them."""
        for task in self._tasks:
            task.cancel()
        return set(self._tasks)


async def bounded(call: Callable[[], Awaitable[T]], timeout: float, /, *, clock: Clock, strays: Strays, name: str) -> T:
    """
    Await *call* in a separate task, for at most *timeout* seconds.

    A call that ignores its cancellation is moved to *strays* and not awaited. So the limit always holds.

    Raises:
        Overdue: The call did not end in time.
        BaseException: The call raised it. It may be a CancelledError of its own. `cancelled_here` tells that from a
            cancellation of the caller.
    """
    loop = asyncio.get_running_loop()
    # The value is hidden, because asyncio's debug mode logs the result of a future.
    outcome: asyncio.Future[Hidden[tuple[T | None, BaseException | None]]] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if not outcome.done():
            outcome.set_result(Hidden((value, error)))

    async def carry() -> None:
        try:
            value = await call()
        except GeneratorExit as error:
            if loop.is_closed():
                # The call is dropped together with its loop, and so is its waiter.
                raise
            settle(None, error)
        except SHUTDOWN as error:
            settle(None, error)
            raise
        except BaseException as error:  # noqa: BLE001 - the caller judges it
            settle(None, error)
        else:
            settle(value, None)

    # The timer is made before the task, so that a clock that raises leaves no task behind.
    timer = clock.call_later(timeout, settle, None, Overdue())
    task = spawn(loop, carry(), name)
    # If the task is cancelled before its first step, carry() never runs, so this callback settles the outcome.
    task.add_done_callback(lambda _: settle(None, asyncio.CancelledError()))
    try:
        value, error = (await outcome).value
    finally:
        if not task.done():
            strays.add(task)
        timer.cancel()
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # no error, so there is a value


def spawn(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], name: str, /) -> asyncio.Task[T]:
    """Start *work* in a clean context, so that it does not inherit the trace or the locals of its first caller."""
    return loop.create_task(work, name=name, context=contextvars.Context())


async def to_its_end(work: Coroutine[Any, Any, T], name: str, held: set[asyncio.Task[Any]], /) -> T:
    """
    Return what *work* returns. It goes on in a task of its own, which *held* keeps, also if the caller is cancelled.

    Raises:
        BaseException: The work raised it. It is a CancelledError if the task of the work was cancelled.
    """
    task = spawn(asyncio.get_running_loop(), work, name)
    held.add(task)
    task.add_done_callback(held.discard)
    # If nobody waits any longer, nobody asks for the exception.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    await asyncio.wait({task})
    return task.result()


@types.coroutine
def next_turn() -> Generator[None, None, None]:
    """
    Wait for the next turn of the loop.

    With an eager task factory a task begins before its creator knows it, and the task may end a session.
    """
    yield


def cancelled_here(error: BaseException, /) -> bool:
    """Tell whether *error* is the cancellation of the running task, and not one that a call raised itself."""
    return isinstance(error, asyncio.CancelledError) and told_to_end()


def must_propagate(error: BaseException, /) -> bool:
    """Tell whether *error* ends the process or the running task. Then it is not a failure of the call."""
    return isinstance(error, (*SHUTDOWN, GeneratorExit)) or cancelled_here(error)


def told_to_end() -> bool:
    """Tell whether the running task was cancelled, even if it has caught the cancellation."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def ring(future: asyncio.Future[None]) -> None:
    """Wake the waiter of *future*."""
    if not future.done():
        # If its loop is closed, its waiter is gone too.
        with contextlib.suppress(RuntimeError):
            future.set_result(None)
