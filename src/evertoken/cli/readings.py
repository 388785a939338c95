"""The data of `evertoken top`: the state of keys and providers at one instant, without secrets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken.cli.managers import Managers

__all__ = ["KeyLine", "ProviderLine", "Reading", "reading_from", "reading_of"]


@final
@dataclass(frozen=True, kw_only=True)
class KeyLine:
    """The state of one key. Instants are epoch seconds."""

    name: str
    state: str
    token: str | None = None
    issued_at: float | None = None
    expires_at: float | None = None
    due_at: float | None = None
    failures: int = 0
    error: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class ProviderLine:
    """The state of one provider."""

    name: str
    rate: float | None = None
    in_flight: int = 0
    queued: int = 0
    attempts: int = 0
    down_since: float | None = None
    budget_used: int | None = None
    budget_left: int | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Reading:
    """The state of all keys and providers."""

    at: float
    keys: list[KeyLine]
    providers: list[ProviderLine] = field(default_factory=list)
    fetches: int | None = None
    failed: int | None = None


def reading_of(managers: Managers, now: float) -> dict[str, Any]:
    """Return the present state of an agent's managers, as data for JSON."""
    keys = []
    for name in managers:
        manager, key = managers.of(name)
        found = manager.snapshot(key)
        token = manager.peek(key)
        keys.append(
            KeyLine(
                name=name,
                state=found.validity if found.status == "connected" else found.status,
                token=found.fingerprint,
                issued_at=None if token is None else token.issued_at,
                expires_at=found.expires_at,
                due_at=found.due_at,
                failures=found.failures,
                error=found.error,
            )
        )
    snapshots = [manager.snapshot() for manager in managers.all]
    providers = [
        ProviderLine(
            name=name,
            rate=one.rate,
            in_flight=one.in_flight,
            queued=one.queued,
            attempts=one.attempts,
            down_since=one.down_since,
            budget_used=one.budget_used,
            budget_left=one.budget_left,
        )
        for snapshot in snapshots
        for name, one in snapshot.providers.items()
    ]
    return asdict(
        Reading(
            at=now,
            keys=keys,
            providers=providers,
            fetches=sum(snapshot.fetches for snapshot in snapshots),
            failed=sum(snapshot.failures + snapshot.rejections for snapshot in snapshots),
        )
    )


def reading_from(fields: Mapping[str, Any]) -> Reading:
    """
    Return the reading in the answer of an agent.

    Raises:
        TypeError: The agent has another version.
    """
    return Reading(
        at=fields["at"],
        keys=[KeyLine(**one) for one in fields["keys"]],
        providers=[ProviderLine(**one) for one in fields["providers"]],
        fetches=fields["fetches"],
        failed=fields["failed"],
    )
