"""A storm of 401s: every token is revoked under 500 requests, and one fetch heals them all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx
from tests.docs.pictures.canvas import WIDTH, Picture, milliseconds
from tests.docs.pictures.simulation import Provider, simulate

from evertoken import TokenManager
from evertoken.testing import VirtualClock

REQUESTS, LATENCY, END = 500, 0.15, 0.42
LEFT, RIGHT = 14.0, WIDTH - 14.0


@dataclass
class Request:
    """One request of the program. All instants are seconds from the moment when all of them start."""

    tries: list[tuple[float, float, int]]
    status: int = 0


@dataclass
class Played:
    """What happened: each request, and when each fetch started and ended."""

    requests: list[Request]
    fetches: list[tuple[float, float]]


async def play(clock: VirtualClock) -> Played:
    """Revoke the token in service, and send all requests at once."""
    provider = Provider(clock, lifetime=3600.0, latency=LATENCY)
    requests = [Request([]) for _ in range(REQUESTS)]
    revoked: set[str] = set()
    began = clock.time()

    async def respond(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params["number"])
        started = clock.time()
        # Between 20 and 79 ms, and the last 25 requests are so slow that their 401 comes after the fetch.
        took = (
            0.02
            + 0.001 * (number * 37 % 60)
            + (0.16 if number >= REQUESTS - 25 and not requests[number].tries else 0.0)
        )
        await asyncio.sleep(took)
        status = 401 if request.headers["authorization"].removeprefix("Bearer ") in revoked else 200
        requests[number].tries.append((started - began, clock.time() - began, status))
        return httpx.Response(status)

    async with TokenManager(provider, clock=clock) as tokens:
        revoked.add((await tokens.get()).access_token)
        await clock.advance(60.0)
        provider.fetches.clear()
        began = clock.time()
        async with httpx.AsyncClient(transport=httpx.MockTransport(respond), auth=tokens.auth()) as client:

            async def send(number: int) -> None:
                response = await client.get("https://api.example.com/", params={"number": number})
                requests[number].status = response.status_code

            await asyncio.gather(*(send(number) for number in range(REQUESTS)))
    return Played(requests, [(started - began, ended - began) for started, ended, _ in provider.fetches])


def draw() -> str:
    """Return the picture."""
    played = simulate(play)
    refused = sum(one[2] == 401 for request in played.requests for one in request.tries)
    served = sum(request.status == 200 for request in played.requests)
    (started, ended), *more = played.fetches
    last = max(request.tries[-1][1] for request in played.requests)
    late = sum(request.tries[0][1] > ended for request in played.requests)
    assert not more
    picture = Picture(
        "A storm of 401s",
        f"{REQUESTS} requests start at once with a token that was revoked, and the API answers {refused} of them with"
        f" 401. The first 401, after {milliseconds(started)}, starts a fetch. Later 401s wait for the same fetch,"
        f" which ends after {milliseconds(ended)}. {late} of the 401s arrive after that and need no fetch. Each request"
        f" is sent once more with the new token. {served} requests end with 200, the last one after"
        f" {milliseconds(last)}. There is one fetch.",
    )

    def x(seconds: float) -> float:
        return LEFT + (RIGHT - LEFT) * seconds / END

    picture.text(LEFT, 24, "A storm of 401s", size=15, bold=True)
    picture.text(LEFT, 42, f"{REQUESTS} requests start with a revoked token", colour="soft")
    y = 70.0
    picture.text(LEFT, y, "Manager: fetches", bold=True)
    picture.box(x(started), y + 8, x(ended), y + 26, "good", corners=2)
    picture.text((x(started) + x(ended)) / 2, y + 21, "one fetch", size=11, anchor="middle", colour="paper")
    y += 52
    picture.text(LEFT, y, f"{REQUESTS} requests, one line each", bold=True)
    y += 10
    step = 0.56
    places = {number: y + step * number for number in range(REQUESTS)}
    ordered = sorted(played.requests, key=lambda request: request.tries[0][1])
    first = [(x(r.tries[0][0]), places[n], x(r.tries[0][1]), places[n]) for n, r in enumerate(ordered)]
    waits = [(x(r.tries[0][1]), places[n], x(r.tries[1][0]), places[n]) for n, r in enumerate(ordered)]
    again = [(x(r.tries[1][0]), places[n], x(r.tries[1][1]), places[n]) for n, r in enumerate(ordered)]
    picture.strokes(first, "bad", width=1.2 * step)
    picture.strokes([line for line in waits if line[2] - line[0] > 0.05], "rule", width=1.2 * step)
    picture.strokes(again, "good", width=1.2 * step)
    y += step * REQUESTS
    picture.line(x(ended), 100, x(ended), y, "good", dashed=True)
    y += 6
    picture.axis(y, [(x(m / 1000.0), f"{m} ms" if m else "0") for m in (0, 100, 200, 300, 400)], LEFT, RIGHT)
    y += 40
    for colour, words in (
        ("bad", f"first try, until its 401 ({refused})"),
        ("rule", "waits for the fetch"),
        ("good", f"sent again with the new token, until its 200 ({served})"),
    ):
        picture.box(LEFT, y - 9, LEFT + 14, y + 1, colour)
        picture.text(LEFT + 22, y, words, size=11, colour="soft")
        y += 18
    picture.text(LEFT, y + 6, f"{late} of the 401s came after the fetch. They started no other.", size=11)
    return picture.svg(y + 22)
