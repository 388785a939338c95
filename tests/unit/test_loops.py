"""Calls from other threads and loops: what ends the wait for an answer that cannot come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from evertoken import ManagerClosed, TokenUnavailable
from evertoken._engine import loops
from evertoken._engine.loops import call_elsewhere, call_sync


class Session:
    """As much of a session as a call sees, on a loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.state = "running"
        self.lost = False
        self.entered = threading.Event()
        self.cancelled = threading.Event()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def is_lost(self) -> bool:
        return self.lost or not self.loop.is_running()

    async def answer(self, value: Any) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    async def hang(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    def end(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


@pytest.fixture
def session(monkeypatch) -> Iterator[Session]:
    monkeypatch.setattr(loops, "_WATCH", 0.01)
    one = Session()
    yield one
    one.end()


def call(how: str, session: Any, function: Any, *arguments: Any, timeout: float | None = None) -> Any:
    """Call *function* from this thread, on a loop of its own or on none."""
    if how == "sync":
        return call_sync(session, function, arguments, timeout)
    return asyncio.run(call_elsewhere(session, function, arguments, timeout))


both = pytest.mark.parametrize("how", ["sync", "elsewhere"])


@both
def test_answers(session, how):
    """U5: what the function returns or raises on the session's loop reaches the caller on its own."""
    assert call(how, session, session.answer, "token") == "token"
    with pytest.raises(ValueError, match="boom"):
        call(how, session, session.answer, ValueError("boom"))
    # A TimeoutError of the function is no timeout of the wait.
    with pytest.raises(TimeoutError, match="its own"):
        call(how, session, session.answer, TimeoutError("its own"))


def closed(session: Session) -> None:
    session.state = "closed"


def lost(session: Session) -> None:
    session.lost = True


def stopped(session: Session) -> None:
    session.loop.call_soon_threadsafe(session.loop.stop)


def ended(session: Session) -> None:
    session.end()


def blocked(session: Session) -> None:
    session.loop.call_soon_threadsafe(session.cancelled.wait, 2.0)


def cancels_all(session: Session) -> None:
    def cancel() -> None:
        for task in asyncio.all_tasks(session.loop):
            task.cancel()

    session.loop.call_soon_threadsafe(cancel)


def closes_and_cancels_all(session: Session) -> None:
    session.state = "closing"
    cancels_all(session)


@both
@pytest.mark.parametrize(
    ("happens", "error", "says"),
    [
        (closed, ManagerClosed, "was closed"),
        (lost, RuntimeError, "no longer runs"),
        (stopped, RuntimeError, "no longer runs"),
        (ended, RuntimeError, "no longer runs"),
        (blocked, RuntimeError, "is blocked"),
        (cancels_all, RuntimeError, "is ending"),
        (closes_and_cancels_all, ManagerClosed, "was closed"),
    ],
)
def test_what_ends_the_wait(session, how, happens, error, says, monkeypatch):
    """U5, L1: a call whose answer cannot come raises what says why, and does not hang."""
    monkeypatch.setattr(loops, "_BLOCKED", 0.3 if happens is blocked else 30.0)

    def meddle() -> None:
        assert session.entered.wait(10.0)
        happens(session)

    meddling = threading.Thread(target=meddle)
    meddling.start()
    with pytest.raises(error, match=says):
        call(how, session, session.hang)
    session.cancelled.set()
    meddling.join()


@both
def test_a_timeout_ends_the_wait(session, how, monkeypatch):
    """R4: the bound of a caller holds where the session's loop has not answered, and its call is cancelled there."""
    monkeypatch.setattr(loops, "_WAY", 0.05)
    with pytest.raises(TokenUnavailable, match=r"within 0\.1 s: the manager's event loop is busy"):
        call(how, session, session.hang, timeout=0.1)
    assert session.cancelled.wait(10.0)


@pytest.mark.parametrize("began", [0.5, 1e6])
@pytest.mark.parametrize("timeout", [0.0, 0.5, 2.0])
def test_when_a_timeout_ends_the_wait(session, monkeypatch, timeout, began):
    """R4: a caller's timeout counts from the call, and an answer that is under way then has a moment more."""
    now = [began]
    monkeypatch.setattr(loops, "_monotonic", lambda: now[0])
    call = loops._Call(session, session.hang, (), timeout)
    now[0] = began + timeout + loops._WAY - 0.125
    call.check()
    now[0] = began + timeout + loops._WAY
    with pytest.raises(TokenUnavailable, match="busy"):
        call.check()
    assert session.entered.wait(10.0)
    call.cancel()
    assert session.cancelled.wait(10.0)


@both
def test_a_loop_that_is_closed(session, how):
    """L1: a call to a loop that is closed raises at once."""
    session.end()
    with pytest.raises(RuntimeError, match="no longer runs"):
        call(how, session, session.hang)


def test_a_caller_that_is_cancelled(session):
    """R3: a cancelled caller takes its call on the session's loop with it."""

    async def main() -> None:
        calling = asyncio.ensure_future(call_elsewhere(session, session.hang, (), None))
        await asyncio.to_thread(session.entered.wait, 10.0)
        calling.cancel()
        await asyncio.wait({calling})
        assert calling.cancelled()

    asyncio.run(main())
    assert session.cancelled.wait(10.0)


def test_the_sessions_own_loop_is_not_blocked(session):
    """U5: a blocking call on the session's own loop is refused, because it would wait for itself."""

    async def main() -> None:
        call_sync(session, session.answer, ("token",), None)

    with pytest.raises(RuntimeError, match="await the async form"):
        asyncio.run_coroutine_threadsafe(main(), session.loop).result(10.0)
