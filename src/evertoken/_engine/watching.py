"""
How a manager is watched: tokens and events as they come, what is of each key, and how each login stands.
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

# What runs on the session's own loop, wherever it is called.
_SUBSCRIBE = attrgetter("read_path.subscribe")
_STATUS = attrgetter("grants.status")


class Watching(OfToken[TokenT]):
    """The views of a manager whose sessions `_life` makes and ends."""

    _life: Lifecycle

    def subscribe(self, key: Hashable = None) -> Subscription[TokenT]:
        """
        Return an async iterator over the tokens of *key*, for whoever must push them into a live connection.

        It begins with the valid token, and has room for one: a slow reader gets the newest.

        Raises:
            RuntimeError: There is no running loop, or the manager is not started.
        """
        session = self._life.check()
        self._life.registry.find(key)
        begin = partial(self._life.call, _SUBSCRIBE, key)
        return Subscription(session.subscriptions, key, partial(self._in_service, key), begin)

    def events(self, *, maxsize: int = 1000) -> EventStream:
        """
        Return an async iterator over the events from now on, for code that must await something at each of them.

        It ends with the manager, after the last event. It works on any loop.

        Args:
            maxsize: How many events it holds for a reader that is slower. Beyond that the oldest are dropped, and
                counted by the attribute `dropped`.

        Raises:
            ValueError: *maxsize* is no whole number of at least 1.
            RuntimeError: There is no running loop, or the manager is not started.
        """
        return EventStream(self._life.check().event_streams, maxsize)

    @overload
    def snapshot(self) -> Snapshot: ...
    @overload
    def snapshot(self, key: Hashable) -> KeySnapshot: ...
    def snapshot(self, key: Any = ...) -> Snapshot | KeySnapshot:
        """
        Return what is, without secrets: of one *key*, in constant time, or of the whole manager, key by key.

        A key of `source_for` that is not open is "absent", and its status "pending": `status` looks at its record.

        Raises:
            LookupError: No source has this key.
            TypeError: A key is given where there is but one, or None where there are several.
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
        Return one page of the keys that are open, in the order of their `repr`.

        Ten thousand keys are told of page by page, and the event loop is free between two pages.

        Args:
            after: The last key of the page before, whether it is still open or not; None for the first page.

            limit: How many keys a page has at most.

        Raises:
            ValueError: *limit* is no whole number of at least 1.
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
        Return how the login of *key* stands, for a status page: connected, to be connected again, signed out.

        A key that is not open is looked up in the store, and is not opened by that.

        Raises:
            LookupError: No source has this key.
            TypeError: A key is missing, or given where there is but one.
            TransientRefreshError: The store cannot be read.
            ManagerClosed: The manager is closed.
        """
        return await self._life.call(_STATUS, key)

    def _in_service(self, key: Hashable) -> Token | None:
        state = self._life.registry.keys.get(key)
        return None if state is None else state.in_service(self._life.settings.clock.time())
