"""Threads for plain functions: a few for each function. They are daemons, so that a hung call blocks nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import weakref
from concurrent.futures import Executor, Future
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from evertoken._model.errors import TransientRefreshError
from evertoken._model.guarded import Hidden, cut

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["THREADS", "FunctionThreads", "threads_of"]

#: The number of threads that one function may have at a time.
THREADS: Final = 8

_Outcome: TypeAlias = tuple[Any, BaseException | None]


@final
class FunctionThreads(Executor):
    """
    At most `THREADS` daemon threads that run one function.

    A thread keeps its place until the function returns, even if nobody waits for the result. If all places are taken by
    such threads, a call fails at once. Otherwise it waits for the next free place.

    Args:
        function: The function to run.
    """

    def __init__(self, function: Callable[..., Any], /) -> None:
        self.function = function
        self.forget()

    def forget(self) -> None:
        """Forget all threads. A child process has none of them."""
        self._lock = threading.Lock()
        self._running = 0
        self._abandoned = 0
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    async def call(self, arguments: tuple[Any, ...], /, *, starting: Callable[[], object] | None = None) -> Any:
        """
        Call the function in a thread, with a copy of the context, and return its result.

        Args:
            arguments: The arguments of the call.

            starting: A function to call just before the start. If it raises, *function* is not called.

        Raises:
            TransientRefreshError: All places are taken by calls for which nobody waits any longer, or the system has no
                thread left.
        """
        await self._take()
        call = _Call(self, contextvars.copy_context(), arguments)
        try:
            if starting is not None:
                starting()
            # The loop starts the thread, so that a loop for tests knows of the work.
            waiting = asyncio.get_running_loop().run_in_executor(self, call.run)
        except BaseException:
            self.ended(call)
            raise
        try:
            outcome = await waiting
        except BaseException:
            self._abandon(call)
            raise
        value, error = outcome.value
        if error is None:
            return value
        try:
            raise cut(error)
        finally:
            del error

    def submit(self, run: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a thread. The loop calls this, because this object is an executor."""
        future: Future[Any] = Future()
        # The future counts as running from the start. Otherwise a cancellation by the loop would turn the result into
        # an error.
        future.set_running_or_notify_cancel()

        def work() -> None:
            result = run(*args, **kwargs)
            # The loop may have ended in the meantime.
            with contextlib.suppress(RuntimeError):
                future.set_result(result)

        thread = threading.Thread(target=work, name="evertoken function", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            failure = TransientRefreshError(f"no thread for the function: {error}")
        else:
            return future
        raise failure

    async def _take(self) -> None:
        while True:
            with self._lock:
                if self._running < THREADS:
                    self._running += 1
                    return
                if self._abandoned >= THREADS:
                    msg = (
                        f"all {THREADS} threads of the function still run calls that were given up after their "
                        "fetch_timeout; it is not called again before one of them returns"
                    )
                    raise TransientRefreshError(msg)
                loop = asyncio.get_running_loop()
                waiter = (loop, loop.create_future())
                self._waiting.append(waiter)
            try:
                await waiter[1]
            finally:
                with self._lock, contextlib.suppress(ValueError):
                    self._waiting.remove(waiter)

    def _abandon(self, call: _Call) -> None:
        with self._lock:
            if call.ended:
                return
            call.abandoned = True
            self._abandoned += 1
        self._wake()

    def ended(self, call: _Call) -> None:
        """Free the place of *call*."""
        with self._lock:
            call.ended = True
            self._running -= 1
            self._abandoned -= call.abandoned
        self._wake()

    def _wake(self) -> None:
        # All waiters are woken, because the loop of the first one may have stopped.
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for loop, waiter in waiting:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, waiter)


@final
class _Call:
    """One call of the function."""

    def __init__(self, threads: FunctionThreads, context: contextvars.Context, arguments: tuple[Any, ...]) -> None:
        self._threads = threads
        self._context = context
        self._arguments = arguments
        self.abandoned = False
        self.ended = False

    def run(self) -> Hidden[_Outcome]:
        """Call the function. Return its result and its error, because a future does not accept every exception."""
        try:
            # The value is hidden, because asyncio's debug mode logs the result that a slow callback receives.
            return Hidden((self._context.run(self._threads.function, *self._arguments), None))
        except BaseException as error:  # noqa: BLE001 - the waiting caller judges it
            return Hidden((None, error))
        finally:
            self._threads.ended(self)


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


_lock = threading.Lock()
_known: weakref.WeakValueDictionary[tuple[int, ...], FunctionThreads] = weakref.WeakValueDictionary()


def threads_of(function: Callable[..., Any], /) -> FunctionThreads:
    """Return the threads of *function*. All callers receive the same object."""
    # The key is the identity, because functions may not be hashable. A bound method is a new object at each access.
    bound = isinstance(function, MethodType)
    key = (id(function.__self__), id(function.__func__)) if bound else (id(function),)  # type: ignore[attr-defined]
    with _lock:
        found = _known.get(key)
        if found is None:
            # It keeps the function alive, so that no other object can get the same identity.
            found = _known[key] = FunctionThreads(function)
        return found


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - a thread of the parent may hold the old lock
    _lock = threading.Lock()
    for threads in list(_known.values()):
        threads.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
