"""The flow of a bearer token through requests and niquests. It imports neither: they have the same interface."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final, final
from urllib.parse import urljoin

from evertoken.clients._binding import Binding
from evertoken.clients._origin import Origin, as_http, origin_in_text, origin_of
from evertoken.clients._refusal import NOTED, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.token import Token

__all__ = ["RequestsFlow"]

_FIELD: Final = "Authorization"

# Where the authority begins in an URL of https.
_AUTHORITY: Final = len("https://")

# Below this status an answer neither leads elsewhere nor refuses a token.
_LEAST_NOTED: Final = 300


class RequestsFlow(Binding):
    """Sends the token of a reader in the requests of a session. If the token is refused, it tries once with another."""

    #: The library's function that rewinds the body of a request, and the exception that it raises if it cannot.
    rewind: ClassVar[Any]
    unrewindable: ClassVar[Any]
    #: The adapters of sessions that run coroutines, which this auth is not made for.
    of_coroutines: ClassVar[Any] = ()
    #: The same function for files that are read by coroutines, if the library has it.
    rewind_async: ClassVar[Any]

    def sign(self, request: Any) -> Any:
        """Put the token into *request*, and examine its answer later."""
        self._admit(request.url)
        token = self._tokens.get_sync()
        return self._signed(request, token, _Call(self, token).look)

    async def sign_async(self, request: Any) -> Any:
        """Do the same for a session of coroutines."""
        self._admit(request.url)
        token = await self._tokens.get()
        return self._signed(request, token, _Call(self, token).look_async)

    def _origin_of(self, text: str) -> Origin:
        return as_http(origin_of(text))

    def _admit(self, url: str) -> None:
        # All that the origin is made of stands before the first slash of the path.
        written = url[: url.find("/", _AUTHORITY) + 1] or url
        if written not in self._admitted:
            self._admit_origin(origin_in_text(url))
            self._remember(written)

    # Handling of the answer

    def _signed(self, request: Any, token: Token, look: Callable[..., Any]) -> Any:
        request.headers[_FIELD] = self._authorization_of(token)
        request.register_hook("response", look)
        return request

    def _leads_away(self, response: Any) -> bool:
        # The libraries keep the field on a redirect from http to https of one host, which is another origin.
        if not response.is_redirect:
            return False
        return origin_in_text(urljoin(response.url, response.headers["location"])) not in self._origins

    def _blames(self, response: Any, token: Token) -> bool:
        request = response.request
        if response.status_code not in NOTED or _FIELD not in request.headers:
            return False
        if origin_in_text(request.url) not in self._origins:
            return False
        return is_refusal(response.status_code, response.headers.get("www-authenticate", ""), token)

    def _replayable(self, request: Any) -> bool:
        if request.body is None or isinstance(request.body, str | bytes):
            return True
        try:
            type(self).rewind(request)
        except self.unrewindable:
            return False
        return True

    async def _replayable_async(self, request: Any) -> bool:
        if not inspect.iscoroutinefunction(getattr(request.body, "seek", None)):
            return self._replayable(request)
        try:
            await type(self).rewind_async(request)
        except self.unrewindable:
            return False
        return True

    def _again(self, response: Any, token: Token) -> Any:
        request = response.request
        # The field is set in the request itself, because redirects of the next answer copy it.
        request.headers[_FIELD] = self._authorization_of(token)
        return request


@final
class _Call:
    """One call of a session, with its redirects. A pickled request or response contains nothing of it."""

    def __init__(self, flow: RequestsFlow | None = None, token: Token | None = None) -> None:
        self._flow = flow
        self._token = token

    def look(self, response: Any, **options: Any) -> Any:
        """Examine *response*. If the token was refused, repeat the request with another one, and return its answer."""
        flow = self._flow
        if flow is not None and isinstance(getattr(response, "connection", None), flow.of_coroutines):
            msg = f"{type(flow).__name__} would block the loop of this session; use Async{type(flow).__name__} there"
            raise RuntimeError(msg)
        if response.status_code < _LEAST_NOTED:
            return None
        token = self._blamed(response)
        if flow is None or token is None:
            return None
        replayable = not _comes_later(options) and flow._replayable(response.request)  # noqa: SLF001 - the two are one
        if replayable:
            _ = response.content
            response.close()
        try:
            other = flow._tokens.refused_sync(token, wait=replayable)  # noqa: SLF001
        except BaseException:
            response.request.headers.pop(_FIELD, None)
            raise
        if other is None or not replayable:
            return None
        request = flow._again(response, other)  # noqa: SLF001
        return _replacing(response, response.connection.send(request, **options), request)

    async def look_async(self, response: Any, **options: Any) -> Any:
        """Do the same for a session of coroutines."""
        if response.status_code < _LEAST_NOTED:
            return None
        flow, token = self._flow, self._blamed(response)
        if flow is None or token is None:
            return None
        replayable = not _comes_later(options) and await flow._replayable_async(response.request)  # noqa: SLF001
        if replayable:
            await _awaited(response.content)
            await _awaited(response.close())
        try:
            other = await flow._tokens.refused(token, wait=replayable)  # noqa: SLF001
        except BaseException:
            response.request.headers.pop(_FIELD, None)
            raise
        if other is None or not replayable:
            return None
        request = flow._again(response, other)  # noqa: SLF001
        return _replacing(response, await response.connection.send(request, **options), request)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Call, ()

    def _blamed(self, response: Any) -> Token | None:
        """Return the token that *response* refuses. A second call returns None."""
        flow, token = self._flow, self._token
        if flow is None or token is None:
            return None
        if flow._leads_away(response):  # noqa: SLF001
            response.request.headers.pop(_FIELD, None)
        if not flow._blames(response, token):  # noqa: SLF001
            return None
        self._token = None
        return token


def _replacing(response: Any, newer: Any, request: Any) -> Any:
    newer.history.append(response)
    newer.request = request
    return newer


def _comes_later(options: dict[str, Any]) -> bool:
    # A multiplexed request has its answer already, which is filled in now and cannot be replaced by another.
    return bool(options.get("multiplexed"))


async def _awaited(value: Any) -> None:
    if inspect.isawaitable(value):
        await value
