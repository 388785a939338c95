"""
The supervisor: one task that sleeps until the next deadline and hands out the items that are due.

It knows nothing about tokens or providers. It survives an item that raises, a clock that jumps, a machine that sleeps,
timers that fire early, and a crash of its own loop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

from evertoken._engine.deadlines import Deadlines, Due
from evertoken._engine.observers import SHUTDOWN, say
from evertoken._engine.tasks import next_turn, ring, spawn, told_to_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import Clock

__all__ = ["BEAT", "HORIZON", "SLACK", "STEP", "Supervisor"]

#: The longest time without a look at an item, in seconds. An item that was handed out gets this deadline first.
HORIZON: Final = 3600.0

#: The longest sleep, in seconds. A step of the wall clock is noticed within it.
BEAT: Final = 10.0

#: An item that is due within this many seconds is due now, because some loops fire timers half a millisecond early.
SLACK: Final = 0.005

#: The number of due items that are handed out before other tasks get their turn on the loop.
BATCH: Final = 500

#: A smaller divergence of the two clocks, in seconds, is slewing or rounding.
STEP: Final = 1.0

# Seconds to wait for the end of the task.
_STOP: Final = 1.0
_RESTART_FIRST: Final = 0.1
_RESTART_CAP: Final = 10.0

ItemT = TypeVar("ItemT", bound=Due)


@final
class Supervisor(Generic[ItemT]):
    """
    Hands out items at their deadlines, as long as the loop runs.

    Args:
        clock: The source of both clocks and of the timers.

        on_due: A function that is called with each due item. Its exceptions are logged.

        on_step: A function that is called with the seconds by which the wall clock stepped against the monotonic one.

        on_restart: A function that is called with the exception that crashed the loop, and the number of restarts.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_due: Callable[[ItemT], object],
        on_step: Callable[[float], object],
        on_restart: Callable[[BaseException, int], object],
    ) -> None:
        self.deadlines: Deadlines[ItemT] = Deadlines()
        self.restarts: int = 0
        self.last_beat: float | None = None
        self._beat_at = 0.0
        self.wakeups: int = 0
        self._clock = clock
        self._on_due = on_due
        self._on_step = on_step
        self._on_restart = on_restart
        #: By how much the wall clock was ahead of the monotonic one when they were last compared.
        self.offset: float | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._until = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether the task runs."""
        return self._task is not None and not self._task.done()

    @property
    def ended(self) -> bool:
        """Whether the task ran and has ended although `stop` was not called."""
        return self._task is not None and self._task.done()

    def silent_for(self) -> float:
        """Return the seconds since the last sign of life. Time in which the machine slept does not count."""
        return self._clock.monotonic() - self._beat_at

    def start(self) -> None:
        """Start the task, unless it runs."""
        if not self.alive:
            self._task = spawn(asyncio.get_running_loop(), self._main(), "evertoken:supervisor")

    async def stop(self) -> None:
        """End the task and wait for its end."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        # The wait is limited, because a task whose alarm was lost would never end.
        await asyncio.wait({task}, timeout=_STOP)

    def forget(self) -> list[asyncio.Task[None]]:
        """Forget the task of a loop that is gone, and return it."""
        task, self._task = self._task, None
        return [] if task is None else [task]

    def set(self, item: ItemT, instant: float, /) -> None:
        """Set the deadline of *item* to *instant* (epoch seconds), but not beyond the horizon."""
        instant = min(max(instant, 0.0), self._clock.time() + HORIZON)
        self.deadlines.set(item, instant)
        if instant < self._until:
            self.wake()

    def wake(self) -> None:
        """Look at the deadlines now."""
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    def compare_clocks(self) -> None:
        """
        Notice a step of the wall clock, and move all deadlines if it went back.

        A forward step and a suspended machine look alike, because the loop's clock stands still meanwhile. Both count
        as time that has passed: nothing is moved, and overdue items are due. After a step back the deadlines move too,
        so that an item with ten minutes left still has ten minutes left.
        """
        offset = self._clock.time() - self._clock.monotonic()
        before, self.offset = self.offset, offset if self.offset is None else self.offset
        if before is None or abs(offset - before) < STEP:
            return
        self.offset = offset
        by = offset - before
        if by < 0.0:
            self.deadlines.shift(by)
        # The supervisor may sleep until an instant of the old clock.
        self.wake()
        self._on_step(by)

    async def _main(self) -> None:
        await next_turn()
        while True:
            try:
                await self._run()
            except (*SHUTDOWN, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - a crash is reported and survived
                if told_to_end():
                    # The task was cancelled, and somebody waits for its end, so the exception does not matter.
                    return
                self.restarts += 1
                self._report(error)
                await _pause(min(_RESTART_CAP, _RESTART_FIRST * 2.0 ** min(self.restarts - 1, 10)))

    def _report(self, error: BaseException) -> None:
        try:
            self._on_restart(error, self.restarts)
        except SHUTDOWN:
            raise
        except BaseException as second:  # noqa: BLE001 - reporting must not end the task it reports on
            say(logging.ERROR, "the supervisor crashed with %s and could not report it", type(second).__qualname__)

    async def _run(self) -> None:
        while True:
            self.wakeups += 1
            self.compare_clocks()
            now = self._clock.time()
            self.last_beat, self._beat_at = now, self._clock.monotonic()
            for item in self.deadlines.hand_out(now + SLACK, now + HORIZON, BATCH):
                try:
                    self._on_due(item)
                except SHUTDOWN:
                    raise
                except BaseException as error:  # noqa: BLE001 - a broken item must not delay others
                    say(logging.ERROR, "a due item raised %s", type(error).__qualname__)
                    self.deadlines.set(item, now + BEAT)
            await self._sleep(min(self.deadlines.next(), now + BEAT), now)

    async def _sleep(self, until: float, now: float) -> None:
        self._alarm = alarm = asyncio.get_running_loop().create_future()
        self._until = until
        timer = self._clock.call_later(max(until - now, 0.0), ring, alarm)
        try:
            await alarm
        finally:
            self._alarm = None
            self._until = 0.0
            timer.cancel()


async def _pause(seconds: float) -> None:
    # This uses the loop's own timer, because the given clock may have caused the crash.
    loop = asyncio.get_running_loop()
    alarm = loop.create_future()
    timer = loop.call_later(seconds, ring, alarm)
    try:
        await alarm
    finally:
        timer.cancel()
