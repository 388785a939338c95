"""
A flight: one shared fetch, its waiters, and the bounds of each step that it takes.

Each waiter has a future of its own in a dict. Cancelling a waiter takes its future out, which costs the same for any
number of waiters and touches none of the others (a `shield` per waiter is quadratic when many are cancelled).
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
    from evertoken._model.fetch_request import FetchRequest
    from evertoken._model.key_state import KeyState
    from evertoken._model.leases import Quota
    from evertoken._model.protocols import Clock
    from evertoken._model.token import Token
    from evertoken._model.token_response import Response

__all__ = ["CANCEL_GRACE", "INSIDE", "LOOKS", "Flight", "Taken", "only_keeps"]

T = TypeVar("T")

#: The flight within whose fetch the running code stands.
INSIDE: Final[ContextVar[Any]] = ContextVar("inside", default=None)

#: Reasons for a flight that only brings memory and store together.
LOOKS: Final = frozenset({"peer", "repair"})

# A timer that fires later than this (seconds) says that the process stood still, and not that nobody answered.
_LATE: Final = 0.5
# How long an answer that may wait in a socket is then given to be read, in seconds.
_READ: Final = 1.0
#: Seconds in which what was cancelled should have ended.
CANCEL_GRACE: Final = 1.0


class Taken(NamedTuple):
    """What a lease took: of which quota, and in which period of the budget."""

    quota: Quota
    period: int | None


@final
class Flight(Gate):
    """
    One shared fetch and the callers that wait for it.

    It lands once. Waiters are only woken: each one looks at `token` and `error` itself, so that each can raise an
    exception of its own.

    Args:
        reason: Why it was started. A caller that needs more than a look at the store changes it.

        after: The task of the flight that this one replaces. It is waited for before anything is done.

        decided: Whether it brings to the store what a person decided: a login or a sign-out.

        limits: Where it holds a place while it runs.
    """

    __slots__ = (
        "after",
        "began",
        "counted",
        "decided",
        "denied",
        "error",
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
        #: Flights whose fetch waits for this one, as where a source asks a manager in turn.
        self.waited_by: set[Flight] | None = None
        #: Before there is a task: an eager one runs, and may be joined, before it is known.
        self.started: bool = False
        self.task: asyncio.Task[Any] | None = None
        #: Called where a step does not end although it was cancelled.
        self.stuck: Callable[[], object] | None = None
        #: The key's name in the store, once it was asked for.
        self.name: str | None = None
        #: The provider whose limits it was let through by, and of which it holds a place; and whether as a fetch.
        self.provider: Hashable = None
        self.place: Hashable = None
        self.counted: bool = False
        #: Whether a caller has asked for it, and whether it waits for the quota of the fleet.
        self.urgent: bool = False
        self.shut: bool = False
        #: What its lease took of that quota, until it is given back or used.
        self.taken: Taken | None = None
        #: The failure by which its provider issued nothing, for certain.
        self.denied: Exception | None = None
        #: What its source was asked, when (epoch seconds, and monotonic), and whether that may spend a refresh token.
        self.request: FetchRequest | None = None
        self.started_at: float = 0.0
        self.began: float = 0.0
        self.spends: bool = False
        #: What was received, from the moment of its arrival; and whether the store has it.
        self.response: Response | None = None
        self.kept: bool = False
        #: What the record says of a token that is received: since when its grant is, and its generation.
        self.since: float = 0.0
        self.generation: int = 0
        #: By how much the wall clock was ahead of the monotonic one when the response was received.
        self.offset: float = 0.0
        #: The token that the store had before, where the flight brought a sign-out to it.
        self.found: Token | None = None
        #: Replaced by another flight: what it receives is kept, and nobody is told.
        self.void: bool = False
        self.landed: bool = False
        self.token: Token | None = None
        self.error: Exception | None = None

    @property
    def sent(self) -> bool:
        """Whether its request left."""
        return self.request is not None and self.request.sent

    @property
    def irreplaceable(self) -> bool:
        """Whether it may receive, or has received, a refresh token that cannot be had again."""
        return self.response is not None or (self.sent and self.spends)

    def spends_what(self, token: Token | None) -> bool:
        """Tell whether its request has left, and spends the refresh token of *token*."""
        if self.request is None or not self.sent or not self.spends or token is None:
            return False
        presented = self.request.current
        # None for both: the one from the configuration.
        return same_grant(token, presented)

    def wanted_by(self, other: Flight) -> None:
        """The fetch of *other* waits for this flight. What this one waits for in turn is not queued behind *other*."""
        if other is self:
            return
        if self.waited_by is None:
            self.waited_by = set()
        self.waited_by.add(other)
        for waiting in self._all_waiting():
            if waiting.limits is not None and waiting.place is not None:
                waiting.limits.recheck(waiting.place)

    def is_inside(self) -> bool:
        """Tell whether a fetch waits for it that holds a place of the same limits."""
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

    def land(self, token: Token | None, error: Exception | None = None) -> None:
        """End it, and wake all who wait."""
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
        Await *call* in the running task, which is the flight's, for at most *seconds*.

        A late timer first gives an answer that waits in the socket the time to be read. A call that does not end when
        it is cancelled is reported to `stuck`, and the flight ends without it. A call that ends without being
        suspended, as in memory, needs no timer; *suspended* is called for all others.

        Raises:
            Overdue: It did not end in time.
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
    """Tell whether *flight* asks no provider, because it only brings memory and store together."""
    if flight.reason in LOOKS:
        return True
    token = state.token
    if not state.withheld or token is None:
        return False
    # What is held back comes into service once it is kept: nothing else has to be fetched.
    return flight.reason not in {"forced", "min_ttl", "refused"} and token.valid_at(now)


@types.coroutine
def _resumed(steps: Generator[Any, Any, T], waiting: Any) -> Generator[Any, Any, T]:
    """Do what `yield from` does for an awaitable that was begun already, and is suspended at *waiting*."""
    try:
        while True:
            try:
                sent = yield waiting
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 - passed on to where it is awaited
                waiting = steps.throw(error)
            else:
                waiting = steps.send(sent)
    except StopIteration as done:
        return cast("T", done.value)


@final
class _Bound:
    """The deadline of one step of a flight."""

    __slots__ = ("clock", "due", "fired", "flight", "task", "timer")

    def __init__(self, flight: Flight, task: asyncio.Task[Any] | None, seconds: float, clock: Clock) -> None:
        self.flight = flight
        self.task = task
        self.clock = clock
        self.fired = False
        self.due = clock.monotonic() + seconds
        self.timer = clock.call_later(seconds, self._late, min(_READ, seconds))

    def close(self) -> bool:
        """End it, and tell whether it had ended the step."""
        self.timer.cancel()
        if self.fired and self.task is not None:
            self.task.uncancel()
        return self.fired

    def _late(self, patience: float) -> None:
        # One more round of the loop at least: an answer of this very moment is not thrown away.
        stood_still = self.clock.monotonic() - self.due > _LATE
        self.timer = self.clock.call_later(patience if stood_still else 0.0, self._fire)

    def _fire(self) -> None:
        self.fired = True
        if self.task is not None:
            self.task.cancel()
        if self.flight.stuck is not None:
            self.timer = self.clock.call_later(CANCEL_GRACE, self.flight.stuck)
