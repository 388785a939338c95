"""The demo runs two sides against one server, by one timetable."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, final

import httpx

from evertoken import RefreshPolicy, RetryPolicy, TokenManager, events
from evertoken.cli.load import Side, TimedReader
from evertoken.cli.result import Result, column_of, promises_of
from evertoken.cli.snippet import SnippetTokens
from evertoken.clients.httpx import BearerAuth
from evertoken.sources import ClientCredentials, OAuthClient
from evertoken.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken.cli.plan import Plan

__all__ = ["Progress", "View", "run_demo"]

_TICK = 0.1


@final
@dataclass(slots=True)
class Progress:
    """The state of the demo. Views display it."""

    plan: Plan
    evertoken: Side
    snippet: Side
    server: TokenServer
    started_at: float = 0.0
    at: float = 0.0
    news: list[str] = field(default_factory=list)

    def fetches(self, side: Side) -> int:
        """Return the number of token requests of *side*."""
        return sum(dict(request.form).get("client_id") == side.name for request in list(self.server.requests))


class View(Protocol):
    """Shows the progress of the demo."""

    def update(self, progress: Progress) -> None:
        """Show the present state."""


async def run_demo(plan: Plan, view: View) -> tuple[Result, Progress]:
    """Run both sides by the timetable. A cancellation ends it early, with partial results."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            TokenServer(lifetime=plan.lifetime, latency=plan.latency, resource_latency=0.005)
        )
        server.add_client("evertoken", "one-secret")
        server.add_client("snippet", "another-secret")
        loop, begun = asyncio.get_running_loop(), 0.0
        news: list[events.Event] = []
        source = ClientCredentials(
            OAuthClient(
                token_endpoint=server.token_endpoint,
                client_id="evertoken",
                client_secret="one-secret",
                client_auth="client_secret_post",
            )
        )
        tokens = await stack.enter_async_context(
            TokenManager(
                source,
                policy=RefreshPolicy(lead_fraction=0.5, jitter=0.0),
                retry=RetryPolicy(first=plan.retry[0], cap=plan.retry[1]),
                observers=[news.append],
                start="require",
            )
        )
        reader = TimedReader(tokens.handle(), lambda: loop.time() - begun)
        ours = await stack.enter_async_context(_client(BearerAuth(reader)))
        theirs = await stack.enter_async_context(_client())
        snippet = SnippetTokens(theirs, server.token_endpoint, "snippet", "another-secret", plan.margin)

        async def send_with_snippet() -> httpx.Response:
            headers = {"Authorization": f"Bearer {await snippet.get()}"}
            return await theirs.get(server.resource, headers=headers)

        progress = Progress(
            plan=plan,
            evertoken=Side("evertoken", lambda: ours.get(server.resource)),
            snippet=Side("snippet", send_with_snippet),
            server=server,
        )
        progress.evertoken.expires_at = lambda: tokens.snapshot().keys[None].expires_at
        progress.evertoken.due_at = lambda: tokens.snapshot().keys[None].due_at
        progress.snippet.expires_at = lambda: snippet.expires_at or None
        await snippet.get()
        server.reset_stats()
        begun, progress.started_at = loop.time(), time.time()
        complete = await _play(progress, begun, view)
        healing = sum(isinstance(event, events.FetchStarted) and event.reason == "refused" for event in news)
        return _result(progress, reader, healing, complete=complete), progress


async def _play(progress: Progress, begun: float, view: View) -> bool:
    plan, server = progress.plan, progress.server
    loop = asyncio.get_running_loop()
    tasks = [
        asyncio.create_task(side.run(begun, plan.seconds, plan.rate)) for side in (progress.evertoken, progress.snippet)
    ]
    acts: list[tuple[float, Callable[[], object], str]] = [
        (plan.outage[0], lambda: server.fail(503), "the token endpoint goes down"),
        (plan.outage[1], server.heal, "the token endpoint is back"),
        (plan.revocation, server.revoke_all, "all access tokens are revoked"),
    ]
    try:
        while not all(task.done() for task in tasks):
            progress.at = loop.time() - begun
            while acts and progress.at >= acts[0][0]:
                _, act, says = acts.pop(0)
                act()
                progress.news.append(f"{progress.at:5.1f} s  {says}")
            for side in (progress.evertoken, progress.snippet):
                expires_at = side.expires_at()
                if expires_at is not None and (not side.expiries or side.expiries[-1] != expires_at):
                    side.expiries.append(expires_at)
            view.update(progress)
            await asyncio.sleep(min(_TICK, max(acts[0][0] - progress.at, 0.0)) if acts else _TICK)
    except asyncio.CancelledError:
        return False
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    progress.at = plan.seconds
    view.update(progress)
    return True


def _result(progress: Progress, reader: TimedReader, healing: int, *, complete: bool) -> Result:
    columns = {}
    requests = list(progress.server.requests)
    for side in (progress.evertoken, progress.snippet):
        own = [request for request in requests if dict(request.form).get("client_id") == side.name]
        columns[side.name] = column_of(
            side.name,
            side.samples,
            progress.plan,
            token_requests=len(own),
            tokens_issued=sum(request.outcome == "issued" for request in own),
        )
    own = [request for request in requests if dict(request.form).get("client_id") == "evertoken"]
    return Result(
        plan=progress.plan,
        evertoken=columns["evertoken"],
        snippet=columns["snippet"],
        promises=promises_of(
            columns["evertoken"],
            progress.plan,
            waits=reader.waits,
            healing_fetches=healing,
            most_in_flight=_most_at_once([request.at for request in own], progress.plan.latency),
        ),
        complete=complete,
    )


def _most_at_once(starts: list[float], took: float) -> int:
    # The server counts both sides together. Each request takes the endpoint's latency and little more.
    return max((sum(start <= other < start + 0.9 * took for other in starts) for start in starts), default=0)


def _client(auth: httpx.Auth | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(auth=auth, timeout=30.0, limits=httpx.Limits(max_connections=None))
