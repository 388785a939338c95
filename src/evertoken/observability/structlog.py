"""Events as structured log entries of structlog. Needs the extra `structlog`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from evertoken._model.event_fields import event_fields, event_level, event_name

try:
    import structlog
except ImportError as _error:
    msg = "evertoken.observability.structlog needs structlog: pip install 'evertoken[structlog]'"
    raise ImportError(msg) from _error

if TYPE_CHECKING:
    from evertoken._model.events import Event

__all__ = ["StructlogObserver"]


@final
class StructlogObserver:
    """
    An observer that logs each event through structlog: the stable name of the event, and its fields.

    The levels are the same as those of the logger "evertoken" in `logging`, which logs the same events. To see each
    event only once, switch that logger off: `logging.getLogger("evertoken").propagate = False`.

    Args:
        logger: A logger of structlog. By default, `structlog.get_logger("evertoken")`.

    Raises:
        ImportError: The extra is not installed.
    """

    def __init__(self, logger: Any = None) -> None:
        self._logger = structlog.get_logger("evertoken") if logger is None else logger

    def __call__(self, event: Event) -> None:
        """Log one event. The manager calls this."""
        self._logger.log(event_level(event), event_name(event), **event_fields(event))
