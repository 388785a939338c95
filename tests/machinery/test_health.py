"""Health as probes ask for it: alive, ready and degraded apart; by ASGI, by a file, by an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

import httpx
import pytest
from tests.gated import virtual
from tests.machinery.scripted import ScriptedSource

from evertoken import Counts, GrantRejected, Health, Token, TokenError, TokenManager, TransientRefreshError
from evertoken.health import DEGRADED, DOWN, OK, HealthApp, exit_code, file_exit_code, main
from evertoken.stores import MemoryStore

plain = pytest.mark.asyncio(loop_factories=["virtual"])

DEAD, PASSING = GrantRejected("invalid_grant"), TransientRefreshError("down")


async def ask(tokens, *key):
    with contextlib.suppress(TokenError):
        await tokens.get(*key)


def test_counts_of_a_manager_that_never_ran():
    """Before its start a manager counts its one key, and no fetch."""
    counts = TokenManager(lambda: "token").counts()
    assert counts == Counts(
        keys=1, valid=0, failing=0, rejected=0, signed_out=0, in_flight=0, queued=0, providers_down=0
    )


@virtual
@pytest.mark.parametrize("error", [DEAD, PASSING])
@pytest.mark.parametrize(
    ("critical", "ready", "degraded"),
    [
        (None, False, ["bad"]),
        (["bad"], False, ["bad"]),
        (["bad", "good"], False, ["bad"]),
        (["good"], True, ["bad"]),
        ([], True, ["bad"]),
    ],
)
async def test_which_declared_keys_count(clock, error, critical, ready, degraded):
    """L2: the keys known at construction make a process unready, or those that are named."""
    good, bad = ScriptedSource(clock), ScriptedSource(clock)
    bad.error = error
    async with TokenManager({"good": good, "bad": bad}, clock=clock, critical=critical) as tokens:
        await ask(tokens, "good")
        await ask(tokens, "bad")
        health = tokens.health()
        assert health.alive
        assert (health.ready, list(health.degraded)) == (ready, degraded)
        assert list(health.rejected) == (["bad"] if error is DEAD else [])
        bad.error = None
        await clock.advance(400.0)
        assert tokens.health().ready
        assert not tokens.health().degraded


@virtual
@pytest.mark.parametrize("error", [DEAD, PASSING])
async def test_a_tenant_makes_nobody_unready(clock, error):
    """L2: a dead grant, or an outage, of a key of source_for is degraded and no reason to be unready."""
    source = ScriptedSource(clock)
    async with TokenManager(source_for=lambda key: source, clock=clock) as tokens:
        source.error = error
        await ask(tokens, "tenant")
        health = tokens.health()
        assert health.ready
        assert health.degraded == health.failing == ("tenant",)


@virtual
async def test_a_failure_that_a_valid_token_covers_is_not_degraded(clock):
    """L2: the last fetch failed and nobody is told of it: failing, and neither degraded nor unready."""
    source = ScriptedSource(clock)
    async with TokenManager(source, clock=clock) as tokens:
        await tokens.get()
        source.error = PASSING
        await ask_refresh(tokens)
        health = tokens.health()
        assert (health.ready, health.degraded, health.failing) == (True, (), (None,))
        await clock.advance(3600.0)
        health = tokens.health()
        assert (health.ready, health.degraded) == (False, (None,))


async def ask_refresh(tokens):
    with contextlib.suppress(TokenError):
        await tokens.refresh()


@virtual
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("declared", [False, True])
async def test_a_sign_out_is_no_failure(clock, shared, declared):
    """L2: a key that was signed out on purpose is neither rejected, failing, degraded nor a reason to be unready."""
    source = ScriptedSource(clock)
    options = {"clock": clock, "store": MemoryStore(clock=clock) if shared else None, "namespace": "n"}
    tokens = (
        TokenManager({"stays": source, "leaves": source}, **options)
        if declared
        else TokenManager(source_for=lambda key: source, critical=["stays", "leaves"], **options)
    )
    async with tokens:
        await tokens.get("stays")
        await tokens.get("leaves")
        await tokens.revoke("leaves")
        await ask(tokens, "leaves")
        health = tokens.health()
        assert health.ready
        assert health.rejected == health.failing == health.degraded == ()
        assert tokens.snapshot("leaves").status == (await tokens.status("leaves")).status == "signed_out"


@virtual
@pytest.mark.parametrize("declared", [True, False])
async def test_a_first_fetch_under_way(clock, declared):
    """L2: a key without a token that is still being fetched keeps a process unready if it is critical."""
    source = ScriptedSource(clock, latency=5.0)
    tokens = (
        TokenManager({"k": source}, clock=clock)
        if declared
        else TokenManager(source_for=lambda key: source, clock=clock)
    )
    async with tokens:
        if not declared:
            stream = tokens.subscribe("k")
            await clock.advance(1.0)
            assert not stream._closed
        await clock.advance(1.0)
        health = tokens.health()
        assert (health.ready, health.degraded) == ((False, ("k",)) if declared else (True, ()))
        await clock.advance(5.0)
        assert tokens.health().ready


@virtual
async def test_a_critical_key_of_many_is_opened_at_the_start_and_stays(clock):
    """L2: a key that is named is fetched without being asked for, and is not dropped as idle; others are."""
    source = ScriptedSource(clock)
    async with TokenManager(source_for=lambda key: source, clock=clock, critical=["main"], idle_after=600.0) as tokens:
        await clock.advance(1.0)
        assert tokens.health().ready
        await tokens.get("tenant")
        await clock.advance(7200.0)
        assert list(tokens.snapshot().keys) == ["main"]
        assert tokens.health().ready
        assert tokens.peek("main") is not None
    assert not tokens.health().ready
    assert not tokens.health().alive


@pytest.mark.parametrize(
    ("critical", "kind", "error", "says"),
    [
        ("main", "many", TypeError, "critical"),
        (5, "many", TypeError, "critical"),
        ([None], "many", ValueError, "critical has the key None"),
        (["other"], "mapping", ValueError, "critical has the key 'other'"),
        (["k"], "one", ValueError, "critical has the key 'k'"),
    ],
)
def test_critical_keys_that_cannot_be(critical, kind, error, says):
    """L2: the message names the parameter, and the key."""

    async def login():
        return "token", 3600

    with pytest.raises(error, match=says):
        if kind == "many":
            TokenManager(source_for=lambda key: login, critical=critical)
        else:
            TokenManager({"k": login} if kind == "mapping" else login, critical=critical)


def test_the_first_unknown_key_of_initial_is_named():
    """L2: the message about tokens for keys that a manager does not have names the first one."""
    given = {key: Token("t", issued_at=0.0) for key in ("known", "first", "second")}
    with pytest.raises(ValueError, match="initial has the key 'first', which"):
        TokenManager({"known": lambda: "token"}, initial=given)


def health(*, alive=True, ready=True, degraded=()):
    return Health(
        alive=alive, ready=ready, last_beat_at=1.0, restarts=0, failing=(), rejected=(), degraded=tuple(degraded)
    )


class Of:
    def __init__(self, found):
        self.found = found

    def health(self):
        return self.found


@pytest.mark.parametrize(
    ("found", "livez", "readyz", "code", "live_code"),
    [
        ([health()], 200, 200, OK, OK),
        ([health(ready=False, degraded=["tenant-7"])], 200, 503, DEGRADED, OK),
        ([health(degraded=["tenant-7"])], 200, 200, OK, OK),
        ([health(alive=False)], 503, 503, DOWN, DOWN),
        ([health(alive=False, ready=False)], 503, 503, DOWN, DOWN),
        ([health(), health(ready=False)], 200, 503, OK, OK),
        ([health(), health(alive=False)], 503, 503, OK, OK),
    ],
)
@pytest.mark.asyncio
async def test_probes(found, livez, readyz, code, live_code):
    """L2: both paths, and the exit code, agree with health(). Their answers name no key."""
    app = HealthApp(*map(Of, found))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://probes") as client:
        assert (await client.get("/livez")).status_code == livez
        answer = await client.get("/readyz")
        assert answer.status_code == readyz
        assert answer.json()["degraded"] == sum(len(one.degraded) for one in found)
        assert "tenant" not in answer.text
        assert answer.headers["cache-control"] == "no-store"
        head = await client.head("/readyz")
        assert (head.status_code, head.content) == (readyz, b"")
        assert (await client.post("/readyz")).status_code == 405
        assert (await client.get("/")).status_code == 404
    assert exit_code(found[0]) == code
    assert exit_code(found[0], ready=False) == live_code


@pytest.mark.asyncio
async def test_an_application_that_is_mounted_or_served_alone():
    """L2: the path is the one below the mount (ASGI), a server's start and stop are answered, a websocket is not."""
    app = HealthApp(Of(health()))
    sent = []

    async def send(message):
        sent.append(message["type"] if "status" not in message else message["status"])

    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive():
        return next(events)

    await app({"type": "http", "method": "GET", "path": "/probes/livez", "root_path": "/probes"}, receive, send)
    await app({"type": "lifespan"}, receive, send)
    assert sent == [200, "http.response.body", "lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ValueError, match="websocket"):
        await app({"type": "websocket"}, receive, send)
    with pytest.raises(ValueError, match="at least one"):
        HealthApp()


@plain
async def test_a_health_file(clock, tmp_path):
    """L2: it is written by the supervisor's schedule, replaced as a whole, and removed at the close."""
    path, source = tmp_path / "health", ScriptedSource(clock)
    source.error = PASSING
    for _ in range(2):
        async with TokenManager(source, clock=clock, health_file=path) as tokens:
            await clock.advance(0.5)
            assert json.loads(path.read_text())["alive"] is True
            assert json.loads(path.read_text())["ready"] is False
            source.error = None
            await clock.advance(70.0)
            body = json.loads(path.read_text())
            assert (body["alive"], body["ready"], body["degraded"]) == (True, True, 0)
            assert body["at"] >= clock.time() - 10.0
            assert tokens.health().ready
            source.error = PASSING
            await ask_refresh(tokens)
            await clock.advance(3700.0)
            assert json.loads(path.read_text())["ready"] is False
        assert list(tmp_path.iterdir()) == []


@plain
async def test_a_health_file_that_cannot_be_written_stops_nothing(clock, tmp_path, caplog):
    """L2: it is told once, and written as soon as that can be done."""
    folder = tmp_path / "later"
    async with TokenManager(ScriptedSource(clock), clock=clock, health_file=folder / "health") as tokens:
        await clock.advance(60.0)
        assert tokens.health().ready
        assert caplog.text.count("cannot be written") == 1
        folder.mkdir()
        await clock.advance(11.0)
        assert (folder / "health").exists()


@plain
async def test_a_clock_that_is_set_back_does_not_stop_the_file(clock, tmp_path):
    """T2: after a clock step of an hour back, the file is still written in its usual time."""
    path = tmp_path / "health"
    async with TokenManager(ScriptedSource(clock), clock=clock, health_file=path):
        await clock.advance(30.0)
        path.unlink()
        clock.step(-3600.0)
        await clock.advance(25.0)
        assert path.exists()


@pytest.mark.parametrize(
    ("text", "age", "code", "live_code"),
    [
        (json.dumps({"alive": True, "ready": True}), 0.0, OK, OK),
        (json.dumps({"alive": True, "ready": False}), 0.0, DEGRADED, OK),
        (json.dumps({"alive": False, "ready": True}), 0.0, DOWN, DOWN),
        (json.dumps({"alive": True, "ready": True}), 31.0, DOWN, DOWN),
        (json.dumps({"alive": 1, "ready": True}), 0.0, DOWN, DOWN),
        (json.dumps({}), 0.0, DOWN, DOWN),
        (json.dumps([]), 0.0, DOWN, DOWN),
        ("", 0.0, DOWN, DOWN),
        (None, 0.0, DOWN, DOWN),
    ],
)
def test_what_a_file_says(tmp_path, text, age, code, live_code):
    """L2: a file that is missing, torn or old stands for a process that does not live."""
    path = tmp_path / "health"
    if text is not None:
        path.write_text(text)
        os.utime(path, (time.time() - age, time.time() - age))
    assert file_exit_code(path) == main([str(path), "--ready"]) == code
    assert file_exit_code(path, ready=False) == main([str(path)]) == live_code


@pytest.mark.parametrize("arguments", [[], ["one", "two"], ["one", "--what"]])
def test_a_command_that_is_misspelt(arguments, capsys):
    """L2: it says how it is meant, and is no success."""
    assert main(arguments) == DOWN
    assert "usage:" in capsys.readouterr().err


def test_the_command(tmp_path):
    """L2: a probe that runs the module gets the exit code."""
    path = tmp_path / "health"
    path.write_text(json.dumps({"alive": True, "ready": False}))
    command = [sys.executable, "-W", "error", "-m", "evertoken.health", str(path)]
    assert subprocess.run(command, check=False).returncode == OK
    assert subprocess.run([*command, "--ready"], check=False).returncode == DEGRADED
