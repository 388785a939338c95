"""The state of a manager at one instant, as frozen records without secrets."""

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
        validity: "absent", "fresh", "stale" (due for refresh but valid, so nobody waits) or "expired".

        condition: "ok", "backing_off" or "rejected".

        fingerprint: The fingerprint of the token in service, if there is one.

        expires_at: When that token expires, if known.

        due_at: When it should be replaced, if there is a token.

        next_attempt_at: When the supervisor acts on this key next, if an action is planned.

        failures: The number of failed fetches in a row.

        error: The last failure in words, if the last fetch failed.

        in_flight: Whether a fetch is under way or queued.

        waiters: The number of callers that wait for the fetch.

        kept: False if a store should hold the token but could not be written.

        idle_since: Since when nobody has asked for the key, if idle keys are evicted.

        status: The state of the login, as in `KeyStatus.status`: "pending", "connected", "expiring", "failing",
            "needs_reconnect" or "signed_out".

        since: Since when the status holds, if known.

        reason: The reason for the status, unless it is "pending" or "connected".
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
        in_flight: The number of fetches under way.

        queued: The number of fetches that wait for their turn.

        rate: Fetches per second that may start now in the long run. It is None if there is no limit.

        held_until: The instant until which no fetch starts, because the provider asked to wait.

        down_since: Since when the provider is down, if it is.

        error: The last failure in words, if the provider is down.

        attempts: The number of fetches that were started since the manager was made.

        budget_used: The number of tokens that were issued in this period, if there is a budget.

        budget_left: The number of tokens that may still be issued in this period.
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

        keys: The state of each key that is open.

        fetches: The number of calls of sources since the manager was made.

        refreshed: The number of these calls that brought a token.

        adopted: The number of tokens taken over from a peer through the store.

        failures: The number of fetches that failed for a temporary reason.

        rejections: The number of fetches that the authorization server rejected.

        refusals: The number of tokens that were replaced because a resource server refused them.

        in_flight: The number of fetches under way.

        queued: The number of fetches that wait for their turn.

        providers: The state of each provider, by the name that sources state.
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
    The number of keys in each state at one instant. It costs less than a `Snapshot`, which describes each key.

    Args:
        keys: The number of open keys.

        valid: The number of keys with a valid token.

        failing: The number of keys whose last fetch failed for a temporary reason.

        rejected: The number of keys whose grant is rejected, so that a person must act.

        signed_out: The number of keys that were signed out.

        in_flight: The number of fetches under way.

        queued: The number of fetches that wait for their turn.

        providers_down: The number of providers that are down, because their fetches fail in a row.
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
    The health of a manager, for probes.

    Args:
        alive: Whether the supervisor runs and has recently shown a sign of life. For a liveness probe.

        ready: Whether every critical key has a valid token. For a readiness probe. Critical keys are those named by
            `critical=`, or else those known at construction. A key that was signed out on purpose does not count.

        last_beat_at: The supervisor's last sign of life (epoch seconds), if it ever ran.

        restarts: How often the supervisor's loop crashed and was restarted.

        failing: Keys whose last fetch failed, including those whose token is still valid.

        rejected: The keys in *failing* whose grant is rejected, so that a person must act.

        degraded: Keys whose callers receive a failure now, and critical keys without a valid token. Keys that were
            signed out on purpose do not count.
    """

    alive: bool
    ready: bool
    last_beat_at: float | None
    restarts: int
    failing: tuple[Hashable, ...]
    rejected: tuple[Hashable, ...]
    degraded: tuple[Hashable, ...] = ()
