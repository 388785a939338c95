"""
Calls from other threads and loops: how they reach the session's loop, and when they stop waiting.

Token state is plain data that any thread may read. Code that starts or joins a fetch runs on the session's loop, so
calls from elsewhere are routed there. A call that cannot work raises an error. It never hangs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import ManagerClosed, TokenUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from evertoken._engine.session import Session

__all__ = ["call_elsewhere", "call_sync", "loop_lost", "running_loop"]

#: Seconds between two checks whether the session's loop still runs.
_WATCH: Final = 0.25

#: Seconds after which a loop that runs nothing counts as blocked.
_BLOCKED: Final = 5.0

#: Seconds that an answer may take from the session's loop to the caller, beyond the caller's own timeout.
_WAY: Final = 0.25

# This wait is for other threads. A virtual clock does not control their time.
_monotonic = SystemClock.monotonic

T = TypeVar("T")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running loop, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def call_elsewhere(
    session: Session,
    function: Callable[..., Coroutine[Any, Any, T]],
    arguments: tuple[Any, ...],
    timeout: float | None,
) -> T:
    """
    Await *function* on the loop of *session*, from another loop.

    Raises:
        ManagerClosed: The session was closed meanwhile.
        TokenUnavailable: *timeout* has passed, and the session's loop has not answered.
        RuntimeError: The session's loop ended, stopped or is blocked.
    """
    call = _Call(session, function, arguments, timeout)
    there = asyncio.wrap_future(call.done)
    try:
        while not there.done():
            await asyncio.wait({there}, timeout=_WATCH)
            if not there.done():
                call.check()
    except BaseException:
        call.cancel()
        there.cancel()
        raise
    return there.result()


def call_sync(
    session: Session,
    function: Callable[..., Coroutine[Any, Any, T]],
    arguments: tuple[Any, ...],
    timeout: float | None,
) -> T:
    """
    Do the same from a thread without a loop, which is blocked until the result is there.

    Raises:
        RuntimeError: It was called on the session's own loop, which it would block for ever.
    """
    if running_loop() is session.loop:
        msg = "blocking here would stop the manager's own event loop: await the async form instead"
        raise RuntimeError(msg)
    call = _Call(session, function, arguments, timeout)
    try:
        while True:
            try:
                return call.done.result(_WATCH)
            except concurrent.futures.TimeoutError:
                if call.done.done():
                    raise
                call.check()
    except BaseException:
        call.cancel()
        raise


@final
class _Call(Generic[T]):
    """One call that travels to the session's loop and back."""

    def __init__(
        self,
        session: Session,
        function: Callable[..., Coroutine[Any, Any, T]],
        arguments: tuple[Any, ...],
        timeout: float | None,
    ) -> None:
        self.done: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._session = session
        self._function = function
        self._arguments = arguments
        self._task: asyncio.Task[T] | None = None
        self._timeout = timeout
        self._asked_at = self._heard_at = _monotonic()
        self._post(self._begin)
        self._post(self._hear)

    def check(self) -> None:
        """Raise an error if no answer can come any longer."""
        now = _monotonic()
        if self._session.state == "closed":
            raise _gone(self._session)
        if self._session.is_lost():
            raise loop_lost()
        if self._timeout is not None and now - self._asked_at >= self._timeout + _WAY:
            msg = f"no valid token within {self._timeout:g} s: the manager's event loop is busy and has not answered"
            raise TokenUnavailable(msg)
        if now - self._heard_at >= _BLOCKED:
            msg = (
                f"the manager's event loop has run nothing for {_BLOCKED:g} s: it is blocked, perhaps by code that "
                "waits for this very call; await the async form there, or run the manager in a separate thread "
                "(run_in_background)"
            )
            raise RuntimeError(msg)
        self._post(self._hear)

    def cancel(self) -> None:
        """The caller stops waiting."""
        self.done.cancel()
        if self._task is not None:
            self._post(self._task.cancel)

    # How

    def _post(self, callback: Callable[[], object]) -> None:
        try:
            self._session.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            # The loop is closed. `check` reports that.
            return

    def _hear(self) -> None:
        self._heard_at = _monotonic()

    def _begin(self) -> None:
        if self.done.set_running_or_notify_cancel():
            self._task = self._session.loop.create_task(self._function(*self._arguments), name="evertoken:call")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[T]) -> None:
        if self.done.done():
            return
        if task.cancelled():
            # Its loop cancels all tasks when it ends. The caller itself was not cancelled.
            self.done.set_exception(_gone(self._session))
            return
        error = task.exception()
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(task.result())


def loop_lost() -> RuntimeError:
    """Return the error for callers if the session's loop has ended or stopped."""
    return RuntimeError(
        "the event loop on which the manager was started no longer runs: start it again on the running one"
    )


def _gone(session: Session) -> Exception:
    if session.state == "running":
        return RuntimeError("the event loop on which the manager was started is ending: start the manager again")
    return ManagerClosed("the manager was closed; enter it again to use it again")
