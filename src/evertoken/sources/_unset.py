"""A source that is not configured in the environment. It takes the place of the missing source in a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, final

from evertoken._model.errors import GrantRejected

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest

__all__ = ["Unset"]


@final
class Unset:
    """Reports why it is not configured, so that the message lists all sources that were checked."""

    rotates = False
    on_ambiguous = "retry"

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def fetch(self, request: FetchRequest, /) -> NoReturn:  # noqa: ARG002 - the protocol has this parameter
        """Raise GrantRejected, because this source is not configured."""
        raise GrantRejected("not_configured", self._reason)

    def __repr__(self) -> str:
        return f"Unset({self._reason!r})"
