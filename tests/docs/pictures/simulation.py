"""What the simulations of the pictures share: the virtual loop, the same jitter in each run, and a provider."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest import mock

from evertoken import FetchRequest, Token, TransientRefreshError
from evertoken.testing import VirtualClock, VirtualTimeLoop

T = TypeVar("T")


def simulate(play: Callable[[VirtualClock], Coroutine[Any, Any, T]]) -> T:
    """Run *play* in virtual time. A process draws its jitter at random, so here it gets fixed numbers."""
    with (
        mock.patch(
            "evertoken._engine.lifecycle._random", side_effect=(f"picture {number}" for number in itertools.count(1))
        ),
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
    ):
        return runner.run(play(VirtualClock()))


class Provider:
    """
    A source that answers with a new token, or fails while it is down.

    Args:
        clock: The clock of the simulation.
        lifetime: Seconds for which each token is valid.
        latency: Seconds that an answer takes.
        rotates: Whether each use of a refresh token gives another one.
    """

    def __init__(self, clock: VirtualClock, *, lifetime: float, latency: float, rotates: bool = False) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.latency = latency
        self.rotates = rotates
        self.down = False
        #: When each fetch started and ended, and whether it brought a token.
        self.fetches: list[tuple[float, float, bool]] = []
        self.issued = 0

    async def fetch(self, request: FetchRequest, /) -> Token:
        """Fetch a token."""
        started = self.clock.time()
        request.sending()
        await asyncio.sleep(self.latency)
        self.fetches.append((started, self.clock.time(), not self.down))
        if self.down:
            raise TransientRefreshError("HTTP 503")
        self.issued += 1
        return Token(
            f"token {self.issued}",
            issued_at=started,
            expires_at=started + self.lifetime,
            refresh_token=f"refresh token {self.issued}" if self.rotates else None,
        )
