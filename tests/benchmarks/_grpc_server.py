"""A gRPC server in a process of its own that costs the measured process nothing."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import grpc
import grpc.aio

__all__ = ["METHOD", "answering_grpc"]

METHOD = "/bench.Api/ask"


async def _ask(request: bytes, context: Any) -> bytes:
    if ("authorization", "Bearer token") not in tuple(context.invocation_metadata()):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who?")
    return request


async def _serve(pipe: Connection) -> None:
    server = grpc.aio.server()
    methods = {"ask": grpc.unary_unary_rpc_method_handler(_ask)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Api", methods)])
    plain = server.add_insecure_port("127.0.0.1:0")
    secure = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    await server.start()
    pipe.send((plain, secure))
    # Until the other end is closed.
    with contextlib.suppress(EOFError):
        await asyncio.to_thread(pipe.recv)
    await server.stop(None)


def _main(pipe: Connection) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(pipe))


@contextlib.contextmanager
def answering_grpc() -> Iterator[tuple[str, str]]:
    """Start the server, and give its targets: one in the clear, and one for the credentials of one machine."""
    context = multiprocessing.get_context("spawn")
    pipe, there = context.Pipe()
    process = context.Process(target=_main, args=(there,), daemon=True)
    process.start()
    there.close()
    try:
        plain, secure = pipe.recv()
        yield f"127.0.0.1:{plain}", f"127.0.0.1:{secure}"
    finally:
        pipe.close()
        process.join(10.0)
        process.kill()
