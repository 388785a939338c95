"""Scenarios about the authorization server: how often it is asked, and what happens when it is slow, down or silent."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from tests.benchmarks._measure import run
from tests.benchmarks._process import ServerProcess
from tests.comparison._peer import Peer
from tests.comparison._play import BOUND, Outcome, Scenario, attempt, opened, room, stream, together

__all__ = ["PROVIDER", "WORK"]

#: Of the token endpoint during a renewal, and the time from which a request counts as one that waited. Both are long,
#: because a busy machine delays requests as well.
LATENCY, WAITED = 4.0, 2.5


def first_token(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        server.tell("set", "latency", 0.3)
        async with opened(kind, server) as peer:
            outcomes = await together(peer, 50)
            failed = sum(outcome.failed for outcome in outcomes)
            return f"{server.stats.token_requests}" + (f" ({failed} failed)" if failed else "")

    return run(main)


def renewal(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        lifetime, due = room(kind)
        server.tell("set", "lifetime", lifetime)
        async with opened(kind, server) as peer:
            await attempt(peer)
            peer.ripen()
            server.tell("set", "lifetime", 3600.0)
            server.tell("set", "latency", LATENCY)
            outcomes = await stream(peer, seconds=due + 2.0, rate=10.0)
            if server.stats.token_requests < 2:
                return "no renewal"
            return f"{sum(outcome.took > WAITED for outcome in outcomes)}"

    return run(main)


def short_tokens(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        server.tell("set", "lifetime", 20.0)
        async with opened(kind, server) as peer:
            failed = 0
            for _ in range(50):
                failed += (await attempt(peer)).failed
            return f"{server.stats.token_requests}" + (f" ({failed} failed)" if failed else "")

    return run(main)


def idle(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        server.tell("set", "lifetime", kind.due_after)
        async with opened(kind, server) as peer:
            await attempt(peer)
            server.tell("reset_stats")
            await asyncio.sleep(5.0)
            return f"{server.stats.token_requests}"

    return run(main)


def imports(kind: type[Peer], _: ServerProcess) -> str:
    return f"{_import_cpu(kind.imports) - _import_cpu('pass'):.2f} s"


def _import_cpu(statement: str) -> float:
    """Return the least CPU time of three interpreters that run *statement*."""
    measured = f"{statement}\nimport time; print(time.process_time())"
    spent = [
        subprocess.run([sys.executable, "-c", measured], check=True, capture_output=True, text=True) for _ in range(3)
    ]
    return min(float(each.stdout) for each in spent)


def outage(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        outcomes = await _while_it_is_due(kind, server, 503, seconds=3.0, rate=40.0)
        return f"{sum(outcome.failed for outcome in outcomes)} of {len(outcomes)}"

    return run(main)


def hang(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        outcomes = await _while_it_is_due(kind, server, "hang", seconds=4.0, rate=3.0)
        longest = max(outcome.took for outcome in outcomes)
        return f"over {BOUND:.0f} s" if longest >= BOUND - 0.1 else f"{longest:.0f} s"

    return run(main)


async def _while_it_is_due(
    kind: type[Peer], server: ServerProcess, fault: int | str, *, seconds: float, rate: float
) -> list[Outcome]:
    """Send requests while a token is due, the old one is valid as long as the library knows, and the provider fails."""
    lifetime, due = room(kind)
    server.tell("set", "lifetime", lifetime)
    async with opened(kind, server) as peer:
        await attempt(peer)
        peer.ripen()
        server.tell("fail", fault)
        await asyncio.sleep(due)
        outcomes = await stream(peer, seconds=seconds, rate=rate)
        server.tell("heal")
    return outcomes


def down_from_the_start(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        async with opened(kind, server) as peer:
            server.tell("fail", 503)
            await stream(peer, seconds=4.0, rate=50.0)
            return f"{server.stats.token_requests}"

    return run(main)


def cancelled(kind: type[Peer], server: ServerProcess) -> str:
    async def main() -> str:
        server.tell("set", "latency", 0.6)
        async with opened(kind, server) as peer:
            tasks = [asyncio.create_task(attempt(peer)) for _ in range(20)]
            for _ in range(30):
                await asyncio.sleep(0.05)
                if server.stats.token_requests:
                    break
            tasks[0].cancel()
            outcomes = await asyncio.gather(*tasks[1:], return_exceptions=True)
            served = sum(isinstance(outcome, Outcome) and not outcome.failed for outcome in outcomes)
            return f"{served} / {server.stats.token_requests}"

    return run(main)


WORK = (
    Scenario("first token", "50 callers, no token: fetches", first_token),
    Scenario("renewal", "renewal: requests that waited", renewal),
    Scenario("short tokens", "20 s tokens, 50 requests: fetches", short_tokens),
    Scenario("idle", "5 s without a caller: fetches", idle),
    Scenario("import", "import: CPU", imports),
)

PROVIDER = (
    Scenario("outage", "down as a renewal is due: failed", outage),
    Scenario("hang", "silent as a renewal is due: longest wait", hang),
    Scenario("down", "down, no token, 200 requests: fetches", down_from_the_start),
    Scenario("cancelled", "first of 20 callers cancelled: served / fetches", cancelled),
)
