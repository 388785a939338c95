"""A source that the environment does not offer, in its place in a row of those it might."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, final

from evertoken._model.errors import GrantRejected

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest

__all__ = ["Unset"]


@final
class Unset:
    """Says why it is not there, so that whoever looks for credentials sees all that was looked at."""

    rotates = False
    on_ambiguous = "retry"

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def fetch(self, request: FetchRequest, /) -> NoReturn:  # noqa: ARG002 - the protocol's
        """Raise GrantRejected."""
        raise GrantRejected("not_configured", self._reason)

    def __repr__(self) -> str:
        return f"Unset({self._reason!r})"
