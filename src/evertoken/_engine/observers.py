"""Telling those who listen. Nothing a listener raises comes back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

from evertoken._model import events, provider_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evertoken._engine.event_stream import EventStreams
    from evertoken._model.protocols import Observer

__all__ = ["LOGGER", "SHUTDOWN", "Observers", "say"]

#: The library's logger. Routine is DEBUG, what heals itself is WARNING, what needs a person is ERROR.
LOGGER: Final = logging.getLogger("evertoken")

#: What asks the whole process to end, and is contained by nothing here.
SHUTDOWN: Final = (KeyboardInterrupt, SystemExit)

_LEVELS: Final[dict[type[events.Event], int]] = {
    events.RefreshRejected: logging.ERROR,
    events.SupervisorRestarted: logging.ERROR,
    events.GrantExpiring: logging.WARNING,
    events.RefreshFailed: logging.WARNING,
    events.StoreFailed: logging.WARNING,
    events.FetchAmbiguous: logging.WARNING,
    events.TokenUnpersisted: logging.WARNING,
    events.TokenRevoked: logging.INFO,
    events.ClockStepped: logging.WARNING,
    events.TokenRefused: logging.INFO,
    provider_events.ProviderDown: logging.WARNING,
    provider_events.ProviderStillDown: logging.WARNING,
    provider_events.ProviderUp: logging.WARNING,
    provider_events.BudgetReached: logging.WARNING,
}


def say(level: int, message: str, /, *args: object) -> None:
    """Log, whatever the application's filters raise: what is only told must not harm what is done."""
    try:
        LOGGER.log(level, message, *args, stacklevel=2)
    except SHUTDOWN:
        raise
    except BaseException:  # noqa: BLE001, S110 - there is nobody left to tell
        pass


@final
class Observers:
    """The listeners of one manager, and its log."""

    __slots__ = ("_observers", "streams")

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        #: Those of the session that runs.
        self.streams: EventStreams | None = None

    def listens_to(self, kind: type[events.Event], /) -> bool:
        """Tell whether anybody would see an event of this *kind*. What nobody sees is not made on the refresh path."""
        return bool(self._observers or self.streams) or LOGGER.isEnabledFor(_LEVELS.get(kind, logging.DEBUG))

    def emit(self, event: events.Event, /) -> None:
        """Log *event* and tell it to each observer."""
        level = _LEVELS.get(type(event), logging.DEBUG)
        if isinstance(event, events.RefreshFailed | events.FetchAmbiguous) and event.outage:
            # One line for the provider stands for all its keys.
            level = logging.DEBUG
        if LOGGER.isEnabledFor(level):
            say(level, "%s", _Line(event))
        for observer in self._observers:
            try:
                observer(event)
            except SHUTDOWN:
                raise
            except BaseException as error:  # noqa: BLE001 - an observer never harms a refresh
                # Its message and its locals are the application's; the class is all that is safe to say.
                say(logging.ERROR, "observer %s raised %s", _name(observer), type(error).__qualname__)
        if self.streams is not None:
            self.streams.tell(event)


@final
class _Line:
    """An event as one line of log, made only if somebody reads it."""

    __slots__ = ("event",)

    def __init__(self, event: events.Event) -> None:
        self.event = event

    def __str__(self) -> str:
        event = self.event
        names = [name for cls in type(event).__mro__ for name in getattr(cls, "__slots__", ()) if name != "at"]
        pairs = [f"{name}={_plain(getattr(event, name))}" for name in names]
        return f"{type(event).__name__} {' '.join(pairs)}"


def _plain(value: object) -> str:
    return f"{type(value).__name__}({value})" if isinstance(value, Exception) else repr(value)


def _name(observer: object) -> str:
    return getattr(observer, "__qualname__", type(observer).__qualname__)
