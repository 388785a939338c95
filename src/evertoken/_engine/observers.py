"""Telling those who listen. Nothing a listener raises comes back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

from evertoken._model.event_fields import event_fields, event_level, event_name, level_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evertoken._engine.event_stream import EventStreams
    from evertoken._model import events
    from evertoken._model.protocols import Observer

__all__ = ["LOGGER", "SHUTDOWN", "Observers", "say"]

#: The library's logger. Routine is DEBUG, what heals itself is WARNING, what needs a person is ERROR.
LOGGER: Final = logging.getLogger("evertoken")

#: What asks the whole process to end, and is contained by nothing here.
SHUTDOWN: Final = (KeyboardInterrupt, SystemExit)


def say(level: int, message: str, /, *args: object, extra: dict[str, object] | None = None) -> None:
    """Log, whatever the application's filters raise: what is only told must not harm what is done."""
    try:
        LOGGER.log(level, message, *args, extra=extra, stacklevel=2)
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
        return bool(self._observers or self.streams) or LOGGER.isEnabledFor(level_of(kind))

    def emit(self, event: events.Event, /) -> None:
        """Log *event* and tell it to each observer."""
        level = event_level(event)
        if LOGGER.isEnabledFor(level):
            fields = event_fields(event)
            say(level, "%s", _Line(event, fields), extra=_extra(event, fields))
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

    __slots__ = ("event", "fields")

    def __init__(self, event: events.Event, fields: dict[str, object]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        # The key of a single source says nothing.
        told = ((name, value) for name, value in self.fields.items() if name != "key" or value is not None)
        pairs = (f"{name}={value if name.endswith('_at') else repr(value)}" for name, value in told)
        return " ".join((type(self.event).__name__, *pairs))


def _extra(event: events.Event, fields: dict[str, object]) -> dict[str, object]:
    return {"evertoken_event": event_name(event), **{f"evertoken_{name}": value for name, value in fields.items()}}


def _name(observer: object) -> str:
    return getattr(observer, "__qualname__", type(observer).__qualname__)
