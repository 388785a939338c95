"""Finds out whether a request was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.protocols import FetchRequest

__all__ = ["Sent"]

# Exceptions of a client which mean that nothing was sent. They are listed by name, because httpx and httpx2 differ.
_NOT_SENT: Final = frozenset({
    "ConnectError", "ConnectTimeout", "InvalidURL", "LocalProtocolError", "PoolTimeout", "ProxyError",
    "UnsupportedProtocol",
})  # fmt: skip

# Header fields of an answer that contain no secret. All other fields are hidden in logs.
_PLAIN_FIELDS: Final = frozenset({
    b"cache-control", b"connection", b"content-encoding", b"content-length", b"content-type", b"date", b"retry-after",
    b"server", b"transfer-encoding", b"www-authenticate",
})  # fmt: skip
_HIDDEN: Final = b"[secure]"


@final
class Sent:
    """Whether the request was sent, according to the trace of the client."""

    def __init__(self, request: FetchRequest) -> None:
        self._request = request
        #: Whether the client has passed the request to its transport. A failure before that means that it was not sent.
        self.begun = False
        self.seen = False
        self.yes = False
        #: A function that receives status, header fields and body as soon as a successful answer has arrived.
        self.arrived: Callable[[int, Any, bytes], object] | None = None

    def begin(self) -> None:
        """The transport has the request now. Some transports report nothing more, so it may be on its way."""
        self._request.sending()
        self.begun = True

    def ambiguous(self, error: Exception) -> bool:
        """Tell whether the server may have received the request, although the client ended with *error*."""
        return self.yes or (self.begun and not self.seen and type(error).__name__ not in _NOT_SENT)

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        if not self.seen:
            self.seen, self._request.sent = True, False
        # A CONNECT request to a proxy does not count as the request.
        if event.endswith("send_request_headers.started") and getattr(info.get("request"), "method", b"") != b"CONNECT":
            self.yes = True
            self._request.sending()
        if event.endswith("receive_response_headers.complete"):
            # The client logs this value next, at debug level. Some logins answer with a token in a header field.
            info["return_value"] = tuple(map(_shown, info.get("return_value") or ()))


def _shown(part: object) -> object:
    """Return *part* of an answer in a form for logs: most header fields appear only by name."""
    if not isinstance(part, list):
        return part
    return [(name, value if name.lower() in _PLAIN_FIELDS else _HIDDEN) for name, value in part]
