"""A source that does what the test says, and remembers when it was asked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from evertoken import FetchRequest, Token, TransientRefreshError
from evertoken._model.events import Event


class ScriptedSource:
    """Answers after `latency` with a new token of `lifetime`, or raises `error`; `answer` replaces the former."""

    rotates: bool | None = None

    def __init__(self, clock: Any, *, lifetime: float | None = 3600.0, latency: float = 0.0) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.latency = latency
        self.error: BaseException | None = None
        self.answer: Callable[[FetchRequest], Any] | None = None
        self.at: list[float] = []
        self.flying = 0
        self.most = 0

    @property
    def fetches(self) -> int:
        return len(self.at)

    async def fetch(self, request: FetchRequest, /) -> Any:
        started = self.clock.time()
        self.at.append(started)
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            if self.error is not None:
                raise self.error
            if self.answer is not None:
                return self.answer(request)
            expires_at = None if self.lifetime is None else started + self.lifetime
            return Token(f"token-{self.fetches}", issued_at=started, expires_at=expires_at)
        finally:
            self.flying -= 1


class Recorder:
    """An observer that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


def down(message: str = "connection refused", **kwargs: Any) -> TransientRefreshError:
    return TransientRefreshError(message, **kwargs)


def gaps(instants: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(instants)]
