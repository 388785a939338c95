"""
Looking inside a manager, from any thread.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from evertoken._engine.supervisor import BEAT
from evertoken._model.errors import GrantRejected
from evertoken._model.snapshot import Health, KeySnapshot, Snapshot

if TYPE_CHECKING:
    from evertoken._engine.session import Engine
    from evertoken._model.key_state import Entry

__all__ = ["health_of", "snapshot_of"]

# A beat may be late by a long callback; three are not.
_SILENT_AFTER: Final = 3.0 * BEAT


def snapshot_of(engine: Engine, /) -> Snapshot:
    """
    Return what is, key by key.
    """
    now = engine.clock.time()
    landing = engine.landing
    return Snapshot(
        at=now,
        state=engine.state,
        keys={key: _key(engine, entry, now) for key, entry in list(engine.registry.entries.items())},
        fetches=engine.refresher.fetches,
        refreshed=landing.refreshed,
        adopted=landing.adopted,
        failures=landing.failures,
        rejections=landing.rejections,
        refusals=engine.callers.refusals,
        in_flight=engine.flights.in_flight,
        queued=engine.lanes.queued,
    )


def health_of(engine: Engine, /) -> Health:
    """
    Return whether the work is done.
    """
    now = engine.clock.time()
    supervisor = engine.upkeep.supervisor
    beat = supervisor.last_beat
    entries = list(engine.registry.entries.values())
    running = engine.state == "running"
    failing = [entry for entry in entries if entry.trouble is not None and entry.trouble.error is not None]
    return Health(
        alive=running and supervisor.alive and beat is not None and supervisor.silent_for() <= _SILENT_AFTER,
        ready=running and all(entry.in_service(now) is not None for entry in entries),
        last_beat_at=beat,
        restarts=supervisor.restarts,
        failing=tuple(entry.key for entry in failing),
        rejected=tuple(entry.key for entry in failing if _rejected(entry)),
    )


def _rejected(entry: Entry) -> bool:
    return entry.trouble is not None and isinstance(entry.trouble.error, GrantRejected)


def _key(engine: Engine, entry: Entry, now: float) -> KeySnapshot:
    token, trouble, flight = entry.in_service(now), entry.trouble, entry.flight
    error = None if trouble is None else trouble.error
    due_at = entry.due_at(engine.rules)
    return KeySnapshot(
        validity=entry.validity(now, engine.rules),
        condition="ok" if error is None else "rejected" if _rejected(entry) else "backing_off",
        fingerprint=None if token is None else token.fingerprint,
        expires_at=None if token is None else token.expires_at,
        due_at=due_at if math.isfinite(due_at) else None,
        next_attempt_at=None if entry.deadline is None or not math.isfinite(entry.deadline) else entry.deadline,
        failures=0 if trouble is None else trouble.failures,
        error=None if error is None else str(error),
        in_flight=flight is not None,
        waiters=0 if flight is None else len(flight),
        kept=trouble is None or not trouble.unkept,
        idle_since=entry.idle_since,
    )
