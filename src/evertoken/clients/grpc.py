"""A manager as interceptors of gRPC's clients, and as call credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

try:
    import grpc
    import grpc.aio
except ImportError as _error:
    msg = "evertoken.clients.grpc needs grpcio: pip install 'evertoken[grpc]'"
    raise ImportError(msg) from _error

from evertoken.clients._grpc_flow import CallDetails, GrpcFlow, Shape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["call_credentials", "interceptors", "interceptors_sync"]


def interceptors(
    tokens: TokenReader,
    *,
    origins: Iterable[str] = (),
    allow_insecure: bool = False,
    min_ttl: float | None = None,
) -> tuple[grpc.aio.ClientInterceptor, ...]:
    """
    Return interceptors for a channel of `grpc.aio`. They send the token of a manager, and heal a refusal once.

    If the server answers UNAUTHENTICATED to a call with one request, the token is reported and the call made once more
    with another one. Each attempt has the timeout of the call. A stream of requests cannot be sent twice, so the token
    is reported in the background, and the error is the caller's. If the server refuses it while requests are being
    written, grpc.aio may raise INTERNAL instead, and then the token is not reported.

    The token travels as call credentials, which gRPC sends over secure channels only (gRPC guide "Authentication").
    For a server on this machine, `grpc.local_channel_credentials()` makes a channel secure.

    Args:
        tokens: A handle of a manager.

        origins:
            The servers that may see the token, as in "https://api.example.com:8443". Without any, the first one it is
            used with.

        allow_insecure:
            Send the token as metadata, over channels without TLS as well. gRPC does not tell then where a channel
            leads, so make interceptors for each channel.

        min_ttl: The fewest seconds that the token of each call is valid for. It needs a handle.

    Raises:
        ValueError: An origin is not written as one, or is given beside *allow_insecure*; or *min_ttl* is no number of
            seconds.
    """
    flow = _Flow(tokens, origins=origins, allow_insecure=allow_insecure, min_ttl=min_ttl)
    return _UnaryUnary(flow), _UnaryStream(flow), _StreamUnary(flow), _StreamStream(flow)


def interceptors_sync(
    tokens: TokenReader,
    *,
    origins: Iterable[str] = (),
    allow_insecure: bool = False,
    min_ttl: float | None = None,
) -> tuple[_Sync, ...]:
    """
    Return the same for `grpc.intercept_channel(channel, *interceptors_sync(handle))`, in any thread but the loop's.

    A call as a future, `stub.Method.future(request)`, is not made once more: its token is reported in the background.
    Only if the refusal comes before the future is returned, the call is made once more.
    The arguments and the exceptions are those of `interceptors`.
    """
    return (_Sync(_Flow(tokens, origins=origins, allow_insecure=allow_insecure, min_ttl=min_ttl)),)


def call_credentials(tokens: TokenReader, *, origins: Iterable[str] = ()) -> grpc.CallCredentials:
    """
    Return call credentials that send the token of a manager, for `grpc.composite_channel_credentials`.

    gRPC asks them for the token of each call, in a thread, and does not tell them of a refusal: `interceptors` heal
    one. Without a token, a call fails with UNAVAILABLE.

    Args:
        tokens: A handle of a manager.

        origins: The servers that may see the token, as with `interceptors`.

    Raises:
        ValueError: An origin is not written as one.
    """
    return grpc.metadata_call_credentials(_Carrier(GrpcFlow(tokens, origins=origins)), "evertoken")


@final
class _Flow(GrpcFlow):
    """Makes call credentials of tokens, one for each."""

    _last: _Credentials | None = None

    def credentials_of(self, token: Token) -> _Credentials:
        """Return the call credentials of *token*."""
        known = self._last
        if known is None or known.token is not token:
            self._last = known = _Credentials(self, token)
        return known


@final
class _Carrier(grpc.AuthMetadataPlugin):  # type: ignore[misc]  # grpcio ships no types
    """Credentials that gRPC asks for metadata: of *token*, or of the token that is in service then."""

    def __init__(self, flow: GrpcFlow, token: Token | None = None) -> None:
        self._flow = flow
        self._token = token
        #: Whether gRPC has asked. It asks for calls of secure channels only.
        self.asked = False

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Give *callback* the metadata, or the error that the call fails with."""
        self.asked = True
        try:
            self._flow.admit(context.service_url)
            token = self._flow.tokens.get_sync() if self._token is None else self._token
        except Exception as error:  # noqa: BLE001 - gRPC tells the caller
            callback((), error)
            return
        callback(self._flow.metadata(token), None)


class _Credentials:
    """The call credentials of one token, which many calls share."""

    def __init__(self, flow: GrpcFlow, token: Token) -> None:
        self.token = token
        self.carrier = _Carrier(flow, token)
        self.made = grpc.metadata_call_credentials(self.carrier, "evertoken")


class _Signed:
    """A call with a token, and whether an answer to it refuses that token."""

    def __init__(self, flow: _Flow, given: Any, token: Token) -> None:
        metadata, credentials = flow.others(given.metadata), given.credentials
        self._carrier: _Carrier | None = None
        if flow.allow_insecure:
            metadata += flow.metadata(token)
        else:
            own = flow.credentials_of(token)
            self._carrier = own.carrier
            credentials = own.made if credentials is None else grpc.composite_call_credentials(credentials, own.made)
        compression = getattr(given, "compression", None)
        self.details = CallDetails(
            given.method, given.timeout, metadata, credentials, given.wait_for_ready, compression
        )

    def is_refused(self, code: grpc.StatusCode) -> bool:
        """Tell whether *code* is the server's, which has seen the token, and blames it."""
        return code is grpc.StatusCode.UNAUTHENTICATED and (self._carrier is None or self._carrier.asked)


class _Aio(Shape[_Flow]):
    async def _healed(self, begin: Callable[[CallDetails], Awaitable[Any]], given: Any) -> Any:
        """Await *begin*, and once more with another token if the first one is refused."""
        tokens = self._flow.tokens
        token = await tokens.get()
        signed = _Signed(self._flow, given, token)
        try:
            return await begin(signed.details)
        except grpc.aio.AioRpcError as error:
            if not signed.is_refused(error.code()):
                raise
            failure = error
        # Not in the handler: a failure to fetch would carry the frames of the call.
        try:
            other = await tokens.refused(token)
            if other is None:
                raise failure
        finally:
            del failure
        return await begin(_Signed(self._flow, given, other).details)

    async def _reported(self, continuation: Any, given: Any, requests: Any) -> Any:
        """Begin a call, and report its token if it is refused. The caller writes requests meanwhile."""
        token = await self._flow.tokens.get()
        signed = _Signed(self._flow, given, token)
        call = await continuation(signed.details, requests)
        self._flow.report_later(call, token, signed.is_refused)
        return call


@final
class _UnaryUnary(_Aio, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        async def begin(details: CallDetails) -> Any:
            call = await continuation(details, request)
            await call
            return call

        return await self._healed(begin, client_call_details)


@final
class _UnaryStream(_Aio, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        async def begin(details: CallDetails) -> Any:
            answers = aiter(await continuation(details, request))
            # A refusal comes in place of the first answer.
            first = [answer async for answer in _first(answers)]
            return _resumed(first, answers)

        return await self._healed(begin, client_call_details)


async def _first(answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for answer in answers:
        yield answer
        return


async def _resumed(first: list[Any], answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    for answer in first:
        yield answer
    async for answer in answers:
        yield answer


@final
class _StreamUnary(_Aio, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._reported(continuation, client_call_details, request_iterator)


@final
class _StreamStream(_Aio, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._reported(continuation, client_call_details, request_iterator)


@final
class _Sync(
    Shape[_Flow],
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        flow = self._flow
        token = flow.tokens.get_sync()
        signed = _Signed(flow, client_call_details, token)
        call = continuation(signed.details, request)
        if not call.done():
            # The caller asked for a future, and waits elsewhere.
            flow.report_sync(call, token, signed.is_refused)
            return call
        if not signed.is_refused(call.code()):
            return call
        other = flow.tokens.refused_sync(token)
        return call if other is None else continuation(_Signed(flow, client_call_details, other).details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return _Answers(self._flow, client_call_details, lambda details: continuation(details, request))

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        token = self._flow.tokens.get_sync()
        signed = _Signed(self._flow, client_call_details, token)
        call = continuation(signed.details, request_iterator)
        self._flow.report_sync(call, token, signed.is_refused)
        return call

    intercept_stream_stream = intercept_stream_unary


@final
class _Answers:
    """A call with a stream of answers. If its token is refused before the first one, it is made once more."""

    def __init__(self, flow: _Flow, given: Any, begin: Callable[[CallDetails], Any]) -> None:
        self._flow = flow
        self._given = given
        self._begin = begin
        self._token: Token | None = flow.tokens.get_sync()
        self._signed = _Signed(flow, given, self._token)
        self._call = begin(self._signed.details)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        token, self._token = self._token, None
        try:
            return next(self._call)
        except grpc.RpcError as error:
            if token is None or not self._signed.is_refused(error.code()):
                raise
            failure = error
        try:
            other = self._flow.tokens.refused_sync(token)
            if other is None:
                raise failure
        finally:
            del failure
        self._call = self._begin(_Signed(self._flow, self._given, other).details)
        return next(self._call)

    def __getattr__(self, name: str) -> Any:
        # It is the call in all else: code, cancel, metadata.
        return getattr(self._call, name)
