"""Whether a request left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evertoken._model.protocols import FetchRequest

__all__ = ["Sent"]


@final
class Sent:
    """Whether the request left, as the client's own trace tells."""

    def __init__(self, request: FetchRequest) -> None:
        self._request = request
        self.seen = False
        self.yes = False
        #: Called with status, header fields and body as soon as a successful answer is there.
        self.arrived: Callable[[int, Any, bytes], object] | None = None

    def begin(self) -> None:
        """The client has it now. Until its transport tells more, and some never do, it may be on its way."""
        self._request.sending()

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        if not self.seen:
            self.seen, self._request.sent = True, False
        # What a proxy is told first (CONNECT) is not the request.
        if event.endswith("send_request_headers.started") and getattr(info.get("request"), "method", b"") != b"CONNECT":
            self.yes = True
            self._request.sending()
