"""
U5: a client that blocks the manager's loop, and calls back from a thread meanwhile, gets an error and does not hang.

Some SDKs do this: they ask for the token in a thread of their own, or on a loop of their own, and wait for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from evertoken import Grant, Token, TokenManager

#: Seconds in which each of the callers is told, all of them at once.
SOON = 9.0

Calls = dict[str, Callable[[Any], Any]]


def refuse(*_: object) -> None:
    raise PermissionError


async def refuse_async(*_: object) -> None:
    raise PermissionError


async def ask(auth: httpx.Auth) -> None:
    async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(lambda _: httpx.Response(401))) as client:
        await client.get("https://api.example.com")


def ask_sync(auth: httpx.Auth) -> None:
    with httpx.Client(auth=auth, transport=httpx.MockTransport(lambda _: httpx.Response(401))) as client:
        client.get("https://api.example.com")


#: Calls that need the manager's loop, with a valid token or without.
ALWAYS: Calls = {
    "get_sync, min_ttl": lambda tokens: tokens.get_sync(min_ttl=1e9),
    "handle.get_sync, min_ttl": lambda tokens: tokens.handle().get_sync(min_ttl=1e9),
    "access_token_sync, min_ttl": lambda tokens: tokens.access_token_sync(min_ttl=1e9),
    "attempt_sync": lambda tokens: tokens.handle().attempt_sync(refuse, refused=PermissionError),
    "refused_sync": lambda tokens: tokens.refused_sync("token"),
    "handle.refused_sync": lambda tokens: tokens.handle().refused_sync("token"),
    "refused_sync, wait": lambda tokens: tokens.refused_sync("token", wait=False),
    "httpx.Client": lambda tokens: ask_sync(tokens.auth()),
    "get, min_ttl": lambda tokens: asyncio.run(tokens.get(min_ttl=1e9)),
    "access_token, min_ttl": lambda tokens: asyncio.run(tokens.access_token(min_ttl=1e9)),
    "attempt": lambda tokens: asyncio.run(tokens.handle().attempt(refuse_async, refused=PermissionError)),
    "refused": lambda tokens: asyncio.run(tokens.refused("token")),
    "refresh": lambda tokens: asyncio.run(tokens.refresh()),
    "handle.refresh": lambda tokens: asyncio.run(tokens.handle().refresh()),
    "invalidate": lambda tokens: asyncio.run(tokens.invalidate("token")),
    "forget": lambda tokens: asyncio.run(tokens.forget()),
    "revoke": lambda tokens: asyncio.run(tokens.revoke()),
    "put": lambda tokens: asyncio.run(tokens.put(Token("other", issued_at=0.0))),
    "status": lambda tokens: asyncio.run(tokens.status()),
    "import_grants": lambda tokens: asyncio.run(tokens.import_grants({None: Grant("refresh")})),
    "httpx.AsyncClient": lambda tokens: asyncio.run(ask(tokens.auth())),
}

#: Calls that read the valid token in any thread.
READS: Calls = {
    "get_sync": lambda tokens: tokens.get_sync(),
    "get_sync, timeout": lambda tokens: tokens.get_sync(timeout=60.0),
    "handle.get_sync": lambda tokens: tokens.handle().get_sync(),
    "access_token_sync": lambda tokens: tokens.access_token_sync(),
    "handle.access_token_sync": lambda tokens: tokens.handle().access_token_sync(),
    "get": lambda tokens: asyncio.run(tokens.get()),
    "handle.get": lambda tokens: asyncio.run(tokens.handle().get()),
    "access_token": lambda tokens: asyncio.run(tokens.access_token()),
    "handle.access_token": lambda tokens: asyncio.run(tokens.handle().access_token()),
}


async def never() -> tuple[str, float]:
    await asyncio.sleep(3600.0)
    raise AssertionError


async def at_once() -> tuple[str, float]:
    return "token", 3600.0


def called_back(calls: Calls, tokens: Any) -> dict[str, Any]:
    """Make all of *calls*, each in a thread of its own, while this blocks the loop; return what each one met."""
    found: dict[str, Any] = {}

    def call(name: str) -> None:
        try:
            found[name] = calls[name](tokens)
        except Exception as error:  # noqa: BLE001 - kept for the test to judge
            found[name] = error

    threads = [threading.Thread(target=call, args=(name,), daemon=True) for name in calls]
    for one in threads:
        one.start()
    end = time.monotonic() + SOON
    for one in threads:
        one.join(max(end - time.monotonic(), 0.0))
    return found


@pytest.mark.parametrize("valid", [True, False])
async def test_called_back_from_threads_and_loops(valid):
    """U5: with a valid token, reading works. All that needs the blocked loop raises an error that says so."""
    async with TokenManager(at_once if valid else never, fetch_timeout=60.0, close_grace=0.0) as tokens:
        if valid:
            await tokens.get()
        found = called_back({**ALWAYS, **READS}, tokens)
        assert {*ALWAYS, *READS} == set(found)
        for name, met in found.items():
            if valid and name in READS:
                assert "token" in (met, getattr(met, "access_token", None)), (name, met)
            else:
                assert type(met) is RuntimeError, (name, met)
                assert "blocked" in str(met), (name, met)
                assert "run_in_background" in str(met), (name, met)
        # The loop is free again, and so is the manager.
        if valid:
            assert (await tokens.get()).access_token == "token"


async def test_called_on_the_loop_itself():
    """U5: the sync forms on the manager's own loop raise at once, where they would have to wait for it."""
    async with TokenManager(never, fetch_timeout=60.0, close_grace=0.0) as tokens:
        begun = time.monotonic()
        for name, call in {**ALWAYS, **READS}.items():
            if "_sync" in name or name == "httpx.Client":
                with pytest.raises(RuntimeError, match="would stop the manager's own event loop"):
                    call(tokens)
        assert time.monotonic() - begun < SOON
