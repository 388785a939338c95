"""A provider that counts requests in a sliding window, as those do that answer 429."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from evertoken import FetchRequest, TransientRefreshError


class Provider:
    """
    Takes `limit` requests in any `per` seconds and refuses the others, with a Retry-After if it `tells`.

    `error` is raised instead; a function of it as `hang` never answers.
    """

    provider = "https://login.example"
    rotates = False

    def __init__(
        self,
        clock: Any,
        *,
        limit: float = float("inf"),
        per: float = 6.0,
        latency: float = 0.05,
        tells: bool = True,
        lifetime: float = 36_000.0,
    ) -> None:
        self.clock = clock
        self.limit, self.per, self.latency, self.tells, self.lifetime = limit, per, latency, tells, lifetime
        self.error: Exception | None = None
        self.hangs = False
        self.asked: list[Any] = []
        self.at: list[float] = []
        self.issued: list[float] = []
        self.refused: list[float] = []
        self.flying = self.most = 0
        self._recent: deque[float] = deque()

    async def fetch(self, request: FetchRequest, /) -> Any:
        self.asked.append(request.key)
        self.at.append(self.clock.monotonic())
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            return await self._answer()
        finally:
            self.flying -= 1

    async def _answer(self) -> Any:
        # The way there takes now longer and now shorter.
        way = self.latency * (0.3 + 0.07 * (len(self.at) % 11))
        await asyncio.sleep(way)
        if self.hangs:
            await asyncio.sleep(1e9)
        if self.error is not None:
            raise self.error
        now = self.clock.monotonic()
        while self._recent and self._recent[0] <= now - self.per:
            self._recent.popleft()
        if len(self._recent) >= self.limit:
            self.refused.append(now)
            # Whole seconds, as servers say it.
            wait = int(self._recent[0] + self.per - now) + 1
            raise TransientRefreshError("too many", retry_after=wait if self.tells else None, status=429)
        self._recent.append(now)
        self.issued.append(now)
        number = len(self.issued)
        await asyncio.sleep(self.latency - min(way, self.latency))
        return f"token-{number}", self.lifetime

    def rate(self, since: float, until: float) -> float:
        """Return the tokens a second that were issued."""
        return sum(since <= at < until for at in self.issued) / (until - since)
