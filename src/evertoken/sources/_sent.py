"""Whether a request left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import FetchRequest

__all__ = ["Sent"]

# What a client raises when nothing was sent, by name: httpx and httpx2 have the same names and different classes.
_NOT_SENT: Final = frozenset({
    "ConnectError", "ConnectTimeout", "InvalidURL", "LocalProtocolError", "PoolTimeout", "ProxyError",
    "UnsupportedProtocol",
})  # fmt: skip

# Header fields of an answer that hold no secret, and as which others are logged.
_PLAIN_FIELDS: Final = frozenset({
    b"cache-control", b"connection", b"content-encoding", b"content-length", b"content-type", b"date", b"retry-after",
    b"server", b"transfer-encoding", b"www-authenticate",
})  # fmt: skip
_HIDDEN: Final = b"[secure]"


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

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        if not self.seen:
            self.seen, self._request.sent = True, False
        # What a proxy is told first (CONNECT) is not the request.
        if event.endswith("send_request_headers.started") and getattr(info.get("request"), "method", b"") != b"CONNECT":
            self.yes = True
            self._request.sending()
        if event.endswith("receive_response_headers.complete"):
            # What is in it goes to the client's debug log next. Logins answer with a token in a field of its own.
            info["return_value"] = tuple(map(_shown, info.get("return_value") or ()))


def _shown(part: object) -> object:
    """Return *part* of an answer as a log may have it: of most header fields the name alone."""
    if not isinstance(part, list):
        return part
    return [(name, value if name.lower() in _PLAIN_FIELDS else _HIDDEN) for name, value in part]
