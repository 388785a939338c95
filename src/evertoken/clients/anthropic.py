"""A manager as the `credentials` of Anthropic's SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self, final

try:
    from anthropic.lib.credentials import AccessToken
except ImportError as _error:
    msg = "evertoken.clients.anthropic needs anthropic: pip install 'evertoken[anthropic]'"
    raise ImportError(msg) from _error

from evertoken.clients._binding import Binding
from evertoken.clients._origin import origin_in_text

if TYPE_CHECKING:
    from evertoken._model.token import Token

__all__ = ["Credentials", "SyncCredentials"]

# An expiry of 0 makes the SDK ask before each request. With any other one it keeps the token in a cache of its own.
_ASK_EACH_TIME: Final = 0


class _Credentials(Binding):
    """The base of both kinds. It holds the origins, and the token that was given last."""

    # Its `repr` is all that `vars` shows of it.
    _given: Token | None = None

    def for_base_url(self, base_url: str) -> Self:
        """
        Return this object. The SDK calls it with the address of each client that is made with it.

        Raises:
            OriginRefused: The address is at another origin, or is http outside loopback.
        """
        self._admit_origin(origin_in_text(base_url))
        return self

    def _gives(self, token: Token) -> AccessToken:
        self._given = token
        return AccessToken(token.access_token, _ASK_EACH_TIME)


@final
class Credentials(_Credentials):
    """
    The credentials of an `AsyncAnthropic` client. They send the token of a `TokenManager`, and heal a 401 once.

    Made from a handle: `AsyncAnthropic(credentials=Credentials(tokens.handle()))`. The SDK asks for the token before
    each request, so it sends a new one at once. After a 401, the SDK waits about half a second, asks with
    `force_refresh=True`, and sends the request again. This reports the token that was given last, because the SDK does
    not say which one was refused. A client with `max_retries=0` does not send it again.

    Args:
        tokens: A handle of a manager.

        origins: The origins that may see the token. Without any, the origin of the first client's `base_url`.

        allow_http: Send it over plain http, and not to loopback alone.

        min_ttl: The fewest seconds for which the token of each request is valid. If None, any valid token will do.

    Raises:
        ValueError: An origin is not written as one, or is http outside loopback; or *min_ttl* is no number of seconds.
    """

    async def __call__(self, *, force_refresh: bool = False) -> AccessToken:
        """
        Return the token in the SDK's own form.

        Args:
            force_refresh: Whether the API refused the token that was given last.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
        """
        given = self._given if force_refresh else None
        other = None if given is None else await self._tokens.refused(given)
        return self._gives(other or await self._tokens.get())


@final
class SyncCredentials(_Credentials):
    """
    The credentials of an `Anthropic` client, which has no event loop. All else is as with `Credentials`.

    Made from a handle: `Anthropic(credentials=SyncCredentials(tokens.handle()))`. Call the client in other threads than
    the manager's. Any number of threads can share it.

    Args:
        tokens: A handle of a manager.

        origins: The origins that may see the token. Without any, the origin of the first client's `base_url`.

        allow_http: Send it over plain http, and not to loopback alone.

        min_ttl: The fewest seconds for which the token of each request is valid. If None, any valid token will do.

    Raises:
        ValueError: An origin is not written as one, or is http outside loopback; or *min_ttl* is no number of seconds.
    """

    def __call__(self, *, force_refresh: bool = False) -> AccessToken:
        """
        Return the token in the SDK's own form.

        Args:
            force_refresh: Whether the API refused the token that was given last.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
            RuntimeError: There is no valid token, and this is the manager's own loop, which it would block.
        """
        given = self._given if force_refresh else None
        other = None if given is None else self._tokens.refused_sync(given)
        return self._gives(other or self._tokens.get_sync())
