"""
The flow of a bearer token through an HTTP client. It imports no HTTP library: httpx and httpx2 share it.

No lock and nothing else is held while a request is out: an hour-long stream blocks nobody.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from evertoken._errors import OriginRefused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from evertoken._contracts import TokenReader
    from evertoken._token import Token

__all__ = ["BearerFlow", "Origin", "origin_of"]

Origin = tuple[str, str, int]

_PORTS: Final = {"http": 80, "https": 443}
_ORIGIN: Final = re.compile(r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[^/:?#@\s]+)(?::(?P<port>\d{1,5}))?/?")

# RFC 6750 section 3.1: with these the token is not what is wrong.
_NOT_THE_TOKEN: Final = re.compile(r"""\berror\s*=\s*"?(?:insufficient_scope|invalid_request)\b""", re.IGNORECASE)

_UNAUTHORIZED: Final = 401


def origin_of(text: str, /) -> Origin:
    """
    Return the origin (scheme, host, port) written as in "https://api.example.com:8443".

    Raises:
        ValueError: It is no origin; the message says what one looks like.
    """
    match = _ORIGIN.fullmatch(text.lower()) if isinstance(text, str) else None
    if match is None:
        msg = f"origins must be written as in 'https://api.example.com' or 'http://localhost:8000', not {text!r}"
        raise ValueError(msg)
    scheme, host, port = match["scheme"], match["host"].strip("[]"), match["port"]
    return scheme, host, int(port) if port else _PORTS[scheme]


class BearerFlow:
    """
    Sends the token of a reader to the origins it is bound to, and heals a 401 once.

    Args:
        tokens: A handle of a manager, or anything with its `get` and `refused`.

        origins:
            The origins that may see the token, as in "https://api.example.com". Without any, the first one it is
            used with.

    Raises:
        ValueError: An origin is not written as one.
    """

    requires_request_body = False
    requires_response_body = False

    def __init__(self, tokens: TokenReader, *, origins: Iterable[str] = ()) -> None:
        if isinstance(origins, str):
            origins = (origins,)
        self._tokens = tokens
        self._origins: frozenset[Origin] = frozenset(map(origin_of, origins))
        self._token: Token | None = None
        self._header = ""

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """
        Send the token; on a 401 report it, and try once with another.

        Raises:
            OriginRefused: The request is addressed to another origin. Nothing was sent.
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
        """
        self._admit(request)
        token = await self._tokens.get()
        self._sign(request, token)
        response = yield request
        if response.status_code == _UNAUTHORIZED and self._blames_token(response):
            again = _replayable(request)
            other = await self._tokens.refused(token, wait=again)
            if again and other is not None:
                self._sign(request, other)
                yield request

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """
        Do the same for a sync client in another thread than the manager's.
        """
        self._admit(request)
        token = self._tokens.get_sync()
        self._sign(request, token)
        response = yield request
        if response.status_code == _UNAUTHORIZED and self._blames_token(response):
            again = _replayable(request)
            other = self._tokens.refused_sync(token, wait=again)
            if again and other is not None:
                self._sign(request, other)
                yield request

    def __repr__(self) -> str:
        bound = ", ".join(sorted(map(_written, self._origins))) or "the first origin it is used with"
        return f"{type(self).__name__}(bound to {bound})"

    def _admit(self, request: Any) -> None:
        origin = _origin(request.url)
        if origin in self._origins:
            return
        if self._origins:
            bound = ", ".join(sorted(map(_written, self._origins)))
            msg = (
                f"this auth is bound to {bound} and was asked to send its token to {_written(origin)}; "
                f"name every origin that may see it: auth(origins=[...])"
            )
            raise OriginRefused(msg)
        self._origins = frozenset({origin})

    def _sign(self, request: Any, token: Token) -> None:
        # One formatted header for all requests of one token. Never a local: a traceback would show it.
        if token is not self._token:
            self._header = token.authorization
            self._token = token
        request.headers["Authorization"] = self._header

    def _blames_token(self, response: Any) -> bool:
        # After a redirect the 401 may be a stranger's, who never saw the token and must not cost us one.
        if _origin(response.request.url) not in self._origins:
            return False
        return not _NOT_THE_TOKEN.search(response.headers.get("www-authenticate", ""))


def _origin(url: Any) -> Origin:
    scheme = url.scheme
    return scheme, url.host, url.port or _PORTS.get(scheme, 0)


def _written(origin: Origin) -> str:
    scheme, host, port = origin
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" if _PORTS.get(scheme) == port else f"{scheme}://{host}:{port}"


def _replayable(request: Any) -> bool:
    try:
        request.content  # noqa: B018 - raises where the body is a stream
    except RuntimeError:
        return _replayable_multipart(request.stream)
    return True


def _replayable_multipart(stream: Any) -> bool:
    # A multipart body is written anew for each attempt, and its files are wound back if they can be.
    fields = getattr(stream, "fields", None)
    if not isinstance(fields, list) or not fields:
        return False
    return all(_replayable_file(getattr(field, "file", b"")) for field in fields)


def _replayable_file(file: Any) -> bool:
    if isinstance(file, str | bytes):
        return True
    seekable = getattr(file, "seekable", None)
    return seekable is not None and bool(seekable())
