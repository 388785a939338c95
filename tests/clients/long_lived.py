"""A handle that notes how long its tokens must be valid."""

from __future__ import annotations

from evertoken import Token


class LongLived:
    """It hands out one token, and records the requests for it."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def get(self, *, min_ttl: float) -> Token:
        self.asked.append(min_ttl)
        return Token("secret-1", issued_at=0.0)
