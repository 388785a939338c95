"""An outage of the provider that lasts until after the expiry of the token, and the return of the provider."""

from __future__ import annotations

from dataclasses import dataclass

from tests.docs.pictures.canvas import WIDTH, Picture, minutes
from tests.docs.pictures.simulation import Provider, simulate

from evertoken import TokenManager, TokenUnavailable, events
from evertoken.testing import VirtualClock

LIFETIME, LATENCY = 600.0, 0.05
DOWN, UP, END = 420.0, 720.3, 900.0
LEFT, RIGHT = 14.0, WIDTH - 14.0


@dataclass
class Played:
    """What happened. All instants are seconds from the start."""

    due_at: float
    expires_at: float
    #: When each fetch started, and whether it brought a token.
    fetches: list[tuple[float, bool]]
    #: When each call of `get()` started, how long it took, and whether it returned a token.
    calls: list[tuple[float, float, bool]]
    back_at: float


async def play(clock: VirtualClock) -> Played:
    """Call `get()` once a second, while the provider goes down and comes back."""
    seen: list[events.Event] = []
    provider, began, calls = Provider(clock, lifetime=LIFETIME, latency=LATENCY), clock.time(), []
    async with TokenManager(provider, clock=clock, observers=[seen.append], start="warm") as tokens:
        status = tokens.snapshot(None)
        assert status.due_at is not None
        assert status.expires_at is not None
        while (at := clock.time() - began) < END:
            provider.down = DOWN <= at < UP
            try:
                await tokens.get()
                served = True
            except TokenUnavailable:
                served = False
            calls.append((at, clock.time() - began - at, served))
            # The provider comes back between two calls.
            pause = 1.0 - (clock.time() - began) % 1.0
            if at < UP < at + pause:
                await clock.advance(UP - (clock.time() - began))
                provider.down = False
                pause = 1.0 - (clock.time() - began) % 1.0
            await clock.advance(pause)
    refreshed = [one.at - began for one in seen if isinstance(one, events.TokenRefreshed)]
    return Played(
        status.due_at - began,
        status.expires_at - began,
        [(started - began, good) for started, _, good in provider.fetches],
        calls,
        next(at for at in refreshed if at > UP),
    )


def draw() -> str:
    """Return the picture."""
    played = simulate(play)
    early = [at for at, good in played.fetches if not good and at < played.expires_at]
    late = [at for at, good in played.fetches if not good and at >= played.expires_at]
    refused = [call for call in played.calls if not call[2]]
    slowest = max(took for _, took, _ in played.calls)
    while_up = sum(DOWN <= at < played.expires_at for at, _, _ in played.calls)
    back = played.back_at - UP
    picture = Picture(
        "An outage of the provider",
        "15 minutes with tokens that are valid for 10 minutes. The provider is down from"
        f" {minutes(DOWN)} to {minutes(UP)}. The token is due at {minutes(played.due_at)} and expires at"
        f" {minutes(played.expires_at)}. Until then the supervisor tries {len(early)} times, and all {while_up} calls"
        f" of get() during the outage return the token. After the expiry there are {len(late)} attempts, at most one"
        f" a second, and {len(refused)} calls of get() raise TokenUnavailable. A new token is in service {back:.1f} s"
        f" after the provider is back. No call takes longer than {slowest:.2f} s.",
    )

    def x(seconds: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(seconds, END) / END

    picture.text(LEFT, 24, "An outage of the provider", size=15, bold=True)
    picture.text(LEFT, 42, "15 minutes; each token is valid for 10 minutes", colour="soft")

    y = 70.0
    picture.text(LEFT, y, "Provider", bold=True)
    picture.box(x(0), y + 8, x(DOWN), y + 26, "pale")
    picture.box(x(DOWN), y + 8, x(UP), y + 26, "rust", line="bad")
    picture.box(x(UP), y + 8, x(END), y + 26, "pale")
    picture.text(x(0) + 6, y + 21, "answers", size=11)
    picture.text(x(DOWN) + 6, y + 21, f"down {minutes(DOWN)} to {minutes(UP)}", size=11)
    picture.text(x(UP) + 6, y + 21, "answers", size=11)

    y += 54
    picture.text(LEFT, y, "Supervisor: fetches", bold=True)
    picture.strokes([(x(at), y + 10, x(at), y + 30) for at, good in played.fetches if not good], "bad")
    for at, good in played.fetches:
        if good:
            picture.line(x(at), y + 8, x(at), y + 32, "good", width=3)
    picture.text(x(played.due_at) - 4, y + 24, f"due {minutes(played.due_at)}", size=11, anchor="end", colour="soft")
    y += 48
    picture.text(x(played.expires_at) - 4, y, f"{len(early)} before expiry", size=11, anchor="end", colour="bad")
    picture.text(x(played.expires_at) + 4, y, f"{len(late)} after it", size=11, colour="bad")

    y += 30
    picture.text(LEFT, y, "Token in service", bold=True)
    picture.box(x(0), y + 8, x(played.due_at), y + 28, "good")
    picture.box(x(played.due_at), y + 8, x(played.expires_at), y + 28, "pale", line="good")
    picture.box(x(played.back_at), y + 8, x(END), y + 28, "good")
    picture.text(x(0) + 6, y + 22, "token 1", size=11, colour="paper")
    picture.text(x(played.due_at) + 4, y + 22, "due", size=11)
    picture.text((x(played.expires_at) + x(played.back_at)) / 2, y + 22, "none", size=11, anchor="middle", colour="bad")
    picture.text(x(played.back_at) + 6, y + 22, "token 2", size=11, colour="paper")

    y += 58
    picture.text(LEFT, y, "Callers: get() once a second", bold=True)
    first, last = refused[0][0], refused[-1][0]
    picture.box(x(0), y + 8, x(first), y + 28, "pale")
    picture.box(x(first), y + 8, x(last + 1.0), y + 28, "rust", line="bad")
    picture.box(x(last + 1.0), y + 8, x(END), y + 28, "pale")
    assert [call for call in played.calls if first <= call[0] <= last] == refused
    picture.text(x(0) + 6, y + 22, f"{sum(at < first for at, _, _ in played.calls)} get token 1", size=11)
    picture.text((x(first) + x(last)) / 2, y + 22, f"{len(refused)} fail", size=11, anchor="middle", colour="bad")
    picture.text(x(last) + 6, y + 22, f"{sum(at > last for at, _, _ in played.calls)} get 2", size=11)
    y += 44
    picture.text((x(first) + x(last)) / 2, y, "raise TokenUnavailable", size=11, anchor="middle", colour="bad")

    y += 20
    picture.axis(y, [(x(m * 60.0), f"{m} min" if m else "0") for m in (0, 3, 6, 9, 12, 15)], LEFT, RIGHT)
    y += 40
    picture.text(LEFT, y, f"Back in service {back:.1f} s after the provider. Slowest call: {slowest:.2f} s.", size=11)
    return picture.svg(y + 16)
