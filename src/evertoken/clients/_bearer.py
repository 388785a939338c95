"""
The flow of a bearer token through an HTTP client. It imports no HTTP library, because httpx and httpx2 share it.

No lock is held while a request is out, so a stream of an hour blocks nobody.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

import anyio

from evertoken._engine.clock import SystemClock
from evertoken._model.parsing import number
from evertoken._model.token import SETTLES_IN
from evertoken.clients._binding import Binding
from evertoken.clients._origin import origin_in
from evertoken.clients._refusal import NOTED, UNAUTHORIZED, blames_token, forbids_token
from evertoken.clients._replayable import replayable
from evertoken.clients._withheld import Unpickled, unsigned_on_failure, withholding

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Container, Generator, Iterator

    from evertoken._model.token import Token

__all__ = ["BearerFlow"]

# Seconds before a new token that is not yet known everywhere is sent again, and how often that is done at most.
_MOMENT: Final = 1.0
_MOMENTS: Final = 5


class BearerFlow(Binding):
    """
    Sends the token of a reader to the origins it is bound to. If the token is refused, it tries once with another.

    Args:
        tokens: A handle of a manager, or any object with its `get` and `refused`.

        origins:
            The origins that may receive the token, such as "https://api.example.com". By default, only the first origin
            that it is used with.

        allow_http: Also send the token over plain http to hosts other than loopback.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: A text in *origins* is not an origin, or is http outside loopback; or *min_ttl* is not a valid
            number of seconds.
    """

    requires_request_body = False
    requires_response_body = False
    #: The header field that carries the token.
    field = "authorization"
    hidden: ClassVar[Callable[[str], str]] = Unpickled

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """
        Send the token. If it is refused, report it and try once with another.

        Raises:
            OriginRefused: The request goes to another origin, or over http outside loopback. Nothing was sent.
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token, and the grant is rejected.
        """
        url = request.url
        if (url.scheme, url.raw_host, url.port) not in self._admitted:
            self._admit(url)
        token = await self._tokens.get()
        if self.requires_request_body:
            await self._aread_body(request)
        for healed in (False, True):
            self._sign(request, token)
            response = yield request
            if response.status_code not in self.noted:
                return
            moments = iter(range(_MOMENTS))
            while (again := self._settling(request, response, token, moments)) is not None:
                await response.aread()
                await anyio.sleep(_MOMENT)
                response = yield again
            if response.status_code in self.telling:
                await response.aread()
            again = self._seen(request, response, token)
            if again is not None:
                await response.aread()
                response = yield again
                if response.status_code in self.telling:
                    await response.aread()
                self._seen(again, response, token)
            if healed or not (self._blames_token(response) or self._forbids_token(response, token)):
                return
            again = _to_send_again(request, response)
            if again is not None:
                # An unread answer would keep its connection, and the fetch may need one from the same pool.
                await response.aread()
            with unsigned_on_failure(request, response):
                other = await self._tokens.refused(token, wait=again is not None)
            if again is None or other is None:
                return
            request, token = again, other

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Do the same for a sync client, in another thread than the manager's."""
        url = request.url
        if (url.scheme, url.raw_host, url.port) not in self._admitted:
            self._admit(url)
        token = self._tokens.get_sync()
        if self.requires_request_body:
            self._read_body(request)
        for healed in (False, True):
            self._sign(request, token)
            response = yield request
            if response.status_code not in self.noted:
                return
            moments = iter(range(_MOMENTS))
            while (again := self._settling(request, response, token, moments)) is not None:
                response.read()
                threading.Event().wait(_MOMENT)
                response = yield again
            if response.status_code in self.telling:
                response.read()
            again = self._seen(request, response, token)
            if again is not None:
                response.read()
                response = yield again
                if response.status_code in self.telling:
                    response.read()
                self._seen(again, response, token)
            if healed or not (self._blames_token(response) or self._forbids_token(response, token)):
                return
            again = _to_send_again(request, response)
            if again is not None:
                response.read()
            with unsigned_on_failure(request, response):
                other = self._tokens.refused_sync(token, wait=again is not None)
            if again is None or other is None:
                return
            request, token = again, other

    def _admit(self, url: Any) -> None:
        origin = origin_in(url)
        if origin in self._origins:
            self._remember((url.scheme, url.raw_host, url.port))
            return
        self._admit_origin(origin)

    # Subclasses for other kinds of credentials change these

    #: Status codes of the answers that are examined. All other answers go to the caller at once.
    noted: ClassVar[Container[int]] = NOTED
    #: Status codes of answers whose bodies are read first, because they describe the fault.
    telling: ClassVar[frozenset[int]] = frozenset()
    #: Status codes that may mean that the token was not sent along.
    wanting: ClassVar[frozenset[int]] = frozenset({UNAUTHORIZED})

    async def _aread_body(self, request: Any) -> None:
        """Read the body before the request is signed."""
        await request.aread()

    def _read_body(self, request: Any) -> None:
        request.read()

    def _sign(self, request: Any, token: Token) -> None:
        if request.url.scheme == "http" and request.url.port is None:
            # If the same host redirects to https, which is another origin, a client would take the field along.
            request.headers = withholding(request.headers, {"Authorization": token.authorization})
        else:
            request.headers["Authorization"] = self._authorization_of(token)

    def _seen(self, request: Any, response: Any, token: Token) -> Any | None:
        """Examine *response*. Return the request to send again at once with the same token, if there is one."""
        if response.status_code not in self.wanting or self.field in response.request.headers:
            return None
        again = self._sent_on(request, response)
        if again is not None:
            self._sign(again, token)
        return again

    def _sent_on(self, request: Any, response: Any) -> Any | None:
        """Return the last request of the redirects, if it can be sent again and no foreign origin was involved."""
        last = response.request
        if last is request or any(origin_in(one.request.url) not in self._origins for one in response.history):
            return None
        if origin_in(last.url) not in self._origins:
            return None
        return last if replayable(last) or (last.stream is request.stream and replayable(request)) else None

    def _blames_token(self, response: Any) -> bool:
        return blames_token(response.status_code, _challenge(response)) and self._came_along(response)

    #: Status codes, besides 401, by which servers that read this field refuse a token.
    refused_by: frozenset[int] = frozenset()

    def _forbids_token(self, response: Any, token: Token) -> bool:
        if response.status_code == UNAUTHORIZED or not self._came_along(response):
            return False
        return forbids_token(response.status_code, _challenge(response), token, refused_by=self.refused_by)

    def _came_along(self, response: Any) -> bool:
        # After a redirect the answer may come from a foreign server, or was caused by one. A server that never saw the
        # token must not be able to invalidate it.
        last = response.request
        return self.field in last.headers and origin_in(last.url) in self._origins

    def _settling(self, request: Any, response: Any, token: Token, moments: Iterator[int]) -> Any | None:
        """
        Return the request to send again after a moment. The token is so new that some servers may not know it yet.
        """
        seconds = number(token.extra.get(SETTLES_IN)) if response.status_code == UNAUTHORIZED else None
        if seconds is None or SystemClock.time() - token.issued_at >= seconds or not self._blames_token(response):
            return None
        again = _to_send_again(request, response)
        if again is None or next(moments, None) is None:
            return None
        self._sign(again, token)
        return again


def _challenge(response: Any) -> str:
    value: str = response.headers.get("www-authenticate", "")
    return value


def _to_send_again(request: Any, response: Any) -> Any | None:
    """Return the request to send after *response*, or None if its body cannot be sent twice."""
    last = response.request
    # A POST that was answered by "see other" is done. Only the request after it is repeated.
    again = request if last.method == request.method else last
    return again if replayable(again) else None
