"""Passes events to the log and to observers. Exceptions of observers are contained here."""

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

#: The library's logger. Routine is DEBUG, faults that heal are WARNING, and faults that need a person are ERROR.
LOGGER: Final = logging.getLogger("evertoken")

#: Exceptions that ask the whole process to end. The library never contains them.
SHUTDOWN: Final = (KeyboardInterrupt, SystemExit)


def say(level: int, message: str, /, *args: object, extra: dict[str, object] | None = None) -> None:
    """
    Log a message. If the application's log filters raise, the exception is dropped, because it must not stop the work.
    """
    try:
        LOGGER.log(level, message, *args, extra=extra, stacklevel=2)
    except SHUTDOWN:
        raise
    except BaseException:  # noqa: BLE001, S110 - nobody is left to be told
        pass


@final
class Observers:
    """The observers of one manager, and its log."""

    __slots__ = ("_observers", "streams")

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        #: The event streams of the running session.
        self.streams: EventStreams | None = None

    def listens_to(self, kind: type[events.Event], /) -> bool:
        """
        Tell whether anybody would receive an event of this *kind*. Other events are not created on the refresh path.
        """
        return bool(self._observers or self.streams) or LOGGER.isEnabledFor(level_of(kind))

    def emit(self, event: events.Event, /) -> None:
        """Log *event*, and pass it to each observer."""
        level = event_level(event)
        if LOGGER.isEnabledFor(level):
            fields = event_fields(event)
            say(level, "%s", _Line(event, fields), extra=_extra(event, fields))
        for observer in self._observers:
            try:
                observer(event)
            except SHUTDOWN:
                raise
            except BaseException as error:  # noqa: BLE001 - an observer must not harm a refresh
                # The message and the locals belong to the application. Only the class is safe to log.
                say(logging.ERROR, "observer %s raised %s", _name(observer), type(error).__qualname__)
        if self.streams is not None:
            self.streams.tell(event)


@final
class _Line:
    """An event as one line of the log. The text is only made if somebody reads it."""

    __slots__ = ("event", "fields")

    def __init__(self, event: events.Event, fields: dict[str, object]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        # The key of a single source carries no information.
        told = ((name, value) for name, value in self.fields.items() if name != "key" or value is not None)
        pairs = (f"{name}={value if name.endswith('_at') else repr(value)}" for name, value in told)
        return " ".join((type(self.event).__name__, *pairs))


def _extra(event: events.Event, fields: dict[str, object]) -> dict[str, object]:
    return {"evertoken_event": event_name(event), **{f"evertoken_{name}": value for name, value in fields.items()}}


def _name(observer: object) -> str:
    return getattr(observer, "__qualname__", type(observer).__qualname__)
