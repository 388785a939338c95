"""The flow of a bearer token through requests. It imports no HTTP library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, final
from urllib.parse import urljoin

from evertoken.clients._binding import Binding
from evertoken.clients._hidden_field import hidden_authorization
from evertoken.clients._origin import Origin, as_http, origin_in_text, origin_of
from evertoken.clients._refusal import NOTED, is_refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["RequestsFlow"]

_FIELD: Final = "Authorization"


class RequestsFlow(Binding):
    """Sends the token of a reader in the requests of a session, and heals a refusal of it once."""

    #: The library's function that moves the body of a request back to where it began, and what it raises if it cannot.
    rewind: ClassVar[Any]
    unrewindable: ClassVar[Any]

    def __init__(
        self,
        tokens: TokenReader,
        *,
        origins: Iterable[str] = (),
        allow_http: bool = False,
        min_ttl: float | None = None,
    ) -> None:
        super().__init__(tokens, origins=origins, allow_http=allow_http, min_ttl=min_ttl)
        self._authorization_of = hidden_authorization()

    def sign(self, request: Any) -> Any:
        """Put the token into *request*, and have the answer looked at."""
        self._admit_origin(origin_in_text(request.url))
        return self._signed(request, self._tokens.get_sync())

    def _origin_of(self, text: str) -> Origin:
        return as_http(origin_of(text))

    # What happens to the answer

    def _signed(self, request: Any, token: Token) -> Any:
        request.headers[_FIELD] = self._authorization_of(token)
        request.register_hook("response", _Call(self, token).look)
        return request

    def _leads_away(self, response: Any) -> bool:
        # requests keeps the field from http to https of one host, which is another origin.
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

    def _again(self, response: Any, token: Token) -> Any:
        request = response.request
        # In the request itself: redirects of the next answer copy it.
        request.headers[_FIELD] = self._authorization_of(token)
        return request


@final
class _Call:
    """One call of a session, redirects included. A pickled request or response keeps nothing of it."""

    def __init__(self, flow: RequestsFlow | None = None, token: Token | None = None) -> None:
        self._flow = flow
        self._token = token

    def look(self, response: Any, **options: Any) -> Any:
        """Take note of *response*; if the token was refused, return the answer to the same request with another."""
        token = self._blamed(response)
        flow = self._flow
        if flow is None or token is None:
            return None
        replayable = flow._replayable(response.request)  # noqa: SLF001 - the two are one
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

    def __reduce__(self) -> tuple[Any, ...]:
        return _Call, ()

    def _blamed(self, response: Any) -> Token | None:
        """Return the token that *response* refuses, once."""
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
