"""What the scenarios share: the server as it starts, requests that may fail, and how long they took."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from tests.benchmarks._process import ServerProcess
from tests.comparison._peer import Peer

__all__ = ["OK", "Outcome", "Scenario", "attempt", "opened", "room", "settle", "stream", "together"]

OK = 200
#: No request of a scenario takes longer.
BOUND = 6.0


@dataclass(frozen=True)
class Scenario:
    """
    One column.

    Args:
        name: How libraries and this code call it.

        heading: The heading of the column.

        play: Plays it with a library and returns the text of the cell.
    """

    name: str
    heading: str
    play: Callable[[type[Peer], ServerProcess], str]


@dataclass(frozen=True)
class Outcome:
    """What became of a request: the status (0 if it raised), and the seconds that it took."""

    status: int
    took: float

    @property
    def failed(self) -> bool:
        return self.status != OK


def settle(server: ServerProcess) -> None:
    """Let the server be as it is at the start of each scenario."""
    server.tell("heal")
    for name, value in {
        "lifetime": 3600.0,
        "latency": 0.0,
        "expires_in": ...,
        "extra": {},
        "rotate": False,
        "refuse_all": False,
    }.items():
        server.tell("set", name, value)


@contextlib.asynccontextmanager
async def opened(
    kind: type[Peer], server: ServerProcess, *, grant: str | None = None, file: Path | None = None
) -> AsyncIterator[Peer]:
    """Open a library on *server*, and count the server's requests from here on."""
    peer = kind(server, grant=grant, file=file)
    await peer.open()
    server.tell("reset_stats")
    try:
        yield peer
    finally:
        # What hangs in a scenario may hang here as well.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(BOUND):
                await peer.leave()
                await peer.aclose()


async def attempt(peer: Peer, since: float | None = None) -> Outcome:
    """Send one request. It counts from the instant *since*, at which it should have been sent, or from now."""
    begun = perf_counter() if since is None else since
    status = 0
    try:
        async with asyncio.timeout(BOUND):
            status = await peer.request()
    except asyncio.CancelledError:
        # Ours is passed on. A library may pass on that of another caller, which is a failure.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
    except Exception:  # noqa: BLE001 - whatever a library raises
        status = 0
    return Outcome(status, perf_counter() - begun)


async def together(peer: Peer, count: int) -> list[Outcome]:
    """Send *count* requests at once."""
    return list(await asyncio.gather(*(attempt(peer) for _ in range(count))))


async def stream(peer: Peer, *, seconds: float, rate: float) -> list[Outcome]:
    """Send *rate* requests a second for a time. What a blocked loop delays counts as delayed, and is sent later."""
    begun = perf_counter()
    tasks, unsent = [], []
    for number in range(round(seconds * rate)):
        planned = begun + number / rate
        await asyncio.sleep(max(0.0, planned - perf_counter()))
        if perf_counter() > begun + seconds + BOUND:
            unsent.append(Outcome(0, perf_counter() - planned))
        else:
            tasks.append(asyncio.create_task(attempt(peer, planned)))
    return [*await asyncio.gather(*tasks), *unsent]


def room(kind: type[Peer]) -> tuple[float, float]:
    """Return a lifetime, and the seconds after which this library wants another token."""
    return kind.room if any(kind.room) else (kind.due_after, 1.0)
