"""gRPC: its interceptors over real servers on loopback, with TLS, with all shapes of calls."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import grpc
import grpc.aio
import pytest
from tests.clients.contract import SOON
from tests.clients.long_lived import LongLived
from tests.clients.sdk_contract import SdkContract, Service
from tests.gated import until
from tests.stores.certificates import certificate_in

from evertoken import TokenManager, TokenUnavailable
from evertoken.clients import grpc as for_grpc

# The stubs that type checkers bring do not know it.
EOF: Any = vars(grpc.aio)["EOF"]

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@functools.cache
def certificate() -> tuple[bytes, bytes]:
    """Return a key and a certificate of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        made = certificate_in(Path(folder))
        return made.key.read_bytes(), made.certificate.read_bytes()


class Api(Service):
    """A service with one method of each shape, which answers with the messages that it was sent."""

    target: str

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[list[str]] = []
        self.seen: list[tuple[str, str]] = []
        #: Calls wait here. It is open unless a test closes it.
        self.gate = asyncio.Event()
        self.gate.set()

    async def admit(self, context: Any, requests: Any = None) -> None:
        await self.gate.wait()
        fields = [value for name, value in context.invocation_metadata() if name == "authorization"]
        self.fields.append(fields)
        self.seen = [(name, value) for name, value in context.invocation_metadata() if name in ("tenant", "signature")]
        if not fields or not self.accepts(fields[0].removeprefix("Bearer ")):
            if requests is not None:
                # While a client of grpc.aio writes, it takes a refusal for an error of its own (INTERNAL).
                _ = [one async for one in requests]
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who?")

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        await self.admit(context)
        if request == b"fail":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        return request

    async def unary_stream(self, request: bytes, context: Any) -> Any:
        await self.admit(context)
        for _ in range(int(request)):
            yield request

    async def stream_unary(self, requests: Any, context: Any) -> bytes:
        body = b"".join([one async for one in requests])
        self.bodies.append(body)
        await self.admit(context)
        return body

    async def stream_stream(self, requests: Any, context: Any) -> Any:
        await self.admit(context, requests)
        async for request in requests:
            yield request


@contextlib.asynccontextmanager
async def serving(kind: str = "tls"):
    """Serve an API over TLS, with TLS left out, or with the credentials of gRPC for one machine."""
    api, server = Api(), grpc.aio.server()
    methods = {name: getattr(grpc, f"{name}_rpc_method_handler")(getattr(api, name)) for name in KINDS}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("tests.Api", methods)])
    if kind == "plain":
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        local = grpc.local_server_credentials()
        made = local if kind == "local" else grpc.ssl_server_credentials([certificate()])
        port = server.add_secure_port("127.0.0.1:0", made)
    api.target = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield api
    finally:
        await server.stop(None)


def trusted() -> Any:
    return grpc.ssl_channel_credentials(certificate()[1])


@contextlib.asynccontextmanager
async def at_api(error: Exception | None = None, kind: str = "tls", **options: Any):
    """A manager, an API and a channel to it."""
    fetched: list[str] = []

    async def fetch() -> tuple[str, float]:
        if error is not None:
            raise error
        fetched.append(f"secret-{len(fetched) + 1}")
        return fetched[-1], 3600.0

    async with TokenManager(fetch) as tokens, serving(kind) as api:
        api.good = {"secret-1", "secret-2"}
        made = for_grpc.interceptors(tokens.handle(), **options)
        opened = {
            "tls": lambda: grpc.aio.secure_channel(api.target, trusted(), interceptors=made),
            "local": lambda: grpc.aio.secure_channel(api.target, grpc.local_channel_credentials(), interceptors=made),
            "plain": lambda: grpc.aio.insecure_channel(api.target, interceptors=made),
        }[kind]()
        async with opened as channel:
            yield tokens, api, channel, fetched


def method(channel: Any, kind: str) -> Any:
    return getattr(channel, kind)(f"/tests.Api/{kind}")


class ByHand(grpc.AuthMetadataPlugin):  # type: ignore[misc]
    def __call__(self, context: Any, callback: Any) -> None:
        callback((("signature", "by hand"),), None)


async def two():
    yield b"one"
    yield b"two"


class TestGrpcAio(SdkContract):
    name = "grpc.aio"
    extra = "grpc"
    library: ClassVar[str | None] = "grpcio"
    lines = "grpc.aio.secure_channel(target, credentials, interceptors=interceptors(handle))"
    without = 31
    origins = True
    bodies = True

    def server(self):
        return serving()

    def given(self, handle):
        return for_grpc.interceptors(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async with grpc.aio.secure_channel(server.target, trusted(), interceptors=given) as channel:

            async def call(streamed: bool = False) -> None:
                if streamed:
                    await method(channel, "stream_unary")(two())
                else:
                    await method(channel, "unary_unary")(b"x")

            yield call

    async def streamed(self, call: Any):
        await call(streamed=True)


class TestGrpcSync(SdkContract):
    name = "grpc"
    extra = "grpc"
    library: ClassVar[str | None] = "grpcio"
    lines = "grpc.intercept_channel(channel, *interceptors_sync(handle))"
    without = 31
    blocking = True
    origins = True
    bodies = True

    def server(self):
        return serving()

    def given(self, handle):
        return for_grpc.interceptors_sync(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        with grpc.secure_channel(server.target, trusted()) as plain:
            channel = grpc.intercept_channel(plain, *given)

            def call(streamed: bool = False) -> None:
                if streamed:
                    method(channel, "stream_unary")(iter([b"one", b"two"]), timeout=SOON)
                else:
                    method(channel, "unary_unary")(b"x", timeout=SOON)

            yield call

    def streamed(self, call: Any):
        call(streamed=True)


async def test_a_stream_of_answers_is_healed():
    """U1: A refusal before the first answer is healed, and the call that is seen is the healed one."""
    async with at_api() as (_, api, channel, fetched):
        stream = method(channel, "unary_stream")
        assert [one async for one in stream(b"2")] == [b"2", b"2"]
        api.good.discard("secret-1")
        call = stream(b"3")
        assert [one async for one in call] == [b"3"] * 3
        assert await call.code() is grpc.StatusCode.OK
        assert api.shown == ["secret-1", "secret-1", "secret-2"]
        read = stream(b"1")
        assert [await read.read(), await read.read()] == [b"1", EOF]
        assert [one async for one in stream(b"0")] == []
        assert len(fetched) == 2


async def test_a_lasting_refusal_is_the_callers():
    """U1: If a token is refused again, the caller gets the server's error, and no further token is fetched."""
    async with at_api() as (_, api, channel, fetched):
        api.good.clear()
        for kind in ("unary_unary", "unary_stream", "unary_unary", "unary_stream"):
            call = method(channel, kind)(b"1")
            with pytest.raises(grpc.aio.AioRpcError, match="who"):
                _ = [one async for one in call] if kind == "unary_stream" else await call
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert len(fetched) == 2


async def test_other_errors_are_the_callers():
    """U1: An error that does not blame the token costs no fetch."""
    async with at_api() as (_, api, channel, fetched):
        with pytest.raises(grpc.aio.AioRpcError, match="not you"):
            await method(channel, "unary_unary")(b"fail")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [one async for one in method(channel, "unary_stream")(b"no number")]
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert len(fetched) == 1
        assert api.shown == ["secret-1"] * 2


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
@pytest.mark.parametrize("style", ["iterator", "writes"])
async def test_streams_of_requests(kind, style):
    """U3: A stream of requests is not sent twice: the caller has the error, and the next call another token."""

    async def exchange() -> Any:
        call = method(channel, kind)(two() if style == "iterator" else None)
        if style == "writes":
            await call.write(b"one")
            await call.write(b"two")
            await call.done_writing()
        return await call if kind == "stream_unary" else b"".join([one async for one in call])

    async with at_api() as (_, api, channel, fetched), asyncio.timeout(SOON):
        assert await exchange() == b"onetwo"
        api.good.discard("secret-1")
        with pytest.raises(grpc.aio.AioRpcError, match="who"):
            await exchange()
        await until(lambda: len(fetched) == 2)
        assert await exchange() == b"onetwo"
        assert api.shown == ["secret-1", "secret-1", "secret-2"]


async def test_a_dialogue_waits_for_nothing():
    """U2: In a call with streams both ways, each answer comes before the next request is written."""
    async with at_api() as (_, _api, channel, _fetched), asyncio.timeout(SOON):
        call = method(channel, "stream_stream")()
        for request in (b"one", b"two"):
            await call.write(request)
            assert await call.read() == request
        await call.done_writing()
        assert await call.read() is EOF


async def test_a_cancelled_call_ends():
    """U2: A call that the caller cancels is cancelled at the server's side too, and reports nothing."""
    async with at_api() as (_, _api, channel, fetched), asyncio.timeout(SOON):
        call = method(channel, "unary_stream")(b"1000000")
        assert await call.read() == b"1000000"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            while await call.read() is not EOF:
                pass
        assert call.cancelled()
        assert len(fetched) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_channel_in_the_clear_carries_no_token(kind):
    """U4: A channel without TLS is not given the token, and costs no fetch, unless it is said that it may be."""
    async with at_api(kind="plain") as (tokens, api, channel, fetched):
        made = method(channel, kind)
        call = made(b"1") if kind.startswith("unary") else made(two())
        with pytest.raises(grpc.aio.UsageError, match="secure channels"):
            _ = [one async for one in call] if kind.endswith("stream") else await call
        with grpc.insecure_channel(api.target) as plain:
            blocking = grpc.intercept_channel(plain, *for_grpc.interceptors_sync(tokens.handle()))

            def ask() -> Any:
                found = method(blocking, kind)(b"1" if kind.startswith("unary") else iter([b"1"]), timeout=SOON)
                return list(found) if kind.endswith("stream") else found

            with pytest.raises(grpc.RpcError, match="security level"):
                await asyncio.to_thread(ask)
        assert api.fields == []
        assert len(fetched) == 1


@pytest.mark.parametrize("kind", ["local", "plain"])
async def test_a_server_on_this_machine(kind):
    """U4: Credentials of gRPC for one machine are secure enough, and other channels are with `allow_insecure`."""
    async with at_api(kind=kind, allow_insecure=kind == "plain") as (_, api, channel, fetched):
        assert await method(channel, "unary_unary")(b"x") == b"x"
        api.good.discard("secret-1")
        assert await method(channel, "unary_unary")(b"x") == b"x"
        assert [one async for one in method(channel, "unary_stream")(b"1")] == [b"1"]
        assert api.fields == [["Bearer secret-1"]] * 2 + [["Bearer secret-2"]] * 2
        assert len(fetched) == 2


async def test_origins():
    """U4: A channel that is not named gets nothing; what cannot be kept is refused."""
    async with at_api(origins=["https://api.example.com"]) as (tokens, api, channel, _):
        with pytest.raises(grpc.aio.AioRpcError, match=r"bound to https://api\.example\.com"):
            await method(channel, "unary_unary")(b"x")
        assert api.fields == []
        handle = tokens.handle()
        with pytest.raises(ValueError, match="origins must be written"):
            for_grpc.interceptors(handle, origins=["api.example.com:443"])
        with pytest.raises(ValueError, match="allow_insecure"):
            for_grpc.interceptors_sync(handle, origins=["https://api.example.com"], allow_insecure=True)


async def test_a_token_that_lives_long_enough():
    """R2: Each call asks for a token with `min_ttl` seconds left."""
    reader: Any = LongLived()
    async with serving() as api:
        api.good.add("secret-1")
        made = for_grpc.interceptors(reader, min_ttl=600.0)
        async with grpc.aio.secure_channel(api.target, trusted(), interceptors=made) as channel:
            await method(channel, "unary_unary")(b"x")
    assert reader.asked == [600.0]
    with pytest.raises(ValueError, match="min_ttl"):
        for_grpc.interceptors_sync(reader, min_ttl=float("nan"))


async def test_metadata_and_credentials_of_the_caller():
    """U1: Other metadata and credentials of a call are kept, and its authorization is replaced."""
    async with at_api() as (_, api, channel, _fetched):
        await method(channel, "unary_unary")(
            b"x",
            metadata=[("authorization", "Bearer stray"), ("tenant", "7")],
            credentials=grpc.metadata_call_credentials(ByHand()),
        )
        assert api.fields == [["Bearer secret-1"]]
        assert api.seen == [("tenant", "7"), ("signature", "by hand")]
    async with at_api(kind="plain", allow_insecure=True) as (_, api, channel, _fetched):
        await method(channel, "unary_unary")(b"x", metadata=[("authorization", "Bearer stray"), ("tenant", "7")])
        assert api.fields == [["Bearer secret-1"]]
        assert api.seen == [("tenant", "7")]


async def test_no_token_is_an_error_in_each_shape():
    """U5: Without a token, each shape of calls raises, and the server is not asked."""
    async with at_api(error=ConnectionError("down")) as (_, api, channel, _fetched), asyncio.timeout(SOON):
        for kind in KINDS:
            call = method(channel, kind)(b"1" if kind.startswith("unary") else two())
            with pytest.raises(TokenUnavailable):
                _ = [one async for one in call] if kind.endswith("stream") else await call
        assert api.fields == []


async def test_streams_without_a_loop():
    """U1, U3: In threads, a stream of answers is healed; streams of requests and futures are reported."""
    async with at_api() as (tokens, api, _, fetched):
        api.good = {f"secret-{number}" for number in range(2, 9)}
        with grpc.secure_channel(api.target, trusted()) as plain:
            channel = grpc.intercept_channel(plain, *for_grpc.interceptors_sync(tokens.handle()))

            def answers() -> Any:
                call = method(channel, "unary_stream")(b"2", timeout=SOON)
                return list(call), call.code()

            assert await asyncio.to_thread(answers) == ([b"2", b"2"], grpc.StatusCode.OK)
            assert api.shown == ["secret-1", "secret-2"]
            # Refusals in a row open a cool-down, so each manager has one.
            assert len(fetched) == 2


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream", "future"])
async def test_reports_without_a_loop(kind):
    """U3: In threads, streams of requests and futures are not sent twice, and their tokens are reported."""
    async with at_api() as (tokens, api, _, fetched):
        api.good.discard("secret-1")
        with grpc.secure_channel(api.target, trusted()) as plain:
            channel = grpc.intercept_channel(plain, *for_grpc.interceptors_sync(tokens.handle()))

            def ask() -> Any:
                if kind == "future":
                    call = method(channel, "unary_unary").future(b"x", timeout=SOON)
                    loop.call_soon_threadsafe(api.gate.set)
                    return call.result()
                found = method(channel, kind)(iter([b"x"]), timeout=SOON)
                return found if kind == "stream_unary" else b"".join(found)

            loop = asyncio.get_running_loop()
            if kind == "future":
                # A future whose refusal is there before it is returned is healed.
                api.gate.clear()
            with pytest.raises(grpc.RpcError, match="who"):
                await asyncio.to_thread(ask)
            await until(lambda: len(fetched) == 2)
            assert await asyncio.to_thread(ask) == b"x"


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_call_credentials(asynchronous):
    """U1, U4: Call credentials ask for the token at each call, and know their origin."""
    async with at_api() as (tokens, api, _, _fetched):
        both = grpc.composite_channel_credentials(trusted(), for_grpc.call_credentials(tokens.handle()))

        async def ask() -> None:
            if asynchronous:
                async with grpc.aio.secure_channel(api.target, both) as channel:
                    await method(channel, "unary_unary")(b"x")
            else:
                with grpc.secure_channel(api.target, both) as channel:
                    await asyncio.to_thread(method(channel, "unary_unary"), b"x")

        await ask()
        await tokens.refresh()
        await ask()
        assert api.shown == ["secret-1", "secret-2"]
        async with serving() as other:
            elsewhere = grpc.aio.secure_channel(other.target, both)
            async with elsewhere as channel:
                with pytest.raises(grpc.aio.AioRpcError, match="bound to"):
                    await method(channel, "unary_unary")(b"x")
            assert other.fields == []


async def test_call_credentials_without_a_token():
    """U5: Call credentials without a token fail the call, also where the loop is blocked by that call."""
    async with at_api(error=ConnectionError("down")) as (tokens, api, _, _fetched):
        both = grpc.composite_channel_credentials(trusted(), for_grpc.call_credentials(tokens.handle()))
        with grpc.secure_channel(api.target, both) as channel:
            with pytest.raises(grpc.RpcError, match="no valid token"):
                await asyncio.to_thread(method(channel, "unary_unary"), b"x", timeout=SOON)
            # On the loop itself: the thread of gRPC waits for this loop, which waits for the call.
            with pytest.raises(grpc.RpcError, match="blocked"):
                method(channel, "unary_unary")(b"x", timeout=SOON)
        assert api.fields == []


async def test_each_interceptor_is_kept_whole():
    """U1, S1: A copy of an interceptor is the interceptor, and none shows more than its origins."""
    async with at_api() as (tokens, _, channel, _fetched):
        await method(channel, "unary_unary")(b"x")
        made = [*for_grpc.interceptors(tokens.handle()), *for_grpc.interceptors_sync(tokens.handle())]
        assert [copy.copy(one) for one in made] == [copy.deepcopy(one) for one in made] == made
        assert repr(made[0]) == "_UnaryUnary(_Flow(bound to the first origin it is used with))"
