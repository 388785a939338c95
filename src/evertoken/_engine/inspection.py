"""Views of the inside of a manager, from any thread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

from evertoken._engine.supervisor import BEAT
from evertoken._model.errors import GrantRejected
from evertoken._model.key_status import status_of_state
from evertoken._model.snapshot import Counts, Health, KeySnapshot, Snapshot

if TYPE_CHECKING:
    from evertoken._engine.counters import Counters
    from evertoken._engine.registry import Registry
    from evertoken._engine.session import Session
    from evertoken._model.key_state import KeyState
    from evertoken._model.policy import Rules
    from evertoken._model.protocols import Clock

__all__ = ["counts_of", "health_of", "key_snapshot_of", "snapshot_of"]

# A long callback may delay one beat, but not three.
_SILENT_AFTER: Final = 3.0 * BEAT


def snapshot_of(
    registry: Registry,
    rules: Rules,
    counters: Counters,
    session: Session | None,
    /,
    *,
    clock: Clock,
    state: Literal["new", "running", "closing", "closed"],
) -> Snapshot:
    """Return the state of a manager and of each of its keys."""
    now = clock.time()
    return Snapshot(
        at=now,
        state=state,
        keys={key: key_snapshot_of(rules, one, now) for key, one in list(registry.keys.items())},
        fetches=counters.fetches,
        refreshed=counters.refreshed,
        adopted=counters.adopted,
        failures=counters.failures,
        rejections=counters.rejections,
        refusals=counters.refusals,
        in_flight=0 if session is None else session.flights.in_flight,
        queued=0 if session is None else session.limits.queued,
        providers=registry.providers.snapshots(None if session is None else session.limits, clock),
    )


def counts_of(registry: Registry, session: Session | None, /, *, now: float) -> Counts:
    """Return the number of keys in each state."""
    valid = failing = rejected = signed_out = 0
    states = list(registry.keys.values())
    for one in states:
        valid += one.in_service(now) is not None
        if one.failure is not None and one.failure.error is not None:
            if one.signed_out:
                signed_out += 1
            elif _rejected(one):
                rejected += 1
            else:
                failing += 1
    return Counts(
        keys=len(states),
        valid=valid,
        failing=failing,
        rejected=rejected,
        signed_out=signed_out,
        in_flight=0 if session is None else session.flights.in_flight,
        queued=0 if session is None else session.limits.queued,
        providers_down=registry.providers.down,
    )


def health_of(registry: Registry, session: Session | None, /, *, now: float, restarts: int) -> Health:
    """Return the health of a manager."""
    # A key that was signed out on purpose is not a failure.
    states = [one for one in list(registry.keys.values()) if not one.signed_out]
    critical = registry.critical
    running = session is not None and session.running
    supervisor = None if session is None else session.maintenance.supervisor
    beat = None if supervisor is None else supervisor.last_beat
    failing = [one for one in states if _failed(one)]
    unserved = [one for one in states if one.in_service(now) is None]
    return Health(
        alive=running
        and supervisor is not None
        and supervisor.alive
        and beat is not None
        and supervisor.silent_for() <= _SILENT_AFTER,
        ready=running and not any(one.key in critical for one in unserved),
        degraded=tuple(one.key for one in unserved if one.key in critical or _failed(one)),
        last_beat_at=beat,
        restarts=restarts if supervisor is None else supervisor.restarts,
        failing=tuple(one.key for one in failing),
        rejected=tuple(one.key for one in failing if _rejected(one)),
    )


def _failed(state: KeyState) -> bool:
    return state.failure is not None and state.failure.error is not None


def _rejected(state: KeyState) -> bool:
    return state.failure is not None and isinstance(state.failure.error, GrantRejected)


def key_snapshot_of(rules: Rules, state: KeyState, now: float, /) -> KeySnapshot:
    """Return the state of one key."""
    status = status_of_state(state, now)
    token, failure, flight = state.in_service(now), state.failure, state.flight
    error = None if failure is None else failure.error
    due_at, next_at = state.due_at(rules), state.next_at(now, rules)
    planned = state.deadline is not None and math.isfinite(next_at)
    return KeySnapshot(
        validity=state.validity(now, rules),
        condition="ok" if error is None else "rejected" if _rejected(state) else "backing_off",
        fingerprint=None if token is None else token.fingerprint,
        expires_at=None if token is None else token.expires_at,
        due_at=due_at if math.isfinite(due_at) else None,
        next_attempt_at=state.deadline if planned and flight is None else None,
        failures=0 if failure is None else failure.failures,
        error=None if error is None else str(error),
        in_flight=flight is not None,
        waiters=0 if flight is None else len(flight),
        kept=failure is None or not failure.unkept,
        idle_since=state.idle_since,
        status=status.status,
        since=status.since,
        reason=status.reason,
    )
