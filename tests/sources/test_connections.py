"""Connections to token endpoints: shared by fetches in a row, closed with the session, without cookies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.sources.wire import Wire, a_request, always, granted, http

from evertoken import TokenManager, TokenUnavailable
from evertoken._engine.connections import IDLE, Connections
from evertoken._engine.tasks import Strays
from evertoken.sources import ClientCredentials, OAuthClient, RefreshToken

virtual = pytest.mark.asyncio(loop_factories=["virtual"])


def grant(wire: Wire, rotating: bool) -> Any:
    client = OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret")
    return RefreshToken(client, "rt-0", rotates=True) if rotating else ClientCredentials(client)


class Counted(Wire):
    """A server that counts its connections, and closes those it is told to after an answer."""

    connections = 0
    closes = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await super()._serve(reader, writer)

    async def answer(self, _asked: Any, writer: asyncio.StreamWriter) -> bytes | None:
        number = len(self.asked)
        answer = granted(access_token=f"at-{number}", refresh_token=f"rt-{number}")
        if self.closes:
            writer.write(answer)
            await writer.drain()
            writer.close()
            return None
        return answer


def counted() -> Counted:
    async def answer(asked: Any, writer: Any) -> bytes | None:
        return await wire.answer(asked, writer)

    wire = Counted(answer)
    return wire


@pytest.mark.parametrize(("rotating", "connections"), [(False, 1), (True, 5)])
async def test_fetches_in_a_row_share_one(rotating, connections):
    """
    Fetches that follow each other use one connection, and nothing of it is left when the manager has closed.

    K4: a refresh token that may be spent is sent on a fresh one, so that a server which closes it is not ambiguous.
    """
    async with counted() as wire:
        async with TokenManager(grant(wire, rotating)) as tokens:
            for _ in range(5):
                await tokens.refresh()
            assert wire.connections == connections
        for _ in range(20):
            await asyncio.sleep(0)
        await asyncio.wait(wire._serving, timeout=5.0) if wire._serving else None
        assert not wire._serving


@pytest.mark.parametrize("rotating", [False, True])
async def test_a_server_that_closes_each(rotating):
    """K4: a connection that the server has closed meanwhile is not used again, and no refresh token is put at risk."""
    async with counted() as wire:
        wire.closes = True
        async with TokenManager(grant(wire, rotating)) as tokens:
            for number in range(1, 6):
                assert (await tokens.refresh()).access_token == f"at-{number}"
                await asyncio.wait(wire._serving, timeout=5.0) if wire._serving else None
        assert wire.connections == 5


@pytest.mark.parametrize("rotating", [False, True])
@pytest.mark.parametrize("pause", [0.0, 0.001, 0.003])
async def test_a_server_that_closes_without_a_word(rotating, pause):
    """K4: a server that closes a moment after each answer makes no fetch fail, and none ambiguous."""

    async def answer(_asked: Any, writer: asyncio.StreamWriter) -> bytes | None:
        number = len(wire.asked)
        writer.write(granted(access_token=f"at-{number}", refresh_token=f"rt-{number}"))
        await writer.drain()
        await asyncio.sleep(pause)
        writer.close()
        return None

    async with Wire(answer) as wire:
        client = OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret")

        def source(tenant: int) -> Any:
            if rotating:
                return RefreshToken(client, f"first-{tenant}", rotates=True, on_ambiguous="reject")
            return ClientCredentials(client, scope=str(tenant))

        async with TokenManager(source_for=source) as tokens:
            assert len(await asyncio.gather(*(tokens.get(tenant) for tenant in range(100)))) == 100


async def test_many_grants_share_the_pool():
    """
    One client and a hundred tenants at a time: at most as many connections as fetches, and no connection afterwards.
    """
    async with counted() as wire:
        client = OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret")
        async with TokenManager(
            source_for=lambda tenant: ClientCredentials(client, scope=str(tenant)), concurrency=4
        ) as tokens:
            await asyncio.gather(*(tokens.get(tenant) for tenant in range(100)))
            assert wire.connections <= 4


async def test_cookies_are_not_kept():
    """S2: a cookie of a token endpoint is never sent, on any connection."""
    answer = http(200, {"access_token": "a", "expires_in": 600}, {"Set-Cookie": "sid=planted; Path=/"})
    async with Wire(always(answer)) as wire, TokenManager(grant(wire, rotating=False)) as tokens:
        for _ in range(3):
            await tokens.refresh()
    assert not any("cookie" in asked.headers for asked in wire.asked)


async def test_outside_a_manager():
    """A source that is called directly closes its connection with each call."""
    async with counted() as wire:
        source = grant(wire, rotating=False)
        for _ in range(3):
            await source.fetch(a_request())
        assert wire.connections == 3


async def test_a_manager_that_starts_again():
    """L1: each session has connections of its own."""
    async with counted() as wire:
        manager = TokenManager(grant(wire, rotating=False))
        for _ in range(3):
            async with manager:
                await manager.refresh()
                await manager.refresh()
        assert wire.connections == 3


async def test_a_close_during_a_fetch():
    """L1: a close cancels the fetch, and its connection ends with it."""
    begun = asyncio.Event()

    async def silent(_asked: Any, _writer: Any) -> bytes:
        begun.set()
        await asyncio.sleep(60.0)
        return b""

    async with Wire(silent) as wire:
        async with TokenManager(grant(wire, rotating=False), close_grace=0.0) as tokens:
            waiting = asyncio.ensure_future(tokens.get())
            await begun.wait()
        with pytest.raises(Exception, match="the manager is closing"):
            await waiting
        assert len(asyncio.all_tasks() - wire._serving) == 1


async def test_one_that_fails_leaves_the_others():
    """A fetch that fails does not close the connection of another."""

    async def answer(asked: Any, _writer: Any) -> bytes:
        return http(500) if "scope" in dict(asked.form) else granted()

    async with Wire(answer) as wire:
        client = OAuthClient(token_endpoint=wire.url(), client_id="svc", client_secret="s3cret")
        sources = {"good": ClientCredentials(client), "bad": ClientCredentials(client, scope="x")}
        async with TokenManager(sources) as tokens:
            await tokens.get("good")
            with pytest.raises(TokenUnavailable):
                await tokens.get("bad")
            assert await tokens.refresh("good")


class Thing:
    def __init__(self) -> None:
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


@virtual
@pytest.mark.parametrize("pause", [0.0, IDLE / 2.0, IDLE - 0.01, IDLE + 0.01, 60.0])
async def test_how_long_it_is_kept(clock, pause):
    """An unused connection is closed after a while. A connection that is used again in time stays the same."""
    spawned: list[asyncio.Task[Any]] = []
    connections = Connections(
        clock, Strays(), lambda work, _: spawned.append(asyncio.get_running_loop().create_task(work))
    )
    made: list[Thing] = []

    def make() -> Thing:
        made.append(Thing())
        return made[-1]

    for _ in range(3):
        async with connections.use("k", make):
            await clock.advance(IDLE * 2.0)
        await clock.advance(pause)
    assert len(made) == (1 if pause < IDLE else 3)
    await connections.aclose()
    assert [one.closed for one in made] == [1] * len(made)


@virtual
async def test_what_is_in_use_at_the_close(clock):
    """A session that ends closes at once what nobody uses, and the rest after its use. Nothing is closed twice."""
    connections = Connections(clock, Strays(), lambda *_: None)
    things = Thing(), Thing()
    async with connections.use("a", lambda: things[0]):
        async with connections.use("b", lambda: things[1]):
            pass
        await connections.aclose()
        assert [one.closed for one in things] == [0, 1]
    assert [one.closed for one in things] == [1, 1]
