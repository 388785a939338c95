"""aio-pika: a robust connection to a broker that looks at passwords and new secrets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar

import aio_pika
import pytest
from aio_pika.exceptions import ProbableAuthenticationError
from tests.clients.amqp_broker import Broker
from tests.clients.sdk_contract import SdkContract
from tests.gated import until

from evertoken import RetryPolicy, TokenManager
from evertoken.clients.aio_pika import keep_authenticated

# Real seconds, far beyond what a busy machine needs.
PATIENCE = 60.0


async def opened(broker: Broker, token: str) -> Any:
    return await aio_pika.connect_robust(
        host="127.0.0.1", port=broker.port, login="app", password=token, reconnect_interval=0.05
    )


class TestAioPika(SdkContract):
    name = "aio_pika.connect_robust"
    extra = "aio-pika"
    library: ClassVar[str | None] = "aio-pika"
    lines = (
        "connection = await aio_pika.connect_robust(..., password=await handle.access_token())\n"
        "task = asyncio.create_task(keep_authenticated(connection, handle))"
    )
    without = 6
    heals = (
        "`keep_authenticated` heals a refused reconnect and a refused new secret, but not the first login: "
        "`attempt` around `connect_robust` heals it"
    )
    refusal = ProbableAuthenticationError
    library_frames = "The frames of aio-pika hold the URL, which contains the token as its password"

    def server(self):
        return Broker()

    def given(self, handle):
        return handle

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def call() -> None:
            async with await opened(server, await given.access_token()):
                pass

        yield call


@contextlib.asynccontextmanager
async def kept(**options: Any):
    """A broker, and a connection to it that is kept authenticated."""
    fetched: list[str] = []

    def fetch() -> tuple[str, float]:
        fetched.append(f"secret-{len(fetched) + 1}")
        return fetched[-1], 3600.0

    retry = RetryPolicy(first=0.05, cap=0.05)
    async with TokenManager(fetch, retry=retry) as tokens, Broker() as broker, asyncio.timeout(PATIENCE):
        broker.good = {f"secret-{number}" for number in range(1, 9)}
        async with await opened(broker, await tokens.handle().access_token()) as connection:
            task = asyncio.create_task(keep_authenticated(connection, tokens.handle(), **options))
            try:
                yield tokens, broker, connection, task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_each_new_token_is_pushed():
    """U1: The token that the connection has is not pushed; each new one is, and reconnects take it."""
    async with kept() as (tokens, broker, connection, _):
        for number in (2, 3):
            await tokens.refresh()
            await until(lambda number=number: broker.told[-1:] == [f"secret-{number}"])
        assert broker.told == ["secret-2", "secret-3"]
        broker.shown.clear()
        broker.hang_up()
        await until(lambda: broker.shown == ["secret-3"])
        await connection.connected.wait()


async def test_a_token_that_comes_while_it_reconnects():
    """U1: A token that comes during a reconnect with the one before is pushed once the connection is back."""
    async with kept() as (tokens, broker, connection, _):
        broker.opens.clear()
        broker.knocked.clear()
        broker.hang_up()
        await broker.knocked.wait()
        await tokens.refresh()
        await until(lambda: connection.url.password == "secret-2")
        assert broker.told == []
        broker.opens.set()
        await until(lambda: broker.told == ["secret-2"])
        assert broker.shown[-2:] == ["secret-1", "secret-2"]


async def test_a_new_secret_that_is_refused():
    """U1: A new secret that the broker refuses is reported, and the connection comes back with another one."""
    async with kept() as (tokens, broker, connection, _):
        broker.good.discard("secret-2")
        broker.opens.clear()
        await tokens.refresh()
        # Before the broker has answered the reconnect, which may be with the token that it has refused.
        await until(lambda: connection.url.password == "secret-3")
        broker.opens.set()
        await until(lambda: broker.shown[-1] == "secret-3")
        await connection.connected.wait()
        token = await tokens.get()
        assert token.access_token == "secret-3"


async def test_a_reconnect_that_is_refused():
    """U1: A token that the broker refuses at a reconnect is reported, and the connection comes back with another."""
    async with kept() as (tokens, broker, connection, _):
        broker.good.discard("secret-1")
        broker.hang_up()
        await until(lambda: broker.shown[-1] == "secret-2")
        await connection.connected.wait()
        token = await tokens.get()
        assert token.access_token == "secret-2"


async def test_a_refusal_of_the_token_before():
    """U1: If a new token comes while the one before is being refused, the new one is not reported for it."""
    async with kept() as (tokens, broker, connection, _):
        broker.opens.clear()
        broker.knocked.clear()
        broker.good.discard("secret-1")
        broker.hang_up()
        await broker.knocked.wait()
        await tokens.refresh()
        await until(lambda: connection.url.password == "secret-2")
        broker.opens.set()
        await connection.connected.wait()
        token = await tokens.get()
        assert token.access_token == "secret-2"
        assert broker.shown[-1] == "secret-2"


async def test_a_broker_that_does_not_answer():
    """U5: A new secret that is not answered is sent again, and the next token does not wait for it."""
    async with kept(timeout=0.1) as (tokens, broker, _, _task):
        broker.answers = False
        await tokens.refresh()
        await until(lambda: broker.told == ["secret-2"] * 2)
        broker.answers = True
        await tokens.refresh()
        await until(lambda: broker.told[-1] == "secret-3")


async def test_it_ends_with_the_connection():
    """U5: It ends when the connection is closed, and when the manager is."""
    async with kept() as (_, _broker, connection, task):
        await connection.close()
        await task
    async with kept() as (tokens, _broker, connection, task):
        await until(lambda: len(connection.close_callbacks) == 1)
        await tokens.aclose()
        await task
        assert len(connection.close_callbacks) == 0


async def test_it_ends_when_it_is_cancelled():
    """U5: Cancelled, it leaves no task behind."""
    async with kept() as (_, _broker, _connection, task):
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not [one for one in asyncio.all_tasks() if one.get_name().startswith("evertoken:keep")]


async def test_a_manager_that_is_not_started():
    """U5: A manager that does not run is told at once."""
    async with Broker() as broker:
        broker.good.add("secret-1")
        async with await opened(broker, "secret-1") as connection:
            with pytest.raises(RuntimeError, match="not started"):
                await keep_authenticated(connection, TokenManager(lambda: ("a", 1.0)).handle())
