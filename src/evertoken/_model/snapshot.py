"""What is, as frozen records without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, final

from evertoken._model.frozen import Frozen, frozen

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from evertoken._model.key_view import Validity

__all__ = ["Counts", "Health", "KeySnapshot", "Snapshot", "State"]

State: TypeAlias = Literal["new", "running", "closing", "closed"]


@final
@frozen()
class KeySnapshot(Frozen):
    """
    One key at one instant. Instants are epoch seconds.

    Args:
        validity: "absent", "fresh", "stale" (due, but valid: nobody waits) or "expired".

        condition: "ok", "backing_off" or "rejected".

        fingerprint: Of the token in service, if there is one.

        expires_at: When that token dies, if known.

        due_at: When it should be replaced; None if there is none.

        next_attempt_at: When the supervisor acts on this key next; None if nothing is planned.

        failures: Failed fetches in a row.

        error: The last failure in words, if the last fetch failed.

        in_flight: Whether a fetch is under way or queued.

        waiters: How many callers wait for it.

        kept: False where a store should hold the token and could not be written.

        idle_since: Since when nobody has asked for it, where idle keys are evicted.
    """

    validity: Validity
    condition: Literal["ok", "backing_off", "rejected"]
    fingerprint: str | None
    expires_at: float | None
    due_at: float | None
    next_attempt_at: float | None
    failures: int
    error: str | None
    in_flight: bool
    waiters: int
    kept: bool
    idle_since: float | None


@final
@frozen()
class Snapshot(Frozen):
    """
    A manager at one instant.

    Args:
        at: The instant (epoch seconds).

        state: "new", "running", "closing" or "closed".

        keys: Each key that is open.

        fetches: Calls of sources that were started, since the manager was made.

        refreshed: Those that brought a token.

        adopted: Tokens taken over from a peer through the store.

        failures: Fetches that failed for a passing reason.

        rejections: Fetches that the authorization server rejected.

        refusals: Tokens that a resource server refused and that were replaced for it.

        in_flight: Fetches under way.

        queued: Fetches that wait for their turn.
    """

    at: float
    state: State
    keys: Mapping[Hashable, KeySnapshot]
    fetches: int
    refreshed: int
    adopted: int
    failures: int
    rejections: int
    refusals: int
    in_flight: int
    queued: int


@final
@frozen()
class Counts(Frozen):
    """
    How many keys are in which state at one instant. It costs less than a `Snapshot`, which describes each key.

    Args:
        keys: Keys that are open.

        valid: Those with a valid token.

        failing: Those whose last fetch failed for a reason that passes.

        rejected: Those whose grant is rejected: a person must act.

        signed_out: Those that were signed out.

        in_flight: Fetches under way.

        queued: Fetches that wait for their turn.
    """

    keys: int
    valid: int
    failing: int
    rejected: int
    signed_out: int
    in_flight: int
    queued: int


@final
@frozen()
class Health(Frozen):
    """
    Whether a manager does its work, for probes.

    Args:
        alive: Whether the supervisor runs and has shown a sign of life lately. For a liveness probe.

        ready: Whether every key that is open has a valid token. For a readiness probe.

        last_beat_at: The supervisor's last sign of life (epoch seconds); None if it never ran.

        restarts: How often its loop crashed and was restarted.

        failing: Keys whose last fetch failed.

        rejected: Keys whose grant is rejected: a person must act.
    """

    alive: bool
    ready: bool
    last_beat_at: float | None
    restarts: int
    failing: tuple[Hashable, ...]
    rejected: tuple[Hashable, ...]
