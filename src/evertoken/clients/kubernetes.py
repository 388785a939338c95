"""A manager as the token of the clients of `kubernetes`, `kubernetes.aio` and `kubernetes_asyncio`. It imports none."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, final

from evertoken.clients._binding import Binding
from evertoken.clients._given import Given
from evertoken.clients._origin import origin_in_text
from evertoken.clients._refusal import UNAUTHORIZED
from evertoken.clients._uncopied import Uncopied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["authenticate", "heal"]

# The second is read by kubernetes_asyncio, the first by kubernetes before 36, and either by the newer ones.
_KEYS: Final = ("authorization", "BearerToken")
_FIELD: Final = "authorization"


class _Configuration(Protocol):
    host: Any
    api_key: Any
    api_key_prefix: Any
    refresh_api_key_hook: Any


class _ApiClient(Protocol):
    configuration: Any
    rest_client: Any


ConfigurationT = TypeVar("ConfigurationT", bound=_Configuration)
ApiClientT = TypeVar("ApiClientT", bound=_ApiClient)


def authenticate(
    configuration: ConfigurationT, tokens: TokenReader, *, origins: Iterable[str] = (), allow_http: bool = False
) -> ConfigurationT:
    """
    Have the clients of *configuration*, and of its copies, send the token of a manager; return *configuration*.

    The token is looked up before each request and each WebSocket, so a new token is sent with the next one. Such a
    client tells nobody of a 401. Use `heal` on the client instead, or wrap the call in `TokenHandle.attempt` with
    `refused=` the `UnauthorizedException` of the library.

    Args:
        configuration: A `Configuration` of `kubernetes.client`, `kubernetes.aio.client` or `kubernetes_asyncio.client`.

        tokens: A handle of a manager.

        origins: The origins that may see the token. Without any, that of the `host` that is used first.

        allow_http: Send it over plain http, and not to loopback alone.

    Raises:
        ValueError: An origin is not written as one, or is http outside loopback.
    """
    kind = _AsyncHook if inspect.iscoroutinefunction(getattr(configuration, "get_api_key_with_prefix", None)) else _Hook
    configuration.refresh_api_key_hook = kind(tokens, origins=origins, allow_http=allow_http)
    for key in _KEYS:
        # The hook is not called unless there is a key. Its value has the scheme already.
        configuration.api_key[key] = ""
        configuration.api_key_prefix.pop(key, None)
    return configuration


def heal(
    api_client: ApiClientT, tokens: TokenReader, *, origins: Iterable[str] = (), allow_http: bool = False
) -> ApiClientT:
    """
    Have *api_client* send the token of a manager, and send a request once more where the token is refused; return it.

    It does what `authenticate` does with the configuration of the client. A 401 is healed for all requests, watches
    included. It is not for WebSockets (`stream`): their handshake fails with a status of the library's.

    Args:
        api_client: An `ApiClient` of one of the three libraries.

        tokens: A handle of a manager.

        origins: The origins that may see the token. Without any, that of the `host` that is used first.

        allow_http: Send it over plain http, and not to loopback alone.

    Raises:
        ValueError: An origin is not written as one, or is http outside loopback.
    """
    hook = authenticate(api_client.configuration, tokens, origins=origins, allow_http=allow_http).refresh_api_key_hook
    rest = api_client.rest_client
    rest.request = (_AsyncRequest if isinstance(hook, _AsyncHook) else _Request)(rest.request, hook)
    return api_client


class _Hook(Binding):
    """A configuration calls this before each request."""

    def __init__(self, tokens: TokenReader, *, origins: Iterable[str] = (), allow_http: bool = False) -> None:
        super().__init__(tokens, origins=origins, allow_http=allow_http)
        self.given = Given()

    def __call__(self, configuration: Any) -> Any:
        self._admit(configuration.host)
        self._put(configuration, self._tokens.get_sync())

    def _admit(self, host: str) -> None:
        if host not in self._admitted:
            self._admit_origin(origin_in_text(host))
            self._remember(host)

    def _put(self, configuration: Any, token: Token) -> None:
        field = self.field(token)
        for key in _KEYS:
            configuration.api_key[key] = field

    def field(self, token: Token) -> str:
        """Return the value of the field, and take note of *token*."""
        return self._authorization_of(self.given.note(token))

    def refused(self, token: Token) -> Token | None:
        """Report *token*, and return another."""
        return self._tokens.refused_sync(token)


@final
class _AsyncHook(_Hook):
    async def __call__(self, configuration: Any) -> None:
        self._admit(configuration.host)
        self._put(configuration, await self._tokens.get())

    async def refused_async(self, token: Token) -> Token | None:
        """Report *token*, and return another."""
        return await self._tokens.refused(token)


class _Healing(Uncopied):
    def __init__(self, request: Any, hook: Any) -> None:
        self._request = request
        self._hook = hook

    def _sent(self, options: dict[str, Any]) -> Token | None:
        """Return the token that a request with *options* carries."""
        field = (options.get("headers") or {}).get(_FIELD, "")
        token: Token | None = self._hook.given.find(field.partition(" ")[2])
        return token

    def _copied(self, options: dict[str, Any], **fields: str) -> dict[str, Any]:
        # The library changes the fields as it sends them.
        return {**options, "headers": {**options["headers"], **fields}}


@final
class _Request(_Healing):
    """The `request` of a REST client, which heals a 401."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        token = self._sent(options)
        if token is None:
            return self._request(*args, **options)
        response = failure = None
        try:
            response = self._request(*args, **self._copied(options))
        except Exception as error:
            if not _is_refused(error):
                raise
            failure = error
        if failure is None and not _is_refused(response):
            return response
        try:
            # Not in the handler: a failure to fetch would carry the frames of the request.
            if response is not None:
                # Unread, it would keep a connection.
                response.read()
            other = self._hook.refused(token)
            if other is None and failure is not None:
                raise failure
        finally:
            del failure
        if other is None:
            return response
        return self._request(*args, **self._copied(options, authorization=self._hook.field(other)))


@final
class _AsyncRequest(_Healing):
    """The same of a REST client with coroutines."""

    async def __call__(self, *args: Any, **options: Any) -> Any:
        token = self._sent(options)
        if token is None:
            return await self._request(*args, **options)
        response = failure = None
        try:
            response = await self._request(*args, **self._copied(options))
        except Exception as error:
            if not _is_refused(error):
                raise
            failure = error
        if failure is None and not _is_refused(response):
            return response
        try:
            if response is not None:
                # Unread, it would keep a connection.
                await response.read()
            other = await self._hook.refused_async(token)
            if other is None and failure is not None:
                raise failure
        finally:
            del failure
        if other is None:
            return response
        return await self._request(*args, **self._copied(options, authorization=self._hook.field(other)))


def _is_refused(outcome: Any) -> bool:
    """Tell whether a response, or the exception in its place, has the status 401."""
    return bool(getattr(outcome, "status", None) == UNAUTHORIZED)
