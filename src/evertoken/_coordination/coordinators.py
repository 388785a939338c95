"""Which coordinator a session has: one in memory, or one through a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evertoken._coordination.fleet import FleetCoordinator
from evertoken._coordination.local import LocalCoordinator

if TYPE_CHECKING:
    from evertoken._engine.session import Session
    from evertoken._model.coordinator import Coordinator
    from evertoken._model.protocols import TokenStore

__all__ = ["make_coordinator"]


def make_coordinator(
    store: TokenStore | None, namespace: str | None, patience: float, session: Session, /
) -> Coordinator:
    """
    Return the coordinator of *session*.

    Args:
        store: Where tokens are shared, if they are.

        namespace: Sets the manager's keys apart in the store.

        patience: Seconds to wait for a peer that holds a lease.

        session: Whose it is.
    """
    if store is None:
        return LocalCoordinator(clock=session.clock, rules=session.rules)
    return FleetCoordinator(store, namespace, session, patience=patience)
