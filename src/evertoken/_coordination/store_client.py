"""
The calls of one manager to its store. Each has a time limit, and none of them raises.

A store may be down, slow or wrong at any step. Observers are told of that, and the caller receives None.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

from evertoken._engine.tasks import bounded, must_propagate, ring
from evertoken._model import timing_events
from evertoken._model.identity import digest_of, identity_of
from evertoken._model.redaction import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence

    from evertoken._engine.flight import Flight
    from evertoken._engine.session import Session
    from evertoken._model.batch_store import BatchStore
    from evertoken._model.key_state import KeyState
    from evertoken._model.leases import Quota, Unused
    from evertoken._model.protocols import Begun, BulkStore, Lease, Record, TokenStore
    from evertoken._model.quota_store import QuotaStore

__all__ = ["NO_NAME", "STORE_TIMEOUT", "StoreClient", "key_of", "store_key"]

#: Seconds that a step of the store may take.
STORE_TIMEOUT: Final = 5.0

#: Steps that may be under way at once, for all keys. Stores have fewer connections than that.
MOST_STEPS: Final = 64

#: Seconds within which a store reports a write.
_TOLD_WITHIN: Final = 1.0

#: Returned in place of a key for names that belong to another manager.
NO_NAME: Final = object()

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))

T = TypeVar("T")


def store_key(namespace: str | None, key: Hashable, identity: str | None = None, /) -> str:
    """
    Return the name of the record of *key* in a store.

    Different namespaces, different keys (as `check_key` accepts them) and different identities never share a name,
    because none of them contains half a surrogate pair. The name is ASCII, so that no store treats two names as equal
    by the rules of a language. An empty namespace counts as no namespace.
    """
    parts: list[Any] = [namespace or "", key]
    if identity is not None:
        parts.append(digest_of(identity))
    return _ENCODER.encode(parts)


def key_of(namespace: str, name: str, /) -> Hashable:
    """
    Return the key of the record *name*, or `NO_NAME` if it is in another namespace.

    This is the reverse of `store_key`. The key of a single source is None.
    """
    try:
        # The digest of an identity may follow.
        found, key, *_ = json.loads(name)
    except (ValueError, TypeError):
        return NO_NAME
    return _hashable(key) if found == namespace else NO_NAME


@final
class StoreClient:
    """
    A store as the refresh path uses it.

    Args:
        namespace: Separates the keys of this manager from others in the same store.
    """

    def __init__(self, store: TokenStore, namespace: str | None, session: Session) -> None:
        self.store = store
        self._namespace = namespace
        self._session = session
        self._clock = session.clock
        self._observers = session.observers
        self._outage = session.store_outage
        self._strays = session.strays
        #: The last failure of the store.
        self.failure = ""
        # The numbers of running and of finished steps, and the flights that wait for a place.
        self._running = self._ended = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        # Own writes that the store has not reported yet, and until when that is expected, by the monotonic clock.
        self._own: dict[str, tuple[int, float]] = {}
        # A watch that reports all writes from now on, or None.
        self._watch: object | None = None

    def name_of(self, state: KeyState, flight: Flight) -> str:
        """Return the name of the record of *state*. It is made once per flight."""
        if flight.name is None:
            flight.name = store_key(self._namespace, state.key, identity_of(state.source))
        return flight.name

    @property
    def keeps_quotas(self) -> bool:
        """Whether the store keeps the rates and budgets of providers for all members."""
        return getattr(self.store, "keeps_quotas", False) is True

    def quota_name(self, provider: str) -> str:
        """Return the name of the quota of *provider*. No record has this name, because `store_key` makes a list."""
        return f"quota{store_key(self._namespace, provider)}"

    @property
    def takes_many(self) -> bool:
        """Whether the store can write many new records in one step."""
        return callable(getattr(self.store, "add_many", None))

    def is_own_notice(self, name: str) -> bool:
        """Tell whether a report of the store only concerns an own write. Each write is reported once."""
        count, until = self._own.pop(name, (0, 0.0))
        if count == 0 or self._clock.monotonic() > until:
            return False
        if count > 1:
            self._own[name] = count - 1, until
        return True

    def hears(self, *, watching: bool) -> None:
        """A watch reports all writes from now on, even if it missed earlier ones. Or it has ended."""
        self._own.clear()
        self._watch = object() if watching else None
        if watching:
            self._outage.heard()

    async def begin(  # noqa: PLR0917 - a lease has these parts
        self, state: KeyState, flight: Flight, owner: str, ttl: float, timeout: float, quota: Quota | None = None
    ) -> Begun | None:
        """Ask for the lease with its part of *quota*, and for the record."""
        name = self.name_of(state, flight)

        def begin() -> Awaitable[Begun]:
            if quota is None:
                return self.store.begin(name, owner, ttl)
            return cast("QuotaStore", self.store).begin(name, owner, ttl, quota=quota)

        begun = await self._step("begin", state, flight, begin, timeout)
        if begun is not None and not self._is_of(begun.record, name):
            self._mixed_up("begin", state)
            return None
        return begun

    async def read(self, state: KeyState, flight: Flight) -> tuple[Record | None] | None:
        """Return the record, or None if there is no record, in a tuple."""
        name = self.name_of(state, flight)

        async def read() -> tuple[Record | None]:
            return (await self.store.read(name),)

        found = await self._step("read", state, flight, read)
        if found is not None and not self._is_of(found[0], name):
            self._mixed_up("read", state)
            return None
        return found

    async def read_many(self, held: Sequence[tuple[KeyState, Flight]]) -> Mapping[str, Record] | None:
        """Return the records of those keys that have one, or None if one cannot be read."""

        async def read() -> Mapping[str, Record]:
            names = [self.name_of(state, flight) for state, flight in held]
            found: Mapping[str, Record] = await cast("BulkStore", self.store).read_many(names)
            if not all(self._is_of(found.get(name), name) for name in names):
                msg = "the store returned a record of another key"
                raise LookupError(msg)
            return found

        return await self.outside("read", None, read)

    async def mark(self, state: KeyState, flight: Flight, record: Record, lease: Lease) -> bool | None:
        """Keep *record* and the lease. Return False if the lease or the version is outdated."""
        step = self._step("mark", state, flight, lambda: self.store.mark(record, lease))
        return await self._write(record.key, step)

    async def commit(
        self, state: KeyState, flight: Flight, record: Record, lease: Lease, timeout: float
    ) -> bool | None:
        """Keep *record* and end the lease. Return False if the lease or the version is outdated."""
        step = self._step("commit", state, flight, lambda: self.store.commit(record, lease), timeout)
        return await self._write(record.key, step)

    async def add_many(self, records: Sequence[Record]) -> list[bool]:
        """Keep the new ones of *records*, if the store can do that in one step. Return which were kept."""
        if not self.takes_many or not records:
            return [False] * len(records)
        store: BatchStore = self.store  # type: ignore[assignment]  # checked above
        kept = await self.outside("write", None, partial(store.add_many, records))
        return [False] * len(records) if kept is None else kept

    async def abandon(self, state: KeyState, flight: Flight, lease: Lease, unused: Unused | None = None) -> bool:
        """Give the lease back, and the *unused* part of its quota. Return whether the store accepted that."""

        async def abandon() -> bool:
            if unused is None:
                await self.store.abandon(lease)
            else:
                await cast("QuotaStore", self.store).abandon(lease, unused=unused)
            return True

        return await self._step("abandon", state, flight, abandon) is True

    async def outside(self, operation: str, state: KeyState | None, call: Callable[[], Awaitable[T]]) -> T | None:
        """Make a call that belongs to no flight: open, close, renew."""
        began = self._clock.monotonic()
        try:
            answer = await bounded(
                call, STORE_TIMEOUT, clock=self._clock, strays=self._strays, name=f"evertoken:store:{operation}"
            )
        except BaseException as error:
            if must_propagate(error):
                raise
            self.failed(operation, error, state, self._clock.monotonic() - began)
            return None
        self._outage.succeeded(operation)
        return answer

    def failed(self, operation: str, error: BaseException, state: KeyState | None = None, took: float = 0.0) -> None:
        """Tell the observers that *operation* failed after *took* seconds, and how."""
        token = None if state is None else state.token
        said = describe(error, () if token is None else (token.access_token, token.refresh_token))
        key = None if state is None else state.key
        self.failure = said
        self._outage.failed(operation, key, said, took)

    async def _step(
        self,
        operation: str,
        state: KeyState,
        flight: Flight,
        call: Callable[[], Awaitable[T]],
        timeout: float = STORE_TIMEOUT,
    ) -> T | None:
        # Imports, the decision of a person and the last offer of a close are tried in any case.
        bound = flight.started and not flight.decided and self._session.running
        if (
            bound
            and flight.tried != operation
            and not self._outage.lets_through(operation)
            # A key without a token needs the store now, and a try that fails at once holds nobody up.
            and (self._outage.is_slow(operation) or state.in_service(self._clock.time()) is not None)
        ):
            return None
        flight.tried = operation
        if self._running >= MOST_STEPS and not await self._place():
            self.failed(operation, TimeoutError("no step of the store has ended in time"), state, STORE_TIMEOUT)
            return None
        self._running += 1
        began = self._clock.monotonic()
        try:
            answer = await flight.step(call(), timeout, self._clock)
        except BaseException as error:
            if must_propagate(error):
                raise
            self.failed(operation, error, state, self._clock.monotonic() - began)
            return None
        else:
            self._ended += 1
            self._outage.succeeded(operation)
            if self._observers.listens_to(timing_events.StoreUsed):
                at, took = self._clock.time(), self._clock.monotonic() - began
                self._observers.emit(timing_events.StoreUsed(at=at, key=state.key, operation=operation, took=took))
            return answer
        finally:
            self._running -= 1
            while self._queue:
                turn = self._queue.popleft()
                if not turn.done():
                    ring(turn)
                    break

    async def _place(self) -> bool:
        """Wait for a place as long as other steps end. This wait does not count as time of a step."""
        while self._running >= MOST_STEPS:
            turn, ended = asyncio.get_running_loop().create_future(), self._ended
            self._queue.append(turn)
            timer = self._clock.call_later(STORE_TIMEOUT, ring, turn)
            try:
                await turn
            finally:
                timer.cancel()
            if self._running >= MOST_STEPS and self._ended == ended:
                return False
        return True

    async def _write(self, name: str, step: Awaitable[bool | None]) -> bool | None:
        # If a report is wrongly taken for an own one, it hides a peer's write, such as a sign-out. So a write is
        # counted before it is sent, because the report may come before the answer, and only if the store merges no
        # reports.
        watch = self._watch
        if watch is None or not getattr(self.store, "tells_each_write", False):
            return await step
        written = None
        count, _ = self._own.get(name, (0, 0.0))
        self._own[name] = count + 1, math.inf
        try:
            written = await step
        finally:
            count, _ = self._own.pop(name, (0, 0.0))
            if count and written and watch is self._watch and getattr(self.store, "tells_each_write", False):
                self._own[name] = count, self._clock.monotonic() + _TOLD_WITHIN
        return written

    def _is_of(self, record: Record | None, name: str) -> bool:
        return record is None or record.key == name

    def _mixed_up(self, operation: str, state: KeyState) -> None:
        self.failed(operation, LookupError("the store returned a record of another key"), state)


def _hashable(key: Any) -> Hashable:
    # JSON has no tuples, and a key contains no lists.
    return tuple(map(_hashable, key)) if isinstance(key, list) else NO_NAME if isinstance(key, dict) else key
