"""What is, as frozen records without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, final

from evertoken._model.frozen import Frozen, frozen

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from evertoken._model.key_status import Status
    from evertoken._model.key_view import Validity

__all__ = ["Counts", "Health", "KeySnapshot", "ProviderSnapshot", "Snapshot", "State"]

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

        status: How the login stands, as `KeyStatus.status` has it: "pending", "connected", "expiring", "failing",
            "needs_reconnect" or "signed_out".

        since: Since when, as far as is known.

        reason: Why, where it is neither "pending" nor "connected".
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
    status: Status = "pending"
    since: float | None = None
    reason: str | None = None


@final
@frozen()
class ProviderSnapshot(Frozen):
    """
    One provider at one instant, over all its keys. Instants are epoch seconds.

    Args:
        in_flight: Fetches under way.

        queued: Fetches that wait for their turn.

        rate: Fetches a second that may start now in the long run; None where nothing limits them.

        held_until: Until when none starts, because the provider asked to wait.

        down_since: Since when it is down, if it is.

        error: The last failure in words, if it is down.

        attempts: Fetches that were started, since the manager was made.

        budget_used: Tokens that were issued in this period, where there is a budget.

        budget_left: Tokens that may be issued yet.
    """

    in_flight: int
    queued: int
    rate: float | None
    held_until: float | None
    down_since: float | None
    error: str | None
    attempts: int
    budget_used: int | None
    budget_left: int | None


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

        providers: Each provider by its name, which sources state.
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
    providers: Mapping[str, ProviderSnapshot]


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

        providers_down: Providers whose fetches fail in a row.
    """

    keys: int
    valid: int
    failing: int
    rejected: int
    signed_out: int
    in_flight: int
    queued: int
    providers_down: int


@final
@frozen()
class Health(Frozen):
    """
    Whether a manager does its work, for probes.

    Args:
        alive: Whether the supervisor runs and has shown a sign of life lately. For a liveness probe.

        ready: Whether every critical key has a valid token. For a readiness probe. Critical are the keys that were
            known at construction, or those named by `critical=`. A key that was signed out on purpose does not count.

        last_beat_at: The supervisor's last sign of life (epoch seconds); None if it never ran.

        restarts: How often its loop crashed and was restarted.

        failing: Keys whose last fetch failed, also those whose token is still valid.

        rejected: Those of them whose grant is rejected: a person must act.

        degraded: Keys whose callers are told of a failure now, and critical keys without a valid token. Those that
            were signed out on purpose are not among them.
    """

    alive: bool
    ready: bool
    last_beat_at: float | None
    restarts: int
    failing: tuple[Hashable, ...]
    rejected: tuple[Hashable, ...]
    degraded: tuple[Hashable, ...] = ()
