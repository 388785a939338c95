"""gRPC, over a socket. The static credential is one of gRPC's own, or metadata where there is no TLS."""

from __future__ import annotations

import contextlib
from typing import Any

import grpc
import grpc.aio
from tests.benchmarks._grpc_server import METHOD, answering_grpc

from evertoken.clients.grpc import call_credentials, interceptors, interceptors_sync

LOCAL = grpc.local_channel_credentials()
STATIC = grpc.composite_channel_credentials(LOCAL, grpc.access_token_call_credentials("token"))
FIELD = (("authorization", "Bearer token"),)


@contextlib.asynccontextmanager
async def secure(tokens):
    with answering_grpc() as (_, target):
        async with (
            grpc.aio.secure_channel(target, STATIC) as static,
            grpc.aio.secure_channel(target, LOCAL, interceptors=interceptors(tokens.handle())) as ours,
        ):
            yield asked(static), asked(ours)


@contextlib.asynccontextmanager
async def credentials(tokens):
    made = grpc.composite_channel_credentials(LOCAL, call_credentials(tokens.handle()))
    with answering_grpc() as (_, target):
        async with grpc.aio.secure_channel(target, STATIC) as static, grpc.aio.secure_channel(target, made) as ours:
            yield asked(static), asked(ours)


@contextlib.asynccontextmanager
async def plain(tokens):
    made = interceptors(tokens.handle(), allow_insecure=True)
    with answering_grpc() as (target, _):
        async with (
            grpc.aio.insecure_channel(target, interceptors=[Preset()]) as static,
            grpc.aio.insecure_channel(target, interceptors=made) as ours,
        ):
            yield asked(static), asked(ours)


@contextlib.asynccontextmanager
async def blocking(tokens):
    with answering_grpc() as (_, target):
        with grpc.secure_channel(target, STATIC) as static, grpc.secure_channel(target, LOCAL) as channel:
            ours = grpc.intercept_channel(channel, *interceptors_sync(tokens.handle()))
            ask_static, ask_ours = static.unary_unary(METHOD), ours.unary_unary(METHOD)
            yield lambda: ask_static(b"x"), lambda: ask_ours(b"x")


class Preset(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Sets one field, as an interceptor of the user's does."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(metadata=grpc.aio.Metadata(*FIELD)), request)


def asked(channel: Any) -> Any:
    method = channel.unary_unary(METHOD)

    async def ask() -> None:
        await method(b"x")

    return ask


PAIRS = {
    "grpc.aio, interceptors over a secure channel": secure,
    "grpc.aio, interceptors with allow_insecure": plain,
    "grpc.aio, call_credentials": credentials,
    "grpc, interceptors_sync over a secure channel": blocking,
}
