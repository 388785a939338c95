"""
The refresh path's dealings with a store: lease, re-read, mark, keep, release.

A store may be down, slow or wrong at any step. Each step is bounded, and comes back with one of three answers:
done, somebody else's, or down.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar, final

from evertoken import _events as events
from evertoken._contracts import Held, Lease, Record
from evertoken._errors import GrantRejected, TransientRefreshError
from evertoken._flight import Gate, bounded
from evertoken._observers import SHUTDOWN
from evertoken._redact import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from evertoken._contracts import Clock, TokenStore
    from evertoken._entry import Entry
    from evertoken._flight import Strays
    from evertoken._observers import Observers
    from evertoken._token import Token
    from evertoken._trouble import Rules

__all__ = ["Hold", "Sharing", "store_key"]

#: Seconds a step of the store may take.
STORE_TIMEOUT: Final = 5.0

#: Seconds between two looks at a lease that is somebody else's.
POLL: Final = 0.25

_KEEP_ATTEMPTS: Final = 3
_KEEP_PAUSE: Final = 0.1

T = TypeVar("T")


def store_key(namespace: str, key: Hashable, /) -> str:
    """
    Return the text under which *key* stands in a store; different keys never share one.

    Raises:
        TypeError: The key is not made of None, strings, numbers, booleans and tuples of those.
    """
    try:
        return json.dumps([namespace, key], separators=(",", ":"), ensure_ascii=True)
    except TypeError:
        msg = f"with a store, a key must be a string, a number or a tuple of those, not {type(key).__name__}"
        raise TypeError(msg) from None


@final
@dataclass(slots=True)
class Hold:
    """
    What the store said before a fetch.

    Args:
        lease: The right to fetch; None where the store is down.

        record: What was kept, if anything.

        adopt: Whether the record's token is to be taken into service instead of a fetch.
    """

    lease: Lease | None
    record: Record | None
    adopt: bool = False


@final
class Sharing:
    """
    One manager's use of one store.

    Args:
        store: The store.

        namespace: Sets the keys of this manager apart from those of others in the same store.
    """

    def __init__(
        self, store: TokenStore, namespace: str, *, clock: Clock, rules: Rules, observers: Observers, strays: Strays
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._rules = rules
        self._observers = observers
        self._strays = strays

    async def hold(self, entry: Entry, *, patience: float, ttl: float) -> Hold:
        """
        Take the lease of *entry* and re-read its record; or find that a peer already fetched a better token.

        Args:
            entry: The key.

            patience: Seconds to wait for a peer that holds the lease.

            ttl: Seconds for which to ask the lease.

        Raises:
            TransientRefreshError: A peer held the lease all the time, and no better token appeared.
            GrantRejected: A lost answer is on record, and the source may not present its refresh token again.
        """
        key, owner = store_key(self._namespace, entry.key), os.urandom(8).hex()
        end = self._clock.monotonic() + patience
        while True:
            lease = await self._step("acquire", entry, lambda: self._store.acquire(key, owner, ttl))
            if lease is None:
                return Hold(None, None)
            held = isinstance(lease, Held)
            try:
                found = await self._step("read", entry, lambda: self._read(key))
                if found is None:
                    # Down, which is not the same as empty: a write at version 1 would be refused as outdated.
                    await self.release(entry, lease)
                    return Hold(None, None)
                record = found[0]
                _check_key(record, key)
                if record is not None and self._better(entry, record):
                    if not held:
                        await self.release(entry, lease)
                    return Hold(None, record, adopt=True)
                if not isinstance(lease, Held):
                    self._judge_mark(entry, record)
                    return Hold(lease, record)
            except BaseException:
                if not isinstance(lease, Held):
                    await self.release(entry, lease)
                raise
            left = end - self._clock.monotonic()
            if left <= 0.0:
                msg = "another member of the fleet holds the lease, and has not come back with a token"
                raise TransientRefreshError(msg)
            await Gate().wait(self._clock, min(left, POLL, max(lease.remaining, 0.0) + 0.001))

    async def mark(self, entry: Entry, hold: Hold, token: Token, now: float) -> None:
        """
        Record that the refresh token of *token* is about to be presented, before it is.

        Raises:
            TransientRefreshError: The lease is lost, so a peer may be presenting it already.
        """
        if hold.lease is not None:
            await self._fenced(entry, hold, token, sent_at=now)

    async def unmark(self, entry: Entry, hold: Hold, token: Token) -> None:
        """
        Record that the presented refresh token is still good: the server said so, or was never reached.
        """
        if hold.lease is not None and hold.record is not None and hold.record.sent_at is not None:
            await self._write(entry, hold, Record(hold.record.key, hold.record.version + 1, token))

    async def keep(self, entry: Entry, hold: Hold, token: Token) -> bool:
        """
        Keep *token* durably before anyone uses it; return False where that failed although it was tried again.

        Raises:
            TransientRefreshError: The lease was outlived and a peer wrote since: its token is the newer one.
        """
        if hold.lease is None:
            return False
        for attempt in range(_KEEP_ATTEMPTS):
            if attempt:
                await Gate().wait(self._clock, _KEEP_PAUSE * 2.0**attempt)
            if await self._fenced(entry, hold, token):
                return True
        return False

    async def release(self, entry: Entry, lease: Lease | Held | None) -> None:
        """
        Give the lease back, whatever happened.
        """
        if isinstance(lease, Lease):
            held = lease
            await self._step("release", entry, lambda: self._store.release(held))

    async def _read(self, key: str) -> tuple[Record | None]:
        return (await self._store.read(key),)

    def _better(self, entry: Entry, record: Record) -> bool:
        token = record.token
        if token is None or record.version <= entry.version or not token.valid_at(self._clock.time()):
            return False
        if entry.token is not None and entry.token.access_token == token.access_token:
            return False
        return self._clock.time() < self._rules.refresh.due_at(token, token.issued_at, 0.0)

    def _judge_mark(self, entry: Entry, record: Record | None) -> None:
        lost = record is not None and record.sent_at is not None
        if lost and getattr(entry.source, "on_ambiguous", None) == "reject":
            error = "ambiguous"
            raise GrantRejected(error, "a refresh was sent and its answer never recorded; log in again")

    async def _fenced(self, entry: Entry, hold: Hold, token: Token, *, sent_at: float | None = None) -> bool:
        key = store_key(self._namespace, entry.key)
        version = (0 if hold.record is None else hold.record.version) + 1
        written = await self._write(entry, hold, Record(key, version, token, sent_at))
        if written is False:
            msg = "the lease was outlived: a peer has written since"
            raise TransientRefreshError(msg)
        return written is True

    async def _write(self, entry: Entry, hold: Hold, record: Record) -> bool | None:
        lease = hold.lease
        if lease is None:
            return None
        written = await self._step("write", entry, lambda: self._store.write(record, lease))
        if written:
            hold.record = record
        return written

    async def _step(self, operation: str, entry: Entry, call: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await bounded(
                call, STORE_TIMEOUT, clock=self._clock, strays=self._strays, name=f"evertoken:store:{operation}"
            )
        except (*SHUTDOWN, GeneratorExit):
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            token = entry.token
            secrets = () if token is None else (token.access_token, token.refresh_token)
            said = describe(error, secrets)
            self._observers.emit(
                events.StoreFailed(at=self._clock.time(), key=entry.key, operation=operation, error=said)
            )
            return None


def _check_key(record: Record | None, key: str) -> None:
    if record is not None and record.key != key:
        msg = "the store returned a record of another key"
        raise TransientRefreshError(msg)
