"""F4: a secret in a file that was corrected after a rejection is tried at once, and only then."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import threading
import urllib.parse
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.gated import virtual

from evertoken import GrantRejected, ManagerClosed, TokenError, TokenManager
from evertoken._signing.secret_file import read_secret_file
from evertoken.sources import (
    ClientAssertion,
    ClientCredentials,
    Fallback,
    JwtBearer,
    OAuthClient,
    RefreshToken,
    TokenExchange,
)

RIGHT = "the-right-secret"


class Server:
    """A token endpoint that knows RIGHT only, whatever it is called; and which requests it received."""

    def __init__(self):
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        basic = request.headers.get("Authorization", "Basic ").removeprefix("Basic ")
        seen = base64.b64decode(basic).decode() + urllib.parse.unquote(request.content.decode())
        if RIGHT not in seen:
            return httpx.Response(400, json={"error": "invalid_grant"})
        return httpx.Response(200, json={"access_token": "token", "token_type": "Bearer", "expires_in": 3600})


def sources(http: httpx.AsyncClient, path: Path):
    """Return one source of each kind that reads *path* for each fetch."""
    secret, plain = {"client_id": "a", "client_secret": path}, {"client_id": "a"}

    def client(**options):
        return OAuthClient(token_endpoint="https://as.example/token", http_client=http, **options)

    return {
        "client_secret": ClientCredentials(client(**secret)),
        "client_secret_post": ClientCredentials(client(**secret, client_auth="client_secret_post")),
        "client assertion": ClientCredentials(client(**plain, client_auth=ClientAssertion(path))),
        "assertion": JwtBearer(client(**plain), path),
        "subject_token": TokenExchange(client(**plain), path),
        "actor_token": TokenExchange(client(**plain), "subject", actor_token=path),
        "refresh_token": RefreshToken(client(**plain), path, rotates=False),
        "fallback": Fallback(ClientCredentials(client(**secret)), TokenExchange(client(**plain), "subject")),
    }


KINDS = list(sources(httpx.AsyncClient(), Path("secret")))


@contextlib.asynccontextmanager
async def managed(path: Path, clock: Any, kind: str = "client_secret"):
    """Give a manager over a source that reads *path*, and its server."""
    server = Server()
    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        async with TokenManager(sources(http, path)[kind], clock=clock) as tokens:
            yield tokens, server


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "secret"
    path.write_text("wrong")
    path.chmod(0o600)
    return path


@virtual
@pytest.mark.parametrize("kind", KINDS)
async def test_a_corrected_file_is_tried_at_once(kind, path, clock):
    """F4: the next caller after the correction is served. Before it, callers cost no request, and a touch none."""
    async with managed(path, clock, kind) as (tokens, server):
        with pytest.raises(GrantRejected):
            await tokens.get()
        asked = server.requests
        for content in ("wrong", "wrong", None):
            await clock.advance(2.0)
            path.write_text(content) if content else path.unlink()
            with pytest.raises(GrantRejected):
                await tokens.get()
        assert server.requests == asked
        await clock.advance(2.0)
        path.write_text(RIGHT)
        path.chmod(0o600)
        assert (await tokens.get()).access_token == "token"


@virtual
async def test_each_correction_costs_one_request(path, clock):
    """F4: a file that is corrected badly is rejected again, once, and the next look waits twice as long."""
    async with managed(path, clock) as (tokens, server):
        for number in range(4):
            path.write_text(f"wrong-{number}")
            for _ in range(90):
                with pytest.raises(GrantRejected):
                    await tokens.get()
                await clock.advance(0.1)
            assert server.requests == number + 1
        path.write_text(RIGHT)
        await clock.advance(8.0)
        assert (await tokens.get(timeout=5.0)).access_token == "token"


@virtual
async def test_a_file_that_differs_each_time_is_no_storm(clock):
    """F1, F4: a file that differs each time that it is read costs fewer and fewer requests."""
    path = Path("/proc/sys/kernel/random/uuid")
    if not path.exists():
        pytest.skip("only Linux has such a file")
    async with managed(path, clock) as (tokens, server):
        for _ in range(2550):
            with pytest.raises(GrantRejected):
                await tokens.get()
            await clock.advance(0.1)
    # The first one, and then after 1, 2, 4, ... 64 seconds, each a little later than that.
    assert server.requests == 8


@virtual
async def test_callers_that_do_not_wait_are_served_too(path, clock):
    """F4: a caller with `timeout=0` starts the look, and one of the next is served."""
    async with managed(path, clock) as (tokens, _):
        with pytest.raises(GrantRejected):
            await tokens.get()
        path.write_text(RIGHT)
        await clock.advance(1.0)
        for _ in range(20):
            with contextlib.suppress(GrantRejected):
                await tokens.get(timeout=0.0)
            await clock.advance(0.1)
        assert tokens.peek() is not None


@virtual
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no pipes with names")
async def test_a_pipe_is_not_looked_at(tmp_path, path, clock):
    """F4: a look takes nothing out of a pipe, does not wait for its writer, and others' files are still looked at."""
    pipe, server = tmp_path / "pipe", Server()
    os.mkfifo(pipe, 0o600)

    def write() -> None:
        pipe.write_text("wrong")

    async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
        keys = {"pipe": sources(http, pipe)["client_secret"], "file": sources(http, path)["client_secret"]}
        async with TokenManager(keys, clock=clock, start="lazy") as tokens:
            writer = threading.Thread(target=write, daemon=True)
            writer.start()
            for key in keys:
                with pytest.raises(GrantRejected):
                    await tokens.get(key)
            writer.join(10.0)
            for _ in range(12):
                await clock.advance(2.0)
                begun = clock.monotonic()
                with pytest.raises(GrantRejected):
                    await tokens.get("pipe")
                assert clock.monotonic() == begun
            path.write_text(RIGHT)
            assert (await tokens.get("file")).access_token == "token"


@virtual
@pytest.mark.parametrize("what", ["a look is cancelled", "a huge file", "a directory", "closed meanwhile"])
async def test_a_look_that_fails_changes_nothing(what, path, clock):
    """F4, R5: however a look ends, callers get the rejection, and nothing else."""
    async with managed(path, clock) as (tokens, _):
        with pytest.raises(GrantRejected):
            await tokens.get()
        await clock.advance(2.0)
        if what == "a huge file":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        elif what == "a directory":
            path.unlink()
            path.mkdir()
        else:
            path.write_text(RIGHT)
        asking = asyncio.ensure_future(tokens.get())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        looks = [task for task in asyncio.all_tasks() if task.get_name().startswith("evertoken:files:")]
        assert looks
        if what == "a look is cancelled":
            looks[0].cancel()
        if what == "closed meanwhile":
            await tokens.aclose()
        with pytest.raises(TokenError if what == "a huge file" else (GrantRejected, ManagerClosed)):
            await asking


class Reading:
    """A source with refresh tokens that rotate, and with a secret in *path*, which the server changes now and then."""

    rotates = True
    identity = "reading"

    def __init__(self, path: Path):
        self.path, self.right, self.fetches = path, "right-0", 0

    async def fetch(self, request):
        self.fetches += 1
        if read_secret_file(self.path).decode() != self.right:
            raise GrantRejected("invalid_client")
        n = self.fetches
        return {"access_token": f"a{n}", "refresh_token": f"r{n}", "expires_in": 3600}


@pytest.fixture
def reading(path):
    path.write_text("right-0")
    return Reading(path)


@virtual
async def test_each_change_of_the_secret_is_noticed_as_soon(reading, clock):
    """F4: a correction that helped does not make the next one wait longer."""
    async with TokenManager(reading, clock=clock) as tokens:
        await tokens.refresh()
        for number in range(1, 7):
            token = await tokens.get()
            reading.right = f"right-{number}"
            await tokens.invalidate(token)
            with pytest.raises(GrantRejected):
                await tokens.refresh()
            await clock.advance(1.0)
            reading.path.write_text(reading.right)
            assert (await tokens.get()).valid_at(clock.time())


@virtual
async def test_all_tasks_are_cancelled_as_a_look_begins(reading, clock):
    """F4, F5: a look that was cancelled before its first step leaves nobody waiting."""
    reading.right = "another"
    async with TokenManager(reading, clock=clock) as tokens:
        with pytest.raises(GrantRejected):
            await tokens.get()
        await clock.advance(2.0)
        asking = asyncio.ensure_future(tokens.get())
        while not any(task.get_name().startswith("evertoken:files:") for task in asyncio.all_tasks()):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with contextlib.suppress(GrantRejected, asyncio.CancelledError):
            await asking
        for _ in range(3):
            with pytest.raises(GrantRejected):
                await tokens.get()
