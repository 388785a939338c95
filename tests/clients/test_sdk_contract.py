"""The contract of SDKs: each of its checks fails for an adapter that breaks its clause."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx
import pytest
from tests.clients import sdk_contract, test_callables
from tests.sources.wire import Asked

from evertoken import TokenUnavailable


class Adapter:
    """An adapter that heals a 401, and has origins and bodies: the base of those with faults."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.bound = ""
        self.one_at_a_time = asyncio.Lock()

    def __deepcopy__(self, memo: object) -> Adapter:
        return self

    def __reduce__(self) -> Any:
        raise TypeError

    async def token(self) -> str:
        return await self.handle.access_token()

    async def refused(self, token: str, wait: bool) -> str | None:
        other = await self.handle.refused(token, wait=wait)
        return None if other is None else other.access_token

    async def ask(self, url: str, pieces: list[bytes] | None = None) -> None:
        self.bound = self.bound or url
        if url != self.bound:
            raise test_callables.Refused
        await self.send(url, pieces)

    async def send(self, url: str, pieces: list[bytes] | None = None) -> None:
        token = await self.token()
        if await self.sent(url, token, pieces) != 401:
            return
        other = await self.refused(token, pieces is None)
        if other is None or pieces is not None or await self.sent(url, other, pieces) == 401:
            raise test_callables.Refused

    async def sent(self, url: str, token: str, pieces: list[bytes] | None) -> int:
        async def body() -> Any:
            while pieces:
                yield pieces.pop(0)

        fields = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(url, headers=fields, content=None if pieces is None else body())
        return response.status_code


class Gateway(test_callables.Gateway):
    async def answer(self, asked: Asked, writer: Any) -> bytes:
        if "chunked" in asked.headers.get("transfer-encoding", ""):
            self.bodies.append(asked.body)
        return await super().answer(asked, writer)


class Right(test_callables.TestAsyncCallable):
    """An adapter without a fault. It is no row of the table."""

    heals = ""
    origins = True
    bodies = True
    kind: Any = Adapter

    @contextlib.asynccontextmanager
    async def server(self):
        gateway = Gateway()
        async with test_callables.Wire(gateway.answer) as wire:
            gateway.url = wire.url()
            yield gateway

    def given(self, handle):
        return self.kind(handle)

    @contextlib.asynccontextmanager
    async def client(self, given, server):
        async def ask(pieces: list[bytes] | None = None) -> None:
            await given.ask(server.url, pieces)

        yield ask

    def streamed(self, call):
        return call([b"one", b"two"])


class Caching(Adapter):
    kept: str | None = None

    async def token(self) -> str:
        self.kept = self.kept or await super().token()
        return self.kept


class Silent(Adapter):
    """It says nothing of a refusal, and fetches a token itself."""

    async def refused(self, token: str, wait: bool) -> str | None:
        async with self.one_at_a_time:
            return (await self.handle.refresh()).access_token


class Deaf(Adapter):
    async def refused(self, token: str, wait: bool) -> str | None:
        return None


class Hanging(Adapter):
    """It waits for a token, three times as long as the check does."""

    async def token(self) -> str:
        for _ in range(150):
            if (token := self.handle.peek()) is not None:
                return token.access_token
            await asyncio.sleep(0.01)
        return await super().token()


class Empty(Adapter):
    """Without a token it sends none."""

    async def token(self) -> str:
        token = self.handle.peek()
        return "none" if token is None else token.access_token


class Eager(Adapter):
    """It fetches for each call."""

    async def token(self) -> str:
        await super().token()
        return (await self.handle.refresh()).access_token


class Unbound(Adapter):
    async def ask(self, url: str, pieces: list[bytes] | None = None) -> None:
        await self.send(url, pieces)


class Replaying(Adapter):
    async def send(self, url: str, pieces: list[bytes] | None = None) -> None:
        token = await self.token()
        if await self.sent(url, token, pieces) == 401:
            other = await self.refused(token, True)
            await self.sent(url, other or "", pieces)
            raise test_callables.Refused


class Copied(Adapter):
    def __deepcopy__(self, memo: object) -> Adapter:
        return Copied(self.handle)


class Pickled(Adapter):
    def __reduce__(self) -> Any:
        return str, ()


class OneLoop(Adapter):
    loop: Any = None

    async def token(self) -> str:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError
        return await super().token()


class Telling(Adapter):
    def __repr__(self) -> str:
        return f"Telling({getattr(self.handle.peek(), 'access_token', None)})"


class Keeping(Adapter):
    async def token(self) -> str:
        self.last = await super().token()
        return self.last


FAULTS = [
    ("test_first_use", Empty),
    ("test_rotation", Caching),
    ("test_revocation", Deaf),
    ("test_many_callers", Silent),
    ("test_no_token_on_the_loop", Hanging),
    ("test_no_token_on_the_loop", Empty),
    ("test_no_token_elsewhere", Hanging),
    ("test_no_token_elsewhere", Empty),
    ("test_provider_down", Eager),
    ("test_foreign_origin", Unbound),
    ("test_used_up_bodies", Replaying),
    ("test_copies", Copied),
    ("test_copies", Pickled),
    ("test_everywhere", OneLoop),
    ("test_everywhere", Eager),
    ("test_no_secret_is_shown", Telling),
    ("test_no_secret_is_shown", Keeping),
]


@pytest.mark.parametrize("check", sdk_contract.checks())
async def test_each_check_passes_for_what_is_right(check):
    """U1: an adapter that keeps the contract passes each check."""
    await getattr(Right(), check)()


@pytest.mark.parametrize(("check", "kind"), FAULTS)
async def test_each_check_finds_what_it_is_about(check, kind, monkeypatch):
    """U1: an adapter with a fault fails the check that is about it."""
    monkeypatch.setattr(sdk_contract, "SOON", 0.5)
    adapter = Right()
    adapter.kind = kind
    with pytest.raises((AssertionError, pytest.fail.Exception, test_callables.Refused, TokenUnavailable, RuntimeError)):
        await getattr(adapter, check)()


def test_each_check_has_a_fault():
    """U1: no check is without an adapter that fails it, but the one of frames that are not ours."""
    assert {check for check, _ in FAULTS} == set(sdk_contract.checks()) - {"test_frames_of_the_library"}


def test_what_differs_is_shown():
    """U1: a subclass that says that a check comes out otherwise must show how."""
    with pytest.raises(TypeError, match="does not override"):
        type("Claims", (Right,), {"differs": {"test_rotation": "It is never seen"}})


async def test_healing_is_not_denied():
    """U1: an adapter that heals may not say that it cannot."""
    with pytest.raises(pytest.fail.Exception):
        await type("Modest", (Right,), {"heals": "It cannot"})().test_revocation()
