"""
A flight: one shared fetch, its waiters, and the time limit of each of its steps.

Each waiter has its own future in a dict. Cancelling a waiter removes its future. That takes the same time for any
number of waiters, and does not affect the others. (A `shield` per waiter is quadratic when many are cancelled.)
"""

from __future__ import annotations

import asyncio
import types
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast, final

from evertoken._engine.tasks import Gate, told_to_end
from evertoken._model.coordination_rules import same_grant
from evertoken._model.failures import Overdue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Hashable

    from evertoken._engine.providers import Limits
    from evertoken._engine.read_files import ReadFiles
    from evertoken._model.fetch_request import FetchRequest
    from evertoken._model.key_state import KeyState
    from evertoken._model.leases import Quota
    from evertoken._model.protocols import Clock
    from evertoken._model.token import Token
    from evertoken._model.token_response import Response

__all__ = ["CANCEL_GRACE", "INSIDE", "LOOKS", "Flight", "Taken", "only_keeps"]

T = TypeVar("T")

#: The flight whose fetch is running the present code.
INSIDE: Final[ContextVar[Any]] = ContextVar("inside", default=None)

#: Reasons for a flight that only reconciles memory and store.
LOOKS: Final = frozenset({"peer", "repair"})

# If a timer fires this many seconds late, the process was suspended. It does not mean that the server was silent.
_LATE: Final = 0.5
# Then an answer that waits in a socket gets this many seconds to be read.
_READ: Final = 1.0
#: A cancelled call should end within this many seconds.
CANCEL_GRACE: Final = 1.0


class Taken(NamedTuple):
    """The quota from which a lease took something, and the period of the budget."""

    quota: Quota
    period: int | None


@final
class Flight(Gate):
    """
    One shared fetch and the callers that wait for it.

    It lands once. Waiters are only woken. Each of them then looks at `token` and `error`, so that each can raise its
    own exception.

    Args:
        reason: Why it was started. A caller that needs more than a look at the store changes it.

        after: The task of the flight that this one replaces. This flight waits for it before it does anything.

        decided: Whether it writes a person's decision, a login or a sign-out, to the store.

        limits: The limits in which it holds a place while it runs.
    """

    __slots__ = (
        "after",
        "began",
        "counted",
        "decided",
        "denied",
        "error",
        "files",
        "found",
        "generation",
        "kept",
        "landed",
        "limits",
        "name",
        "offset",
        "place",
        "provider",
        "reason",
        "request",
        "response",
        "shut",
        "since",
        "spends",
        "started",
        "started_at",
        "stuck",
        "taken",
        "task",
        "token",
        "tried",
        "urgent",
        "void",
        "waited_by",
    )

    def __init__(
        self,
        reason: str,
        *,
        after: asyncio.Task[Any] | None = None,
        decided: bool = False,
        limits: Limits | None = None,
    ) -> None:
        super().__init__()
        self.reason: str = reason
        self.after = after
        self.decided: bool = decided
        self.limits = limits
        #: Flights whose fetch waits for this one, for example if a source itself asks a manager.
        self.waited_by: set[Flight] | None = None
        #: True already before the task is known, because an eager task runs, and can be joined, before that.
        self.started: bool = False
        self.task: asyncio.Task[Any] | None = None
        #: A function to call if a step was cancelled but does not end.
        self.stuck: Callable[[], object] | None = None
        #: The name of the key in the store, once it is known.
        self.name: str | None = None
        #: The step of the store that it tried last, and may try again although the store is down.
        self.tried: str = ""
        #: The provider whose limits let it start, the one in which it holds a place, and whether it counts as a fetch.
        self.provider: Hashable = None
        self.place: Hashable = None
        self.counted: bool = False
        #: Whether a caller has asked for it, and whether it waits for the quota of the fleet.
        self.urgent: bool = False
        self.shut: bool = False
        #: The part of that quota that its lease took, until it is given back or used.
        self.taken: Taken | None = None
        #: A failure which shows for certain that the provider issued no token.
        self.denied: Exception | None = None
        #: The request to the source, its start (epoch seconds, and monotonic), and whether it may spend a refresh
        #: token.
        self.request: FetchRequest | None = None
        self.started_at: float = 0.0
        self.began: float = 0.0
        self.spends: bool = False
        #: The response, from the moment of its arrival, and whether the store has it.
        self.response: Response | None = None
        self.kept: bool = False
        #: Data for the record of a new token: the instant of its grant, and its generation.
        self.since: float = 0.0
        self.generation: int = 0
        #: By how much the wall clock was ahead of the monotonic one when the response arrived.
        self.offset: float = 0.0
        #: The token that the store had before, if the flight wrote a sign-out to the store.
        self.found: Token | None = None
        #: Whether another flight replaced it. Then its response is kept, but no waiter receives it.
        self.void: bool = False
        self.landed: bool = False
        self.token: Token | None = None
        self.error: Exception | None = None
        #: The files that its fetch has read, if it has read one.
        self.files: ReadFiles | None = None

    @property
    def sent(self) -> bool:
        """Whether its request was sent."""
        return self.request is not None and self.request.sent

    @property
    def irreplaceable(self) -> bool:
        """Whether it may receive, or has received, a refresh token that cannot be obtained again."""
        return self.response is not None or (self.sent and self.spends)

    def spends_what(self, token: Token | None) -> bool:
        """Tell whether its request was sent, and spends the refresh token of *token*."""
        if self.request is None or not self.sent or not self.spends or token is None:
            return False
        presented = self.request.current
        # If both have none, both present the one from the configuration.
        return same_grant(token, presented)

    def wanted_by(self, other: Flight) -> None:
        """
        The fetch of *other* waits for this flight. Flights that this one needs are then not queued behind *other*.
        """
        if other is self:
            return
        if self.waited_by is None:
            self.waited_by = set()
        self.waited_by.add(other)
        for waiting in self._all_waiting():
            if waiting.limits is not None and waiting.place is not None:
                waiting.limits.recheck(waiting.place)

    def is_inside(self) -> bool:
        """Tell whether a fetch that waits for it holds a place of the same limits."""
        return self.waited_by is not None and any(
            waiting.limits is self.limits and waiting.place is not None for waiting in self._all_waiting()
        )

    def _all_waiting(self) -> set[Flight]:
        found: set[Flight] = set()
        left: list[Flight] = [self]
        while left:
            for waiting in left.pop().waited_by or ():
                if waiting not in found:
                    found.add(waiting)
                    left.append(waiting)
        return found

    def leave_place(self) -> Hashable:
        """Give its place of the provider to the next flight. Return the provider; None if it held no place."""
        place, self.place = self.place, None
        if place is not None and self.limits is not None:
            self.limits.leave(place)
        return place

    def land(self, token: Token | None, error: Exception | None = None) -> None:
        """End the flight, and wake all its waiters."""
        if not self.landed:
            self.landed = True
            self.token = token
            self.error = error
            self.wake()

    async def step(
        self,
        call: Awaitable[T],
        seconds: float,
        clock: Clock,
        /,
        *,
        suspended: Callable[[], object] | None = None,
    ) -> T:
        """
        Await *call* in the running task of the flight, for at most *seconds*.

        If a timer is late, an answer that waits in the socket first gets time to be read. If *call* does not end after
        it was cancelled, `stuck` is called, and the flight ends without it. If *call* ends without suspending, as it
        does in memory, it needs no timer. For all other calls *suspended* is called.

        Raises:
            Overdue: The call did not end in time.
        """
        steps = call.__await__()
        try:
            waiting = next(steps)
        except StopIteration as done:
            return cast("T", done.value)
        bound = _Bound(self, asyncio.current_task(), seconds, clock)
        try:
            if suspended is not None:
                suspended()
            value = await _resumed(steps, waiting)
        except BaseException as error:
            if bound.close() and not (isinstance(error, asyncio.CancelledError) and told_to_end()):
                raise Overdue from None
            raise
        bound.close()
        return value


def only_keeps(state: KeyState, flight: Flight, now: float, /) -> bool:
    """Tell whether *flight* asks no provider, because it only reconciles memory and store."""
    if flight.reason in LOOKS:
        return True
    token = state.token
    if not state.withheld or token is None:
        return False
    # A withheld token comes into service once it is kept, so nothing needs to be fetched.
    return flight.reason not in {"forced", "min_ttl", "refused"} and token.valid_at(now)


@types.coroutine
def _resumed(steps: Generator[Any, Any, T], waiting: Any) -> Generator[Any, Any, T]:
    """Do what `yield from` does, for an awaitable that has already begun and is suspended at *waiting*."""
    try:
        while True:
            try:
                sent = yield waiting
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                waiting = steps.throw(error)
            else:
                waiting = steps.send(sent)
    except StopIteration as done:
        return cast("T", done.value)


@final
class _Bound:
    """The time limit of one step of a flight."""

    __slots__ = ("clock", "due", "fired", "flight", "task", "timer")

    def __init__(self, flight: Flight, task: asyncio.Task[Any] | None, seconds: float, clock: Clock) -> None:
        self.flight = flight
        self.task = task
        self.clock = clock
        self.fired = False
        self.due = clock.monotonic() + seconds
        self.timer = clock.call_later(seconds, self._late, min(_READ, seconds))

    def close(self) -> bool:
        """Stop the timer. Return whether it ended the step."""
        self.timer.cancel()
        if self.fired and self.task is not None:
            self.task.uncancel()
        return self.fired

    def _late(self, patience: float) -> None:
        # Wait at least one more round of the loop, so that an answer of this very moment is not lost.
        stood_still = self.clock.monotonic() - self.due > _LATE
        self.timer = self.clock.call_later(patience if stood_still else 0.0, self._fire)

    def _fire(self) -> None:
        self.fired = True
        if self.task is not None:
            self.task.cancel()
        if self.flight.stuck is not None:
            self.timer = self.clock.call_later(CANCEL_GRACE, self.flight.stuck)
