"""Scenarios about the program around a library: its loop, its clock, its logs, and odd answers."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.benchmarks._measure import run
from tests.benchmarks._process import ServerProcess
from tests.comparison._peer import CLIENT_ID, CLIENT_SECRET, Peer
from tests.comparison._play import Scenario, attempt, opened, settle, together

__all__ = ["PROGRAM"]

HERE = Path(__file__).parent
#: The code around the libraries, which holds secrets of its own.
AROUND = {HERE / name for name in ("_peer.py", "_play.py", "scenarios_program.py")}
#: What `expires_in` may be. Without the field, the token is used until it is refused.
LIFETIMES: tuple[Any, ...] = ("3600", 3599.5, "3599.5", None, ...)


def second_loop(kind: type[Peer], server: ServerProcess) -> str:
    peer = kind(server)
    server.tell("set", "lifetime", kind.due_after)

    async def first() -> None:
        await peer.open()
        await together(peer, 5)
        peer.ripen()
        await peer.leave()
        await asyncio.sleep(2.2)

    async def second() -> str:
        try:
            await peer.reopen()
            outcomes = [*await together(peer, 5), *await together(peer, 5)]
        except Exception as error:  # noqa: BLE001 - any
            return type(error).__name__
        finally:
            await peer.leave()
        failed = sum(outcome.failed for outcome in outcomes)
        return f"{failed} of {len(outcomes)}"

    run(first)
    return run(second)


def clock_set_back(kind: type[Peer], server: ServerProcess) -> str:
    import time_machine  # noqa: PLC0415 - not for every Python

    async def main() -> str:
        server.tell("set", "lifetime", kind.due_after)
        async with opened(kind, server) as peer:
            await attempt(peer)
            peer.ripen()
            with time_machine.travel(datetime.now(UTC) - timedelta(hours=1), tick=True):
                await asyncio.sleep(2.2)
                # As if the whole lifetime had passed, however long it is.
                server.tell("revoke_all")
                failed = 0
                for _ in range(20):
                    failed += (await attempt(peer)).failed
            return f"{failed} of 20"

    return run(main)


def odd_lifetimes(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> bool:
        async with opened(kind, server) as peer:
            for _ in range(5):
                if (await attempt(peer)).failed:
                    return False
            return server.stats.token_requests == 1

    good = 0
    for lifetime in LIFETIMES:
        settle(server)
        # The server leaves the field out if it is None, and takes what is in `extra` as it is.
        server.tell("set", "expires_in", None if lifetime is ... else lifetime)
        server.tell("set", "extra", {"expires_in": None} if lifetime is None else {})
        good += run(main)
    return f"{good} of {len(LIFETIMES)}"


def secrets(kind: type[Peer], server: ServerProcess) -> str:
    """Look for secrets where programs put what they hold: printed, raised, logged, and in locals of a traceback."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    level = root.level

    async def main() -> tuple[list[str], list[BaseException]]:
        raised: list[BaseException] = []
        async with opened(kind, server) as peer:
            await peer.request()
            held = [f"{thing!r} {thing}" for thing in peer.held()]
        async with opened(kind, server) as peer:
            server.tell("fail", 400)
            try:
                await peer.request()
            except Exception as error:  # noqa: BLE001 - any
                raised.append(error)
            server.tell("heal")
        return held, raised

    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        held, raised = run(main)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    places = {
        "repr": " ".join(held),
        "error": " ".join(text for error in raised for text in _texts(error)),
        "log": log.getvalue(),
        "locals": " ".join(text for error in raised for text in _locals(error)),
    }
    return ", ".join(place for place, text in places.items() if SECRET.search(text)) or "none"


SECRET = re.compile(rf"{CLIENT_SECRET}|(?:access|refresh)-\d+-[\w-]{{20,}}|c3ZjOnMzY3JldA==")
assert CLIENT_ID == "svc"


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _texts(error: BaseException) -> list[str]:
    return [f"{each} {each!r}" for each in _chain(error)]


def _locals(error: BaseException) -> list[str]:
    """Return what an error reporter sends of the frames: each local, printed. Those of this code are left out."""
    found: list[str] = []
    for each in _chain(error):
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if Path(frame.f_code.co_filename) not in AROUND:
                found += map(_printed, frame.f_locals.values())
    return found


def _printed(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - any
        return ""


PROGRAM = (
    Scenario("second loop", "second event loop: failed", second_loop),
    Scenario("clock", "clock set back: failed", clock_set_back),
    Scenario("lifetimes", "odd lifetimes: usable", odd_lifetimes),
    Scenario("secrets", "secrets in", secrets),
)
