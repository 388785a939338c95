"""The life of a token: fetched once, replaced ahead of its expiry, and read by callers that do not wait."""

from __future__ import annotations

from dataclasses import dataclass

from tests.docs.pictures.canvas import WIDTH, Picture, minutes
from tests.docs.pictures.simulation import Provider, simulate

from evertoken import TokenManager, events
from evertoken.testing import VirtualClock

LIFETIME, LATENCY, END = 3600.0, 0.3, 8400.0
LEFT, RIGHT = 14.0, WIDTH - 14.0


@dataclass
class Life:
    """One token. All instants are seconds from the start."""

    fetched_at: float
    in_service_at: float
    due_at: float
    expires_at: float


@dataclass
class Played:
    """What happened: the tokens, and how long each call of `get()` took."""

    tokens: list[Life]
    calls: list[tuple[float, float]]


async def play(clock: VirtualClock) -> Played:
    """Call `get()` once a minute for 140 minutes."""
    seen: list[events.Event] = []
    began, calls = clock.time(), []
    async with TokenManager(
        Provider(clock, lifetime=LIFETIME, latency=LATENCY), clock=clock, observers=[seen.append], start="lazy"
    ) as tokens:
        while (at := clock.time() - began) <= END:
            await tokens.get()
            calls.append((at, clock.time() - began - at))
            await clock.advance(60.0 - (clock.time() - began) % 60.0)
    lives = [
        Life(one.at - one.took - began, one.at - began, one.due_at - began, (one.expires_at or 0.0) - began)
        for one in seen
        if isinstance(one, events.TokenRefreshed)
    ]
    return Played(lives, calls)


def draw() -> str:
    """Return the picture."""
    played = simulate(play)
    waited = [took for _, took in played.calls if took > 0.0]
    first = played.tokens[0]
    picture = Picture(
        "The life of a token",
        "140 minutes with tokens that are valid for 60 minutes. The first call of get() fetches the first token and"
        f" waits {waited[0]:.1f} s. The supervisor replaces that token after {minutes(first.due_at)} minutes, which is"
        f" {minutes(first.expires_at - first.due_at)} minutes before it expires, and replaces the next token in the"
        f" same way. Of {len(played.calls)} calls of get(), one a minute, {len(waited)} had to wait.",
    )

    def x(seconds: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(seconds, END) / END

    picture.text(LEFT, 24, "The life of a token", size=15, bold=True)
    picture.text(LEFT, 42, "140 minutes; each token is valid for 60 minutes", colour="soft")

    y = 68.0
    picture.text(LEFT, y, "Supervisor: fetches", bold=True)
    y += 14
    for place, token in enumerate(played.tokens, 1):
        at = x(token.fetched_at)
        picture.dot(at + (4 if place == 1 else 0), y + 2, 4, "good")
        picture.line(at + (4 if place == 1 else 0), y + 2, at + (4 if place == 1 else 0), y + 30 + 34 * place, "good")
        words = minutes(token.fetched_at)
        picture.text(at + (12 if place == 1 else 8), y + 6, words, size=11)
    y += 34
    picture.text(LEFT + 12, y, "Tokens", bold=True)
    y += 10
    for place, token in enumerate(played.tokens, 1):
        following = played.tokens[place].in_service_at if place < len(played.tokens) else END
        picture.box(x(token.in_service_at), y, x(following), y + 24, "good", corners=2)
        picture.text(
            x(token.in_service_at) + 8,
            y + 16,
            f"token {place} in service" if place < 3 else f"token {place}",
            colour="paper",
            size=11,
        )
        if following < END:
            picture.box(x(following), y, x(token.expires_at), y + 24, "pale", line="good", dashed=True)
            picture.text(x(token.expires_at) + 6, y + 16, f"until {minutes(token.expires_at)}", size=11, colour="soft")
        y += 34
    y += 18
    picture.box(LEFT, y - 10, LEFT + 18, y, "pale", line="good", dashed=True)
    picture.text(LEFT + 26, y, "replaced, still valid: time for retries if a fetch fails", size=11, colour="soft")

    y += 32
    picture.text(LEFT, y, "Callers: get() once a minute", bold=True)
    y += 16
    for at, took in played.calls:
        picture.dot(x(at) + (1.5 if at == 0 else 0), y, 3.5 if took else 1.2, "wait" if took else "good")
    y += 22
    picture.dot(LEFT + 4, y - 4, 3.5, "wait")
    picture.text(
        LEFT + 14, y, f"{len(waited)} call waited {waited[0]:.1f} s for the first token", size=11, colour="soft"
    )
    picture.dot(LEFT + 4, y + 12, 1.2, "good")
    picture.text(LEFT + 14, y + 16, f"{len(played.calls) - len(waited)} calls waited 0 s", size=11, colour="soft")
    y += 34
    picture.axis(y, [(x(m * 60.0), f"{m} min" if m else "0") for m in (0, 30, 60, 90, 120)], LEFT, RIGHT)
    return picture.svg(y + 30)
