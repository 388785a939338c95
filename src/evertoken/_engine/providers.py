"""
Providers: when a fetch may start, and which one is next. All keys of one provider share its limits.

A waiting fetch has no task. So a burst of a hundred thousand due keys costs only a queue entry each. If the rate, a
pause or an outage decides, each provider has one timer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, final

from evertoken._engine.fetch_queue import FetchQueue
from evertoken._engine.supervisor import HORIZON, SLACK

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._engine.fetch_queue import Start, Turn
    from evertoken._engine.provider_book import ProviderBook
    from evertoken._model.protocols import Clock

__all__ = ["Limits"]

_NEVER: Final = float("inf")


@final
class Limits:
    """
    The queues of all providers in one session.

    If a running fetch waits for another flight, even through several managers, that flight is not queued. Otherwise a
    limit could be full of fetches that wait for queued ones, and nothing would move.

    Args:
        limit: The number of fetches that may run at once for a provider that states no number.

        book: The states of the providers.

        hurry: Seconds from the end of an attempt to the next one, while a provider is down and a caller asks.
    """

    __slots__ = ("_again", "_book", "_clock", "_hurry", "_limits", "limit")

    def __init__(self, limit: int, *, book: ProviderBook, clock: Clock, hurry: float) -> None:
        self.limit: int = limit
        self._book = book
        self._clock = clock
        self._hurry = hurry
        self._limits: dict[Hashable, FetchQueue] = {}
        # Flights that have begun, but wait for the quota of the fleet.
        self._again: set[asyncio.Future[None]] = set()

    @property
    def queued(self) -> int:
        """The number of flights that wait for their turn."""
        # It is copied to a list, because another thread may add or remove limits meanwhile.
        return sum(len(queue) for queue in list(self._limits.values()))

    # Waiting for a turn

    def enter(
        self,
        provider: Hashable,
        turn: Turn,
        start: Start,
        *,
        urgent: bool,
        counts: bool = True,
        left: float = _NEVER,
    ) -> None:
        """
        Call *start* now if the provider has room, or else when its turn has come.

        *start* returns False if there is nothing left to start, and then takes no place. A flight that waits already is
        only moved if it has become more urgent.

        Args:
            provider: The provider whose limits apply.

            turn: The flight.

            start: A function that starts the flight.

            urgent: Whether a caller waits for it.

            counts: Whether it asks the provider, and not only the store.

            left: Seconds after which it becomes urgent even without a caller.
        """
        queue = self._limits.get(provider)
        if queue is None:
            queue = self._limits[provider] = FetchQueue(self._book.of(provider))
        state = queue.state
        if urgent and counts and state.outage is not None:
            state.outage.hurried(self._hurry)
        first = self._has_room(queue) and not (queue.used and len(queue))
        if (first and (not counts or state.calm or self._opens_in(queue, urgent=urgent) <= SLACK)) or turn.is_inside():
            queue.discard(turn)
            self._begin(provider, queue, turn, start, counts=counts)
            return
        now = self._clock.monotonic()
        queue.put(turn, start, counts=counts, since=now if urgent else None, by=now + left)
        self._fill(provider, queue)

    def hurry(self, provider: Hashable) -> None:
        """
        A caller needs a token of *provider*. If the provider is down, the next attempt starts earlier than planned.
        """
        outage = self._book.of(provider).outage
        if outage is not None:
            outage.hurried(self._hurry)
            queue = self._limits.get(provider)
            if queue is not None:
                self._fill(provider, queue)

    def recheck(self, provider: Hashable) -> None:
        """Start a queued flight if a fetch that holds a place now waits for it."""
        queue = self._limits.get(provider)
        if queue is None:
            return
        for turn, start, counts in queue.turns():
            if turn.is_inside() and turn in queue:
                queue.discard(turn)
                self._begin(provider, queue, turn, start, counts=counts)

    async def place(self, provider: Hashable, turn: Turn) -> None:
        """Wait for a place and take it. It does not count as another fetch."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def start() -> bool:
            if begun.done():
                return False
            begun.set_result(None)
            return True

        self.enter(provider, turn, start, urgent=True, counts=False)
        try:
            await begun
        except BaseException:
            if begun.done() and not begun.cancelled():
                self.leave(provider)
            begun.cancel()
            raise

    async def again(self, provider: Hashable, turn: Turn, *, urgent: bool, left: float) -> None:
        """
        Wait for another turn and take a place, because the quota of the fleet was used up.

        Args:
            provider: The provider whose limits apply. *turn* holds a place there.

            turn: The flight.

            urgent: Whether a caller waits for it.

            left: Seconds after which it becomes urgent even without a caller.
        """
        queue = self._limits[provider]
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def start() -> bool:
            if begun.done():
                return False
            begun.set_result(None)
            return True

        now = self._clock.monotonic()
        counted, turn.counted = turn.counted, False
        queue.under_way -= counted
        queue.running -= 1
        queue.state.bucket.shut()
        queue.put_back(turn, start, since=now if urgent else None, by=now + left)
        self._again.add(begun)
        self._fill(provider, queue)
        try:
            await begun
        except BaseException:
            queue.discard(turn)
            if begun.done() and not begun.cancelled():
                self.leave(provider)
            begun.cancel()
            raise
        finally:
            self._again.discard(begun)

    def urge(self, provider: Hashable, turn: Turn) -> None:
        """A caller now waits for *turn*, which waits for another turn."""
        queue = self._limits.get(provider)
        if queue is not None:
            queue.urge(turn, self._clock.monotonic())
            self._fill(provider, queue)

    def leave(self, provider: Hashable) -> None:
        """Give the place of a flight to the next one."""
        queue = self._limits.get(provider)
        if queue is not None:
            queue.running -= 1
            # If a flight ended while it started, the loop that started it frees its place.
            self._fill(provider, queue)

    def ended(self, provider: Hashable, turn: Turn, *, asked: bool, placed: bool) -> None:
        """A flight has ended. *asked* tells whether it asked the provider, and *placed* whether it held a place."""
        queue = self._limits.get(provider)
        counted, turn.counted = turn.counted, False
        if queue is None:
            return
        queue.running -= placed
        if counted:
            queue.under_way -= 1
            if not asked:
                queue.state.bucket.give_back()
        self._fill(provider, queue)

    def clear(self) -> None:
        """Remove all waiting flights. From now on none waits for a rate."""
        for queue in self._limits.values():
            queue.clear()
        for begun in self._again:
            begun.cancel()
        self._book.closed()

    def asks(self, provider: Hashable, turn: Turn) -> None:
        """*turn* now asks the provider, although it was only a look at the store before."""
        queue = self._limits.get(provider)
        if not turn.counted and queue is not None:
            turn.counted = True
            queue.under_way += 1
            queue.state.bucket.take(self._clock.monotonic())

    def of(self, provider: Hashable) -> FetchQueue | None:
        """Return the queue of *provider*, if there is one."""
        return self._limits.get(provider)

    # How

    def _has_room(self, queue: FetchQueue) -> bool:
        limit = queue.state.limit
        most = self.limit if limit is None or limit.concurrency is None else limit.concurrency
        return queue.running < most and queue.running < queue.state.room

    def _opens_in(self, queue: FetchQueue, *, urgent: bool) -> float:
        now, wall = self._clock.monotonic(), self._clock.time()
        return queue.state.opens_in(now, wall, under_way=queue.under_way, urgent=urgent)

    def _begin(self, provider: Hashable, queue: FetchQueue, turn: Turn, start: Start, *, counts: bool) -> None:
        queue.running += 1
        if counts:
            turn.counted = True
            queue.under_way += 1
            if not queue.state.bucket.free:
                queue.state.bucket.take(self._clock.monotonic())
        if not start():
            self.ended(provider, turn, asked=False, placed=True)

    def _fill(self, provider: Hashable, queue: FetchQueue) -> None:
        if queue.filling:
            return
        queue.filling = True
        try:
            while queue.used and len(queue) and self._has_room(queue):
                look = queue.look()
                if look is not None:
                    self._begin(provider, queue, *look, counts=False)
                    continue
                found = queue.next(urgent=False)
                wait = self._wait(queue, found)
                if wait > SLACK and found is not None and not found[2]:
                    # The budget may only be used up for refreshes ahead of expiry.
                    found = queue.next(urgent=True)
                    wait = min(wait, self._wait(queue, found))
                if wait > SLACK or found is None:
                    self._arm(provider, queue, wait)
                    break
                queue.discard(found[0])
                self._begin(provider, queue, *found[:2], counts=True)
        finally:
            queue.filling = False
        if queue.running <= 0 and queue.under_way <= 0 and not len(queue) and self._limits.get(provider) is queue:
            queue.stop()
            del self._limits[provider]

    def _wait(self, queue: FetchQueue, found: tuple[Turn, Start, bool] | None) -> float:
        if found is None:
            return _NEVER
        return 0.0 if queue.state.calm else self._opens_in(queue, urgent=found[2])

    def _arm(self, provider: Hashable, queue: FetchQueue, wait: float) -> None:
        if wait == _NEVER:
            # The end of a fetch decides, so a timer would not help.
            return
        wait = min(wait, HORIZON)
        at = self._clock.monotonic() + wait
        if queue.timer is not None:
            if abs(queue.timer_at - at) < SLACK:
                return
            queue.stop()
        queue.timer_at = at
        queue.timer = self._clock.call_later(wait, self._rung, provider, queue)

    def _rung(self, provider: Hashable, queue: FetchQueue) -> None:
        queue.timer = None
        self._fill(provider, queue)
