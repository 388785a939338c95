"""Tasks and waiting: a gate to wait at, calls with a bound that they cannot outlive, and what is left of those."""

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
    "told_to_end",
]

T = TypeVar("T")


class Gate:
    """A place to wait at, until woken or for a number of seconds."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[None], None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, clock: Clock, seconds: float | None = None) -> bool:
        """
        Wait until woken, or for that many seconds; tell whether it was woken.

        Cancelling this takes nothing from the others.
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
        """Wake all who wait."""
        waiters, self._waiters = self._waiters, {}
        for future in waiters:
            ring(future)


@final
class Strays:
    """Calls that were cancelled but have not ended yet, held so that they are not lost."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: asyncio.Task[Any], *, cancel: bool = True) -> None:
        """Hold *task* until it ends; with *cancel* cancel it before."""
        if cancel:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self) -> set[asyncio.Task[Any]]:
        """Cancel those that have not ended, and return them."""
        for task in self._tasks:
            task.cancel()
        return set(self._tasks)


async def bounded(call: Callable[[], Awaitable[T]], timeout: float, /, *, clock: Clock, strays: Strays, name: str) -> T:
    """
    Await *call* in a task of its own, for at most *timeout* seconds.

    A call that ignores its cancellation is left behind among the *strays* rather than waited for, so the bound
    holds whatever the call does.

    Raises:
        Overdue: It did not end in time.
        BaseException: Whatever the call raised, a CancelledError of its own included: the caller tells that from
            its own cancellation by `cancelled_here`.
    """
    loop = asyncio.get_running_loop()
    # Hidden, for asyncio's debug mode logs the result of a future.
    outcome: asyncio.Future[Hidden[tuple[T | None, BaseException | None]]] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if not outcome.done():
            outcome.set_result(Hidden((value, error)))

    async def carry() -> None:
        try:
            value = await call()
        except GeneratorExit as error:
            if loop.is_closed():
                # Dropped with its loop, and so is the one who waits.
                raise
            settle(None, error)
        except SHUTDOWN as error:
            settle(None, error)
            raise
        except BaseException as error:  # noqa: BLE001 - contained here, judged by the caller
            settle(None, error)
        else:
            settle(value, None)

    # Before the task, so that a clock that raises leaves none behind.
    timer = clock.call_later(timeout, settle, None, Overdue())
    task = spawn(loop, carry(), name)
    # Cancelled before its first step, the task never runs a line of carry().
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
    """Start *work* in a clean context: it must not inherit the trace or the locals of the caller that came first."""
    return loop.create_task(work, name=name, context=contextvars.Context())


@types.coroutine
def next_turn() -> Generator[None, None, None]:
    """
    Wait for the loop's next turn.

    With an eager task factory a task begins before the one who made it knows it, and what it does may end a session.
    """
    yield


def cancelled_here(error: BaseException, /) -> bool:
    """Tell whether *error* is the cancellation of the running task, and not one that a call raised by itself."""
    return isinstance(error, asyncio.CancelledError) and told_to_end()


def must_propagate(error: BaseException, /) -> bool:
    """Tell whether *error* ends the process, or the running task, and so is no failure of what was called."""
    return isinstance(error, (*SHUTDOWN, GeneratorExit)) or cancelled_here(error)


def told_to_end() -> bool:
    """Tell whether the running task was cancelled, whatever came of it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def ring(future: asyncio.Future[None]) -> None:
    """Wake the one who waits for *future*."""
    if not future.done():
        # Where its loop is closed, the one who waits is gone as well.
        with contextlib.suppress(RuntimeError):
            future.set_result(None)
