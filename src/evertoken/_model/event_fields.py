"""Events as plain data: a stable name, and fields that fit into JSON."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from evertoken._model import events, provider_events, store_events, supervisor_events
from evertoken._model.errors import GrantRejected

if TYPE_CHECKING:
    from collections.abc import Hashable

    from evertoken._model.events import Event

__all__ = ["event_fields", "event_level", "event_name", "level_of"]

# The values of the levels in `logging`.
_DEBUG, _INFO, _WARNING, _ERROR = 10, 20, 30, 40

_LEVELS: Final[dict[type[Event], int]] = {
    events.RefreshRejected: _ERROR,
    supervisor_events.SupervisorRestarted: _ERROR,
    events.GrantExpiring: _WARNING,
    events.RefreshFailed: _WARNING,
    events.StoreFailed: _WARNING,
    events.FetchAmbiguous: _WARNING,
    events.TokenUnpersisted: _WARNING,
    events.TokenRevoked: _INFO,
    supervisor_events.ClockStepped: _WARNING,
    events.TokenRefused: _INFO,
    provider_events.ProviderDown: _WARNING,
    provider_events.ProviderStillDown: _WARNING,
    provider_events.ProviderUp: _WARNING,
    provider_events.BudgetReached: _WARNING,
    store_events.StoreStillDown: _WARNING,
    store_events.StoreUp: _WARNING,
}

# Each key emits these while its provider or its store is down.
_MANY: Final = (events.RefreshFailed, events.FetchAmbiguous, events.StoreFailed, events.TokenUnpersisted)

# The place between "h" and "F" in "RefreshFailed".
_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NAMES: Final[dict[type[Event], str]] = {}


def event_name(event: Event, /) -> str:
    """
    Return the stable name of an event for logs and metrics: "refresh_failed" for `RefreshFailed`.

    Args:
        event: Any event of `evertoken.events`.
    """
    kind = type(event)
    name = _NAMES.get(kind)
    if name is None:
        name = _NAMES[kind] = _WORDS.sub("_", kind.__name__).lower()
    return name


def level_of(kind: type[Event], /) -> int:
    """Return the level at which events of this *kind* are logged."""
    return _LEVELS.get(kind, _DEBUG)


def event_level(event: Event, /) -> int:
    """
    Return the level at which an event is logged, as a number of `logging`.

    Routine events are DEBUG or INFO. Events that heal by themselves are WARNING, and events that need a person are
    ERROR. While a provider or a store is down, one event reports that for all its keys, so the failure of each key is
    only DEBUG.

    Args:
        event: Any event of `evertoken.events`.
    """
    if isinstance(event, _MANY) and event.outage:
        return _DEBUG
    return level_of(type(event))


def event_fields(event: Event, /) -> dict[str, object]:
    """
    Return the fields of an event as plain data, which `json.dumps` can write. They contain no secret.

    Instants become text in UTC (ISO 8601), or None if they are infinite. An error becomes "error" (its message),
    "error_type" (its class) and, in a rejection, "error_code" (RFC 6749 section 5.2). A key that is not text, a number
    or None becomes its `repr`. The instant of the event itself is left out, because a log record has its own.

    Args:
        event: Any event of `evertoken.events`.
    """
    found: dict[str, object] = {}
    for name in type(event).__dataclass_fields__:
        value = getattr(event, name)
        if name == "at":
            continue
        if name == "key":
            found[name] = _plain(value)
        elif isinstance(value, Exception):
            found[name] = str(value)
            found[f"{name}_type"] = type(value).__name__
            if isinstance(value, GrantRejected):
                found[f"{name}_code"] = value.error
        elif name.endswith("_at"):
            found[name] = _instant(value)
        else:
            found[name] = value
    return found


def _plain(key: Hashable) -> str | int | float | None:
    return key if key is None or isinstance(key, str | int | float) else repr(key)


def _instant(seconds: float | None) -> str | None:
    if seconds is None or not math.isfinite(seconds):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, OSError, ValueError):
        # The calendar does not have this year.
        return repr(seconds)
