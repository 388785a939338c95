"""Chooses the coordinator of a manager: in memory, or through its store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evertoken._coordination.fleet import FleetCoordinator
from evertoken._coordination.local import LocalCoordinator

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._engine.options import Settings
    from evertoken._engine.session import Session
    from evertoken._model.coordinator import Coordinator

__all__ = ["maker_of"]


def maker_of(settings: Settings, /) -> Callable[[Session], Coordinator]:
    """Return a function that makes the coordinator of a session."""
    store, namespace, patience = settings.store, settings.namespace, settings.fetch_timeout

    def make(session: Session) -> Coordinator:
        if store is None:
            return LocalCoordinator(clock=session.clock, rules=session.rules)
        return FleetCoordinator(store, namespace, session, patience=patience)

    return make
