"""A manager as interceptors of gRPC's clients, and as call credentials."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, final

try:
    import grpc
    import grpc.aio
except ImportError as _error:
    msg = "evertoken.clients.grpc needs grpcio: pip install 'evertoken[grpc]'"
    raise ImportError(msg) from _error

from evertoken._engine.observers import say
from evertoken.clients._binding import Binding
from evertoken.clients._hidden_field import hidden_authorization
from evertoken.clients._origin import origin_in_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["call_credentials", "interceptors", "interceptors_sync"]

_FIELD: Final = "authorization"


def interceptors(
    tokens: TokenReader, *, origins: Iterable[str] = (), allow_insecure: bool = False
) -> tuple[grpc.aio.ClientInterceptor, ...]:
    """
    Return interceptors for a channel of `grpc.aio`, which send the token of a manager and heal a refusal once.

    A call with one request is sent again with another token if the server answers UNAUTHENTICATED; each attempt has
    the timeout of the call. A stream of requests cannot be sent twice: then the token is reported in the background,
    and the error is the caller's. The token travels as call credentials (gRPC guide "Authentication"), which gRPC
    sends over secure channels alone: `grpc.local_channel_credentials()` makes one to a server on this machine.

    Args:
        tokens: A handle of a manager.

        origins:
            The channels that may see the token, as in "https://api.example.com". Without any, the first one it is used
            with. gRPC names no origin with *allow_insecure*, so then make interceptors for each channel.

        allow_insecure: Send the token as metadata of the call, over channels without TLS as well.

    Raises:
        ValueError: An origin is not written as one, or stands beside *allow_insecure*.
    """
    flow = _Flow(tokens, origins=origins, allow_insecure=allow_insecure)
    return _UnaryUnary(flow), _UnaryStream(flow), _StreamUnary(flow), _StreamStream(flow)


def interceptors_sync(
    tokens: TokenReader, *, origins: Iterable[str] = (), allow_insecure: bool = False
) -> tuple[Any, ...]:
    """
    Return the same for `grpc.intercept_channel(channel, *interceptors_sync(handle))`, in other threads than the loop's.

    A future (`stub.Method.future(request)`) is not healed: its token is reported in the background. The arguments and
    what is raised are those of `interceptors`.
    """
    return (_Sync(_Flow(tokens, origins=origins, allow_insecure=allow_insecure)),)


def call_credentials(tokens: TokenReader, *, origins: Iterable[str] = ()) -> grpc.CallCredentials:
    """
    Return call credentials that send the token of a manager, for `grpc.composite_channel_credentials`.

    gRPC asks them for each call, in a thread of its own, and tells them of no refusal: use `interceptors` for that.

    Args:
        tokens: A handle of a manager.

        origins: The channels that may see the token, as with `interceptors`.

    Raises:
        ValueError: An origin is not written as one.
    """
    return grpc.metadata_call_credentials(_Carrier(_Flow(tokens, origins=origins), None), "evertoken")


@final
class _Flow(Binding):
    """Puts the token of a reader into the details of calls, and reports refusals."""

    def __init__(self, tokens: TokenReader, *, origins: Iterable[str] = (), allow_insecure: bool = False) -> None:
        super().__init__(tokens, origins=origins)
        if allow_insecure and self._origins:
            msg = "origins cannot be kept with allow_insecure=True: gRPC names no origin there"
            raise ValueError(msg)
        self.tokens: TokenReader = tokens
        self._insecure = allow_insecure
        self._authorization_of = hidden_authorization()
        # Reports under way: nobody else refers to them.
        self._reports: set[asyncio.Task[None]] = set()

    def field(self, token: Token, url: str | None = None) -> tuple[tuple[str, str]]:
        """Return the metadata that carries *token* to *url*, the address of a service as gRPC writes it."""
        if url is not None:
            self._admit_origin(origin_in_text(url))
        return ((_FIELD, self._authorization_of(token)),)

    def signed(self, details: Any, token: Token) -> tuple[_Details, _Carrier | None]:
        """Return the details of a call with *token*, and its carrier, if it has one."""
        metadata = tuple(one for one in details.metadata or () if one[0].lower() != _FIELD)
        credentials, carrier = details.credentials, None
        if self._insecure:
            metadata += self.field(token)
        else:
            carrier = _Carrier(self, token)
            own = grpc.metadata_call_credentials(carrier, "evertoken")
            credentials = own if credentials is None else grpc.composite_call_credentials(credentials, own)
        compression = getattr(details, "compression", None)
        made = _Details(details.method, details.timeout, metadata, credentials, details.wait_for_ready, compression)
        return made, carrier

    def watch(self, call: Any, token: Token) -> Any:
        """Have *call* of asyncio reported in the background if its token is refused, and return it."""
        loop = asyncio.get_running_loop()

        def begin(_: object) -> None:
            task = loop.create_task(self._report(call, token), name="evertoken:grpc")
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

        call.add_done_callback(begin)
        return call

    async def _report(self, call: Any, token: Token) -> None:
        try:
            if await call.code() is grpc.StatusCode.UNAUTHENTICATED:
                await self.tokens.refused(token, wait=False)
        except Exception as error:  # noqa: BLE001 - the caller has the error of the call
            say(logging.DEBUG, "reporting a refused token raised %s", type(error).__qualname__)

    def watch_sync(self, call: Any, token: Token) -> Any:
        """Do the same with a call of a thread."""

        def report(done: Any) -> None:
            try:
                if done.code() is grpc.StatusCode.UNAUTHENTICATED:
                    self.tokens.refused_sync(token, wait=False)
            except Exception as error:  # noqa: BLE001 - the caller has the error of the call
                say(logging.DEBUG, "reporting a refused token raised %s", type(error).__qualname__)

        call.add_done_callback(report)
        return call


class _Details(NamedTuple):
    """What gRPC is told of a call, with and without asyncio."""

    method: Any
    timeout: float | None
    metadata: tuple[tuple[str, Any], ...]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


@final
class _Carrier(grpc.AuthMetadataPlugin):  # type: ignore[misc]  # grpcio ships no types
    """Call credentials: of one token, or of the one in service when gRPC asks."""

    def __init__(self, flow: _Flow, token: Token | None) -> None:
        self._flow = flow
        self._token = token
        #: Whether gRPC has asked, which it does for secure channels alone.
        self.asked = False

    def __call__(self, context: Any, callback: Callable[..., object]) -> None:
        """Give gRPC the metadata, or the reason why there is none."""
        self.asked = True
        try:
            token = self._flow.tokens.get_sync() if self._token is None else self._token
            metadata = self._flow.field(token, context.service_url)
        except Exception as error:  # noqa: BLE001 - gRPC raises it in the call
            callback(None, error)
            return
        callback(metadata, None)


class _Shape:
    """An interceptor for one shape of calls."""

    def __init__(self, flow: _Flow) -> None:
        self._flow = flow

    def __repr__(self) -> str:
        return f"{type(self).__name__.strip('_')}({self._flow!r})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    async def _healed(self, begin: Callable[[Any], Any], details: Any) -> Any:
        """Return what *begin* does with the details, with another token if it raises that the first is refused."""
        tokens = self._flow.tokens
        token = await tokens.get()
        signed, carrier = self._flow.signed(details, token)
        try:
            return await begin(signed)
        except grpc.aio.AioRpcError as error:
            if not _refused(error, carrier):
                raise
            failure = error
        # Not in the handler: a failure to fetch would carry the frames of the call.
        try:
            other = await tokens.refused(token)
            if other is None:
                raise failure
        finally:
            del failure
        return await begin(self._flow.signed(details, other)[0])

    async def _watched(self, continuation: Any, details: Any, requests: Any) -> Any:
        token = await self._flow.tokens.get()
        return self._flow.watch(await continuation(self._flow.signed(details, token)[0], requests), token)


def _refused(error: Any, carrier: _Carrier | None) -> bool:
    """Tell whether *error* is the server's, and about the token."""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED and (carrier is None or carrier.asked)


@final
class _UnaryUnary(_Shape, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Send *request*, and once more if its token is refused."""

        async def begin(details: Any) -> Any:
            call = await continuation(details, request)
            await call
            return call

        return await self._healed(begin, client_call_details)


@final
class _UnaryStream(_Shape, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Send *request*, and once more if its token is refused before the first answer."""

        async def begin(details: Any) -> Any:
            answers = aiter(await continuation(details, request))
            first = [answer async for answer in _one(answers)]
            return _resumed(first, answers)

        return await self._healed(begin, client_call_details)


async def _one(answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for answer in answers:
        yield answer
        return


async def _resumed(first: list[Any], answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    for answer in first:
        yield answer
    async for answer in answers:
        yield answer


@final
class _StreamUnary(_Shape, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Begin the call, and have a refusal of its token reported."""
        return await self._watched(continuation, client_call_details, request_iterator)


@final
class _StreamStream(_Shape, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Begin the call, and have a refusal of its token reported."""
        return await self._watched(continuation, client_call_details, request_iterator)


@final
class _Sync(
    _Shape,
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Send *request*, and once more if its token is refused."""
        flow = self._flow
        token = flow.tokens.get_sync()
        details, carrier = flow.signed(client_call_details, token)
        call = continuation(details, request)
        if not call.done():
            # A future: whoever asked for it does not wait here.
            return flow.watch_sync(call, token)
        if not _refused(call, carrier):
            return call
        other = flow.tokens.refused_sync(token)
        return call if other is None else continuation(flow.signed(client_call_details, other)[0], request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Send *request*, and once more if its token is refused before the first answer."""
        return _Answers(self._flow, client_call_details, lambda details: continuation(details, request))

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Make the call, and have a refusal of its token reported."""
        token = self._flow.tokens.get_sync()
        return self._flow.watch_sync(
            continuation(self._flow.signed(client_call_details, token)[0], request_iterator), token
        )

    intercept_stream_stream = intercept_stream_unary


@final
class _Answers:
    """A call with a stream of answers, begun once more if its token is refused before the first of them."""

    def __init__(self, flow: _Flow, details: Any, begin: Callable[[Any], Any]) -> None:
        self._flow = flow
        self._details = details
        self._begin = begin
        self._token: Token | None = flow.tokens.get_sync()
        signed, self._carrier = flow.signed(details, self._token)
        self._call = begin(signed)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        token, self._token = self._token, None
        try:
            return next(self._call)
        except grpc.RpcError as error:
            if token is None or not _refused(error, self._carrier):
                raise
            failure = error
        try:
            other = self._flow.tokens.refused_sync(token)
            if other is None:
                raise failure
        finally:
            del failure
        self._call = self._begin(self._flow.signed(self._details, other)[0])
        return next(self._call)

    def __getattr__(self, name: str) -> Any:
        # All else is the call's: cancel, code, metadata.
        return getattr(self._call, name)
