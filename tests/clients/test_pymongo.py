"""Clients of PyMongo log in with the token of the day, at a server that speaks the protocol of MongoDB."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import bson
import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import OperationFailure
from pymongo.server_api import ServerApi
from tests.clients.sdk_contract import SdkContract, Service

from evertoken.clients.pymongo import Callback

OP_MSG = 2013
#: Seconds after which a client drops an idle connection. So that it has to log in again.
IDLE = 0.001
HELLO = {
    "ok": 1, "isWritablePrimary": True, "maxBsonObjectSize": 2**24, "maxMessageSizeBytes": 2**25,
    "maxWriteBatchSize": 1000, "minWireVersion": 0, "maxWireVersion": 25,
}  # fmt: skip
REFUSED = {"ok": 0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed."}
EXPIRED = {"ok": 0, "code": 391, "codeName": "ReauthenticationRequired", "errmsg": "the token has expired"}


class Mongo(Service):
    """No package carries a MongoDB server. This one knows hello, saslStart with a token, and ping."""

    port: int

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run in another thread: clients without a loop block this one."""
        started = threading.Event()
        thread = threading.Thread(target=asyncio.run, args=(self._run(started),))
        thread.start()
        try:
            assert started.wait(10)
            yield
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)
            thread.join()

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._ended.wait()
        server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session: dict[str, str] = {}
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, number, _, code = struct.unpack("<iiii", await reader.readexactly(16))
                message = await reader.readexactly(length - 16)
                assert code == OP_MSG
                # Flags, the kind of the first section, and its document.
                answer = bson.encode(self.answer(bson.decode(message[5:]), session))
                writer.write(struct.pack("<iiiiiB", 21 + len(answer), 0, number, OP_MSG, 0, 0) + answer)
        writer.close()

    def answer(self, command: dict[str, Any], session: dict[str, str]) -> dict[str, Any]:
        if "hello" in command:
            return HELLO
        if "saslStart" in command:
            session["token"] = bson.decode(command["payload"])["jwt"]
            good = self.accepts(session["token"])
            return {"ok": 1, "conversationId": 1, "done": True, "payload": b""} if good else REFUSED
        if "ping" in command:
            return {"ok": 1} if session.get("token") in self.good else EXPIRED
        return {"ok": 1}


class _Mongo(SdkContract):
    extra = "pymongo"
    lines = (
        'properties = {"OIDC_CALLBACK": Callback(handle)}\n'
        'client = AsyncMongoClient(url, authMechanism="MONGODB-OIDC", authMechanismProperties=properties)'
    )
    without = 6

    library_frames = "The frames of PyMongo hold the token"
    differs: ClassVar[dict[str, str]] = {
        "test_rotation": (
            "A client keeps a token until the server refuses it or ends the session, and gets the newest one then"
        )
    }

    @contextlib.asynccontextmanager
    async def server(self):
        found = Mongo()
        with found.running():
            yield found

    async def test_rotation(self):
        """U1: A client logs in with the token that it has, which servers accept, until that is refused."""
        async with self.setting() as at, self.using(at) as call:
            await self.ask(call)
            await at.tokens.refresh()
            await self.ask(call)
            assert at.server.shown == ["secret-1"] * 2
            await at.server.revoke("secret-1")
            await self.ask(call)
            assert at.server.shown == ["secret-1"] * 3 + ["secret-2"]
            assert at.source.fetches == 2

    def given(self, handle):
        return Callback(handle)

    def made(self, kind: Any, given: Callback, server: Mongo, **options: Any) -> Any:
        return kind(
            f"mongodb://127.0.0.1:{server.port}",
            directConnection=True,
            authMechanism="MONGODB-OIDC",
            authMechanismProperties={"OIDC_CALLBACK": given},
            server_api=ServerApi("1"),
            retryReads=False,
            **options,
            serverSelectionTimeoutMS=5000,
        )


class TestAsyncMongoClient(_Mongo):
    name = "pymongo.AsyncMongoClient"

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async with self.made(AsyncMongoClient, given, server, maxIdleTimeMS=1000 * IDLE) as client:

            async def call() -> None:
                await client.admin.command("ping")
                await asyncio.sleep(5 * IDLE)

            yield call

    async def test_a_session_that_ends(self):
        """U1: The server ends the session of a live client, which logs in again once, with a new token."""
        async with self.setting() as at, self.made(AsyncMongoClient, self.given(at.handle), at.server) as client:
            await client.admin.command("ping")
            await at.server.revoke("secret-1")
            for _ in range(2):
                await client.admin.command("ping")
            assert at.server.shown == ["secret-1", "secret-2"]
            assert at.source.fetches == 2

    async def test_a_session_that_ends_after_a_rotation(self):
        """U1: If the manager has a newer token by then, the client gets that, and it costs no fetch."""
        async with self.setting() as at, self.made(AsyncMongoClient, self.given(at.handle), at.server) as client:
            await client.admin.command("ping")
            await at.tokens.refresh()
            await at.server.revoke("secret-1")
            await client.admin.command("ping")
            assert at.server.shown == ["secret-1", "secret-2"]
            assert at.source.fetches == 2

    async def test_one_callback_for_several_clients(self):
        """U1: That a second client asks for the first time is no refusal."""
        async with self.setting() as at:
            given = self.given(at.handle)
            async with self.made(AsyncMongoClient, given, at.server) as one:
                await one.admin.command("ping")
                async with self.made(AsyncMongoClient, given, at.server) as other:
                    await other.admin.command("ping")
            assert at.server.shown == ["secret-1"] * 2
            assert at.source.fetches == 1

    async def test_a_lasting_refusal(self):
        """U1: If a token is refused again, the caller gets the error. A lasting refusal costs no further token."""
        async with self.setting() as at, self.using(at) as call:
            at.server.accepts = lambda token: False
            for _ in range(3):
                with pytest.raises(OperationFailure, match="Authentication failed"):
                    await call()
            assert at.source.fetches == 2


class TestMongoClient(_Mongo):
    name = "pymongo.MongoClient"
    lines = _Mongo.lines.replace("Async", "")
    blocking = True

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        client = self.made(MongoClient, given, server, maxIdleTimeMS=1000 * IDLE)

        def call() -> None:
            client.admin.command("ping")
            time.sleep(5 * IDLE)

        try:
            yield call
        finally:
            await asyncio.to_thread(client.close)
