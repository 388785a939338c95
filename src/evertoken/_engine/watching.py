"""
Ways to watch a manager: streams of tokens and events, the state of keys, and the status of logins.
"""

from __future__ import annotations

import heapq
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, overload

from evertoken._engine.event_stream import EventStream
from evertoken._engine.inspection import key_snapshot_of, snapshot_of
from evertoken._engine.subscription import Subscription
from evertoken._model.generic import OfToken, TokenT
from evertoken._model.key_state import KeyState

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._engine.lifecycle import Lifecycle
    from evertoken._model.key_status import KeyStatus
    from evertoken._model.snapshot import KeySnapshot, Snapshot
    from evertoken._model.token import Token

__all__ = ["Watching"]

# These run on the session's own loop, also if another thread or loop calls them.
_SUBSCRIBE = attrgetter("read_path.subscribe")
_STATUS = attrgetter("grants.status")


class Watching(OfToken[TokenT]):
    """The methods by which a manager is watched. `_life` makes and ends its sessions."""

    _life: Lifecycle

    def subscribe(self, key: Hashable = None) -> Subscription[TokenT]:
        """
        Return an async iterator over the tokens of *key*, for code that must push them into a live connection.

        It begins with the valid token. It holds one token, so a slow reader receives the newest one.

        Raises:
            RuntimeError: There is no running loop, or the manager is not started.
        """
        session = self._life.check()
        self._life.registry.find(key)
        begin = partial(self._life.call, _SUBSCRIBE, key)
        return Subscription(session.subscriptions, key, partial(self._in_service, key), begin)

    def events(self, *, maxsize: int = 1000) -> EventStream:
        """
        Return an async iterator over events from now on, for code that must await something for each event.

        It ends after the last event, when the manager has closed. It works on any loop.

        Args:
            maxsize: The number of events that it holds for a slow reader, 1000 by default. Beyond that, the oldest
                events are dropped. The attribute `dropped` counts them.

        Raises:
            ValueError: *maxsize* is not a whole number of at least 1.
            RuntimeError: There is no running loop, or the manager is not started.
        """
        return EventStream(self._life.check().event_streams, maxsize)

    @overload
    def snapshot(self) -> Snapshot: ...
    @overload
    def snapshot(self, key: Hashable) -> KeySnapshot: ...
    def snapshot(self, key: Any = ...) -> Snapshot | KeySnapshot:
        """
        Return the present state without secrets: of one *key*, in constant time, or of the whole manager, key by key.

        A key of `source_for` that is not open is "absent", and its status is "pending". `status` looks at its record.

        Raises:
            LookupError: No source has this key.
            TypeError: The key was given although there is only one source, or is None although there are several keys.
        """
        life = self._life
        now = life.settings.clock.time()
        if key is not ...:
            state = life.registry.find(key) or KeyState(key, None)
            return key_snapshot_of(life.rules, state, now)
        return snapshot_of(
            life.registry, life.rules, life.counters, life.session, clock=life.settings.clock, state=life.state
        )

    def snapshots(self, after: Hashable = None, *, limit: int = 100) -> dict[Hashable, KeySnapshot]:
        """
        Return one page of the open keys, in the order of their `repr`.

        With many keys, read them page by page. The event loop is free between two pages.

        Args:
            after: The last key of the previous page, even if it is no longer open. It is None for the first page.

            limit: The largest number of keys on a page.

        Raises:
            ValueError: *limit* is not a whole number of at least 1.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            msg = f"limit must be a whole number of at least 1, not {limit!r}"
            raise ValueError(msg)
        life = self._life
        now, begin = life.settings.clock.time(), None if after is None else repr(after)
        states = list(life.registry.keys.values())
        named = ((repr(state.key), state) for state in states)
        page = heapq.nsmallest(limit, (pair for pair in named if begin is None or pair[0] > begin))
        return {state.key: key_snapshot_of(life.rules, state, now) for _, state in page}

    async def status(self, key: Hashable = None) -> KeyStatus:
        """
        Return the status of the login of *key*, as a status page needs it: for example connected, or signed out.

        A key that is not open is looked up in the store. It stays closed.

        Raises:
            LookupError: No source has this key.
            TypeError: The key is missing, or was given although there is only one source.
            TransientRefreshError: The store cannot be read.
            ManagerClosed: The manager is closed.
        """
        return await self._life.call(_STATUS, key)

    def _in_service(self, key: Hashable) -> Token | None:
        state = self._life.registry.keys.get(key)
        return None if state is None else state.in_service(self._life.settings.clock.time())
