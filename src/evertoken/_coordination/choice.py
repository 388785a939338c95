"""Which coordinator a manager has: one in memory, or one that works through its store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from evertoken._coordination.fleet import FleetCoordinator
from evertoken._coordination.local import LocalCoordinator
from evertoken._coordination.store_client import check_key

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from evertoken._engine.options import Settings
    from evertoken._engine.session import Session
    from evertoken._model.coordinator import Coordinator
    from evertoken._model.protocols import TokenStore

__all__ = ["key_check", "maker_of"]


def maker_of(settings: Settings, /) -> Callable[[Session], Coordinator]:
    """Return what makes the coordinator of a session."""
    store, namespace, patience = settings.store, settings.namespace, settings.fetch_timeout

    def make(session: Session) -> Coordinator:
        if store is None:
            return LocalCoordinator(clock=session.clock, rules=session.rules)
        return FleetCoordinator(store, namespace, session, patience=patience)

    return make


def key_check(
    store: TokenStore | None, namespace: str | None, keys: Iterable[Hashable], /
) -> Callable[[Hashable], object] | None:
    """
    Return what raises where a key cannot be kept in the store, after it was called with *keys*; None without a store.

    Raises:
        TypeError: One of *keys* cannot be kept.
        ValueError: Likewise, for the text in it.
    """
    if store is None:
        return None
    for key in keys:
        check_key(namespace, key)
    return partial(check_key, namespace)
