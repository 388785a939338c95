"""An adapter for aiohttp: a client middleware that sends the token of a manager."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, final

try:
    import aiohttp
except ImportError as _error:
    msg = "evertoken.clients.aiohttp needs aiohttp: pip install 'evertoken[aiohttp]'"
    raise ImportError(msg) from _error

from evertoken.clients._binding import Binding
from evertoken.clients._origin import Origin, as_http, origin_in_text, origin_of
from evertoken.clients._refusal import NOTED, is_refusal

__all__ = ["BearerMiddleware"]

_FIELD: Final = aiohttp.hdrs.AUTHORIZATION
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# The target of the last redirect by a foreign server. aiohttp follows it in the same task, without telling a
# middleware.
_led_to: ContextVar[str | None] = ContextVar("led_to", default=None)


@final
class BearerMiddleware(Binding):
    """
    A middleware of `aiohttp.ClientSession` that sends the token of a `TokenManager`, and heals a 401 once.

    Make it from a handle: `ClientSession(middlewares=[BearerMiddleware(tokens.handle())])`. A request to another origin
    is sent without the token, so several middlewares can share a session. The same holds for a redirect to another
    origin, and for a redirect back from there. A body that was used up is not sent again. Then the caller receives the
    401. ws and wss count as http and https. Middlewares that are given to one request replace those of the session.

    Args:
        tokens: A handle of a manager.

        origins: The origins that may receive the token. By default, only the first one that it is used with.

        allow_http: Also send the token over plain http to hosts other than loopback.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: A text in *origins* is not an origin, or is http outside loopback; or *min_ttl* is not a valid
            number of seconds.
    """

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """
        Send *request* with the token. If it is refused, report it and try once with another.

        Raises:
            OriginRefused: This would be the first request, and it goes over http outside loopback. Nothing was sent.
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token, and the grant is rejected.
        """
        url = request.url
        written = url.scheme, url.raw_host, url.port
        if written not in self._admitted:
            origin = origin_in_text(str(url))
            if self._origins and origin not in self._origins:
                return await _without(request, handler)
            self._admit_origin(origin)
            self._remember(written)
        led_to = _led_to.get()
        if led_to is not None and led_to == _plain(url):
            return await _without(request, handler)
        token = await self._tokens.get()
        request.headers[_FIELD] = self._authorization_of(token)
        response = await handler(request)
        if response.status not in NOTED:
            return response
        challenge = ", ".join(response.headers.getall("WWW-Authenticate", ()))
        if not is_refusal(response.status, challenge, token):
            return response
        replayable = not getattr(request.body, "consumed", False)
        if replayable:
            # An unread answer would keep its connection, and the fetch may need it.
            await response.read()
        try:
            other = await self._tokens.refused(token, wait=replayable)
        except BaseException:
            # The frames of the session hold the request.
            request.headers.popall(_FIELD, None)
            response.release()
            raise
        if other is None or not replayable:
            return response
        response.release()
        request.headers[_FIELD] = self._authorization_of(other)
        return await handler(request)

    def _origin_of(self, text: str) -> Origin:
        return as_http(origin_of(text))


async def _without(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send *request* without the token, and remember the target of a redirect."""
    response = await handler(request)
    location = response.headers.get("Location") if response.status in _REDIRECTS else None
    _led_to.set(None if location is None else _target(request.url, location))
    return response


def _target(url: Any, location: str) -> str | None:
    try:
        return _plain(url.join(type(url)(location)))
    except ValueError:
        return None


def _plain(url: Any) -> str:
    return str(type(url)(str(url)).with_fragment(None))
