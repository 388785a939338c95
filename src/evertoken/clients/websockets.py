"""A manager in the handshakes of websockets' client."""

from __future__ import annotations

import copy
import logging
import types
from typing import TYPE_CHECKING, Any, Final, final

try:
    from websockets.asyncio import client
    from websockets.datastructures import Headers
    from websockets.exceptions import InvalidStatus
except ImportError as _error:
    msg = "evertoken.clients.websockets needs websockets: pip install 'evertoken[websockets]'"
    raise ImportError(msg) from _error

from evertoken._model.errors import TokenUnavailable
from evertoken.clients._hidden_field import HiddenField, hidden_authorization
from evertoken.clients._long_lived import long_lived
from evertoken.clients._origin import in_the_clear, origin_in_text, written
from evertoken.clients._refusal import is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from websockets.datastructures import HeadersLike
    from websockets.typing import LoggerLike

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["connect"]

_FIELD: Final = "Authorization"


@types.coroutine
def _handshake(attempt: client.connect) -> Generator[Any, None, client.ClientConnection]:
    """Make the handshake of the library."""
    return (yield from client.connect.__await__(attempt))


@final
class connect(client.connect):  # noqa: N801 - as the library's
    """
    The `connect` of websockets, which sends the token of a manager in each handshake, and heals a refusal once.

    Use it in the same three ways: `async for websocket in connect(handle, uri)`, `async with`, `await`. The iterator
    sends the token that is in service at each reconnect. It also connects again if there was no token
    (`TokenUnavailable`). If the server refuses the token of a handshake (401), the token is reported, and the handshake
    is made once more with another one. A redirect to another origin goes on without the token.

    Args:
        tokens: A handle of a manager.

        uri: Where to connect to, as in "wss://api.example.com/feed".

        allow_http: Send the token over ws, and not to loopback alone.

        min_ttl: The fewest seconds that the token of each handshake is valid for. It needs a handle.

        additional_headers: Other header fields. An Authorization among them is left out.

        logger: The logger of the library, which is not shown the token.

        options: All else that the library's `connect` takes.

    Raises:
        ValueError: *uri* is ws outside loopback, or names a user; or *min_ttl* is no number of seconds.
        InvalidURI: *uri* is no URI of a WebSocket.
    """

    process_exception: Callable[[Exception], Exception | None]

    def __init__(
        self,
        tokens: TokenReader,
        uri: str,
        *,
        allow_http: bool = False,
        min_ttl: float | None = None,
        additional_headers: HeadersLike | None = None,
        logger: LoggerLike | None = None,
        **options: Any,
    ) -> None:
        options["logger"] = _Discreet(logger or logging.getLogger("websockets.client"), {})
        super().__init__(uri, **options)
        if "process_exception" not in options:
            fails = self.process_exception
            self.process_exception = lambda error: None if isinstance(error, TokenUnavailable) else fails(error)
        if not (allow_http or self.ws_uri.secure) and in_the_clear(origin := origin_in_text(uri)):
            msg = (
                f"connect() would send its token to {written(('ws', *origin[1:]))} in the clear; use wss, or "
                f"allow_http=True if that is meant"
            )
            raise ValueError(msg)
        if self.ws_uri.user_info is not None:
            msg = "the URI names a user, whose password would be sent beside the token: leave both out of the URI"
            raise ValueError(msg)
        self._tokens = long_lived(tokens, min_ttl)
        others = Headers(additional_headers or ())
        self._others = [field for field in others.raw_items() if field[0].lower() != _FIELD.lower()]
        self._authorization_of = hidden_authorization()

    def __await__(self) -> Generator[Any, None, client.ClientConnection]:
        # `async for` and `async with` await it as well.
        return self._opened().__await__()

    async def _opened(self) -> client.ClientConnection:
        token = await self._tokens.get()
        found = await self._shaken(token)
        if isinstance(found, client.ClientConnection):
            return found
        try:
            other = await self._tokens.refused(token)
            found = found if other is None else await self._shaken(other)
            if isinstance(found, InvalidStatus):
                raise found
            return found
        finally:
            del found

    async def _shaken(self, token: Token) -> client.ClientConnection | InvalidStatus:
        """Return a connection, or the answer that refuses *token*."""
        # A copy for each attempt, because it goes on at the place that a redirect led to.
        attempt = copy.copy(self)
        attempt.additional_headers = [*self._others, (_FIELD, self._authorization_of(token))]
        try:
            return await _handshake(attempt)
        except InvalidStatus as error:
            # After a redirect to another origin it is not among them.
            if _FIELD not in Headers(attempt.additional_headers or ()):
                raise
            challenge = ", ".join(error.response.headers.get_all("WWW-Authenticate"))
            if not is_refusal(error.response.status_code, challenge, token):
                raise
            return error


class _Discreet(logging.LoggerAdapter[Any]):
    """The library's logger, which writes all header fields at level DEBUG."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log it without a token."""
        shown = (repr(one) if isinstance(one, HiddenField) else one for one in args)
        super().log(level, msg, *shown, **kwargs)
