"""Whether a request left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evertoken._model.protocols import FetchRequest

__all__ = ["Sent"]

# What a client raises when nothing was sent, by name: httpx and httpx2 have the same names and different classes.
_NOT_SENT: Final = frozenset({
    "ConnectError", "ConnectTimeout", "InvalidURL", "LocalProtocolError", "PoolTimeout", "ProxyError",
    "UnsupportedProtocol",
})  # fmt: skip


@final
class Sent:
    """Whether the request left, as the client's own trace tells."""

    def __init__(self, request: FetchRequest) -> None:
        self._request = request
        #: Whether the client has handed it to its transport. What fails before has not left.
        self.begun = False
        self.seen = False
        self.yes = False
        #: Called with status, header fields and body as soon as a successful answer is there.
        self.arrived: Callable[[int, Any, bytes], object] | None = None

    def begin(self) -> None:
        """The transport has it now. Until it tells more, and some transports never do, it may be on its way."""
        self._request.sending()
        self.begun = True

    def ambiguous(self, error: Exception) -> bool:
        """Tell whether the server may have got it, though the client ended with *error*."""
        return self.yes or (self.begun and not self.seen and type(error).__name__ not in _NOT_SENT)

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        if not self.seen:
            self.seen, self._request.sent = True, False
        # What a proxy is told first (CONNECT) is not the request.
        if event.endswith("send_request_headers.started") and getattr(info.get("request"), "method", b"") != b"CONNECT":
            self.yes = True
            self._request.sending()
