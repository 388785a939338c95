"""A manager as the credential of azure-core, and transports that heal a 401."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, Self, final

try:
    from azure.core.credentials import AccessToken, AccessTokenInfo
    from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpTransport, HttpTransport, RequestsTransport
except ImportError as _error:
    msg = "evertoken.clients.azure needs azure-core and aiohttp: pip install 'evertoken[azure]'"
    raise ImportError(msg) from _error

from evertoken.clients._azure_flow import FIELD, Scopes, place_of, rewound
from evertoken.clients._hidden_field import HiddenField
from evertoken.clients._uncopied import Uncopied

if TYPE_CHECKING:
    from types import TracebackType

    from azure.core.credentials import TokenRequestOptions

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token
    from evertoken.clients._azure_flow import HandleMaker

__all__ = ["AsyncHealingTransport", "AsyncTokenCredential", "HealingTransport", "TokenCredential"]

# The end of the year 9999. It stands for an unknown expiry.
_NEVER: Final = 253_402_300_799
# Long past, so that the policy asks before each request and keeps no token of its own.
_ALWAYS: Final = 1


@final
class _Info(AccessTokenInfo):
    """The result of `get_token_info`. Its `repr` does not show the token."""

    def __repr__(self) -> str:
        return f"AccessTokenInfo(token={self.token!r}, expires_on={self.expires_on})"


class _Credential(Uncopied):
    def __init__(self, tokens: TokenReader | HandleMaker) -> None:
        self._scopes = Scopes(tokens)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@final
class TokenCredential(_Credential):
    """
    A credential for the synchronous clients of Azure's SDK, from a manager in another thread.

    Made from a handle: `BlobServiceClient(url, credential=TokenCredential(tokens.handle()))`. The bearer policy of
    azure-core asks it before each request, so a new token is sent with the next one. The policy does not tell it of a
    401: use `HealingTransport` as well.

    Args:
        tokens:
            A handle of a manager, whose token serves all scopes. Or a manager whose keys are scopes, such as
            "https://storage.azure.com/.default"; several scopes of one request are joined by spaces.
    """

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,  # noqa: ARG002 - the protocol's, and the source knows the tenant
        enable_cae: bool = False,  # noqa: ARG002 - likewise
        **_options: Any,
    ) -> AccessToken:
        """
        Return a valid token.

        Args:
            scopes: The scopes of the token. See the class.

            claims: The demands of a resource server on the next token. The last given token counts as refused, and
                another one is fetched. The source is not told the claims.

            tenant_id: It is not used.

            enable_cae: It is not used.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
            LookupError: The manager has no key of these scopes.
            RuntimeError: There is no valid token, and this is the manager's own loop, which it would block.
        """
        info = self._given(scopes, claims)
        return AccessToken(info.token, info.expires_on)

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Do what `get_token` does, with the arguments in *options*. It is what the bearer policy calls."""
        return self._given(scopes, (options or {}).get("claims"))

    def _given(self, scopes: tuple[str, ...], claims: str | None) -> AccessTokenInfo:
        scope = self._scopes.of(scopes)
        last = scope.given.last if claims else None
        other = None if last is None else scope.reader.refused_sync(last)
        info: AccessTokenInfo = scope.give(other or scope.reader.get_sync(), _info)
        return info

    def close(self) -> None:
        """Do nothing: the manager stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@final
class AsyncTokenCredential(_Credential):
    """
    A credential for the clients in the `aio` packages of Azure's SDK.

    It is to `AsyncHealingTransport` what `TokenCredential` is to `HealingTransport`, and takes the same arguments.

    Args:
        tokens: A handle of a manager, or a manager whose keys are scopes.
    """

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,  # noqa: ARG002 - the protocol's, and the source knows the tenant
        enable_cae: bool = False,  # noqa: ARG002 - likewise
        **_options: Any,
    ) -> AccessToken:
        """
        Return a valid token, as `TokenCredential.get_token` does.

        Raises:
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
            LookupError: The manager has no key of these scopes.
        """
        info = await self._given(scopes, claims)
        return AccessToken(info.token, info.expires_on)

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Do what `get_token` does, with the arguments in *options*. It is what the bearer policy calls."""
        return await self._given(scopes, (options or {}).get("claims"))

    async def _given(self, scopes: tuple[str, ...], claims: str | None) -> AccessTokenInfo:
        scope = self._scopes.of(scopes)
        last = scope.given.last if claims else None
        other = None if last is None else await scope.reader.refused(last)
        info: AccessTokenInfo = scope.give(other or await scope.reader.get(), _info)
        return info

    async def close(self) -> None:
        """Do nothing: the manager stays open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


@final
class HealingTransport(Uncopied, HttpTransport[Any, Any]):
    """
    A transport that sends a request again, with another token, if the server refuses the one in it.

    `BlobServiceClient(url, credential=credential, transport=HealingTransport(credential))`. Only tokens that
    *credential* gave are replaced. A body that cannot be wound back is not sent again, and then the 401 is the
    caller's.

    Args:
        credential: The credential of the same client.

        transport: Sends the requests. By default, it is a new `RequestsTransport`.
    """

    def __init__(self, credential: TokenCredential, transport: HttpTransport[Any, Any] | None = None) -> None:
        self._scopes = credential._scopes  # noqa: SLF001 - the two are one
        self._transport = RequestsTransport() if transport is None else transport

    def send(self, request: Any, **kwargs: Any) -> Any:
        """
        Send *request*; where its token is refused, report the token and send once more with another.

        Raises:
            TokenUnavailable: The token was refused and no other can be fetched now.
            GrantRejected: The token was refused and the grant is rejected.
        """
        place = place_of(request)
        response = self._transport.send(request, **kwargs)
        refused = self._scopes.refused(request, response)
        if refused is None:
            return response
        scope, token = refused
        again = rewound(request, place)
        try:
            other = scope.reader.refused_sync(token, wait=again)
        except BaseException:
            # The frames of the pipeline hold the request.
            request.headers.pop(FIELD, None)
            raise
        if other is None:
            return response
        _closing(response)()
        request.headers[FIELD] = scope.authorization_of(scope.given.note(other))
        return self._transport.send(request, **kwargs)

    def open(self) -> None:
        """Open the transport that sends."""
        self._transport.open()

    def close(self) -> None:
        """Close the transport that sends."""
        self._transport.close()

    def sleep(self, duration: float) -> None:
        """Wait *duration* seconds before a retry, as the transport that sends does."""
        self._transport.sleep(duration)

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(exc_type, exc_value, traceback)


@final
class AsyncHealingTransport(Uncopied, AsyncHttpTransport[Any, Any]):
    """
    The same as `HealingTransport`, for the clients in the `aio` packages.

    Args:
        credential: The credential of the same client.

        transport: Sends the requests. By default, it is a new `AioHttpTransport`.
    """

    def __init__(self, credential: AsyncTokenCredential, transport: AsyncHttpTransport[Any, Any] | None = None) -> None:
        self._scopes = credential._scopes  # noqa: SLF001 - the two are one
        self._transport = AioHttpTransport() if transport is None else transport

    async def send(self, request: Any, **kwargs: Any) -> Any:
        """
        Send *request*; where its token is refused, report the token and send once more with another.

        Raises:
            TokenUnavailable: The token was refused and no other can be fetched now.
            GrantRejected: The token was refused and the grant is rejected.
        """
        place = place_of(request)
        response = await self._transport.send(request, **kwargs)
        refused = self._scopes.refused(request, response)
        if refused is None:
            return response
        scope, token = refused
        again = rewound(request, place)
        try:
            other = await scope.reader.refused(token, wait=again)
        except BaseException:
            # The frames of the pipeline hold the request.
            request.headers.pop(FIELD, None)
            raise
        if other is None:
            return response
        closed = _closing(response)()
        if inspect.isawaitable(closed):
            await closed
        request.headers[FIELD] = scope.authorization_of(scope.given.note(other))
        return await self._transport.send(request, **kwargs)

    async def open(self) -> None:
        """Open the transport that sends."""
        await self._transport.open()

    async def close(self) -> None:
        """Close the transport that sends."""
        await self._transport.close()

    async def sleep(self, duration: float) -> None:
        """Wait *duration* seconds before a retry, as the transport that sends does."""
        await self._transport.sleep(duration)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)


def _info(token: Token) -> AccessTokenInfo:
    expires_on = _NEVER if token.expires_at is None else int(token.expires_at)
    return _Info(HiddenField(token.access_token), expires_on, refresh_on=_ALWAYS)


def _closing(response: Any) -> Any:
    """Return the function that gives the connection of *response* back."""
    return getattr(response, "close", None) or response.internal_response.close
