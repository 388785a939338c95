"""A flight: the bounds of its steps, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.gated import virtual

from evertoken import Token
from evertoken._engine.flight import Flight
from evertoken._model.failures import Overdue


class LateClock:
    """A clock by which the process stands still for *late* seconds at its first timer."""

    def __init__(self, clock: Any, late: float) -> None:
        self.clock = clock
        self.late = late

    def time(self) -> float:
        return float(self.clock.time())

    def monotonic(self) -> float:
        return float(self.clock.monotonic())

    def call_later(self, delay: float, callback: Any, *args: object) -> Any:
        late, self.late = self.late, 0.0
        return self.clock.call_later(delay + late, callback, *args)


async def after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


@virtual
@pytest.mark.parametrize("seconds", [0.0, 0.001, 1.0, 4.999])
async def test_in_time(clock, seconds):
    """F7: an answer within the deadline is returned, and no timer is left."""
    assert await Flight("due").step(after(seconds), 5.0, clock) == "answer"
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    assert not [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]


@virtual
@pytest.mark.parametrize("seconds", [5.1, 1e6])
async def test_too_late(clock, seconds):
    """F7: a call that is not answered by the deadline ends then, and the task is not cancelled by it."""
    begun = clock.monotonic()
    with pytest.raises(Overdue):
        await Flight("due").step(after(seconds), 5.0, clock)
    assert clock.monotonic() - begun == pytest.approx(5.0, abs=0.01)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    await asyncio.sleep(0)


@virtual
async def test_at_the_very_deadline(clock):
    """T2: an answer that comes in the very round of the deadline is not thrown away."""
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    # The timer of the step, which is armed first, fires first.
    begun = clock.monotonic()
    step = asyncio.ensure_future(Flight("due").step(answer, 5.0, clock))
    await asyncio.sleep(0)
    loop.call_at(loop.time() + 5.0, answer.set_result, "answer")
    assert await step == "answer"
    assert clock.monotonic() - begun == pytest.approx(5.0, abs=0.01)


@virtual
@pytest.mark.parametrize(
    ("late", "arrives", "answered"),
    [(0.0, 0.5, False), (0.4, 0.5, False), (30.0, 0.0, True), (30.0, 0.5, True), (30.0, 0.9, True), (30.0, 1.5, False)],
)
async def test_a_late_timer(clock, late, arrives, answered):
    """T2: after a standstill an answer that waits in the socket has a second to be read, before it counts as late."""
    step = asyncio.ensure_future(Flight("due").step(after(5.0 + late + arrives), 5.0, LateClock(clock, late)))
    await asyncio.wait({step})
    if answered:
        assert step.result() == "answer"
    else:
        assert isinstance(step.exception(), Overdue)


@virtual
@pytest.mark.parametrize("ends", ["raises", "returns", "cancelled"])
async def test_a_call_that_meets_its_cancellation(clock, ends):
    """
    F7: a call may handle the cancellation at its deadline in any way: a late answer is taken, all else is overdue.
    """

    async def call() -> str:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            if ends == "raises":
                raise OSError from None
            if ends == "cancelled":
                raise
        return "late answer"

    step = asyncio.ensure_future(Flight("due").step(call(), 5.0, clock))
    await asyncio.wait({step})
    if ends == "returns":
        assert step.result() == "late answer"
    else:
        assert isinstance(step.exception(), Overdue)
    assert not step.cancelling()


@virtual
async def test_a_call_that_swallows_its_cancellation(clock):
    """F7: a call that does not end when it is cancelled is reported a second later, and once."""
    flight, stuck = Flight("due"), list[float]()
    flight.stuck = lambda: stuck.append(clock.monotonic() - begun)

    async def call() -> str:
        while clock.monotonic() - begun < 100.0:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                continue
        return "much later"

    begun = clock.monotonic()
    step = asyncio.ensure_future(flight.step(call(), 5.0, clock))
    await clock.advance(60.0)
    assert not step.done()
    assert stuck == [pytest.approx(6.0, abs=0.01)]
    await clock.advance(60.0)
    step.cancel()
    assert await step == "much later"
    assert len(stuck) == 1


@virtual
@pytest.mark.parametrize("at", [1.0, 5.5])
async def test_cancelled_from_outside(clock, at):
    """R3: a cancellation from outside is one, also after the deadline has passed."""

    async def call() -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            await asyncio.sleep(1.0)
            raise

    step = asyncio.ensure_future(Flight("due").step(call(), 5.0, clock))
    await clock.advance(at)
    step.cancel()
    await asyncio.wait({step})
    assert step.cancelled()


@virtual
@pytest.mark.parametrize("error", [ValueError("boom"), asyncio.CancelledError(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("seconds", [0.0, 1.0])
async def test_what_a_call_raises(clock, error, seconds):
    """F5: what a call raises by itself comes through as it is, at once or later."""

    async def call() -> None:
        if seconds:
            await asyncio.sleep(seconds)
        raise error

    with pytest.raises(type(error)) as caught:
        await Flight("due").step(call(), 5.0, clock)
    assert caught.value is error or isinstance(error, asyncio.CancelledError)


@virtual
async def test_it_lands_once(clock):
    """R3: a flight lands once and wakes all waiters. Later results change nothing."""
    flight, token = Flight("due"), Token("t", issued_at=clock.time())
    waiting = [asyncio.ensure_future(flight.wait(clock)) for _ in range(100)]
    await asyncio.sleep(0)
    assert len(flight) == 100
    for task in waiting[::2]:
        task.cancel()
    await asyncio.sleep(0)
    assert len(flight) == 50
    flight.land(token)
    flight.land(None, ValueError())
    await asyncio.wait(waiting)
    assert (flight.landed, flight.token, flight.error, len(flight)) == (True, token, None, 0)
    assert [task.cancelled() for task in waiting] == [True, False] * 50
