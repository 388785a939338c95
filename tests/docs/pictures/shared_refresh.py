"""A refresh through a store: two members are due at once, one fetches, and the other reads what it wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.docs.pictures.canvas import Picture, milliseconds
from tests.docs.pictures.simulation import Provider, simulate

from evertoken import Begun, Lease, Record, RefreshPolicy, TokenManager, events
from evertoken.stores import MemoryStore
from evertoken.testing import VirtualClock

T = TypeVar("T")

LIFETIME, LATENCY, WIRE = 60.0, 0.3, 0.002


@dataclass
class Step:
    """One message: when it was sent, between whom, and its words."""

    at: float
    sender: str
    receiver: str
    words: str
    dashed: bool = False


@dataclass
class Played:
    """All messages, when each member had which token, and how long the slowest call of `get()` took."""

    steps: list[Step] = field(default_factory=list)
    in_service: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: {"A": [], "B": []})
    lease: list[float] = field(default_factory=list)
    calls: int = 0
    slowest: float = 0.0
    fetches: int = 0


class Member:
    """One process, seen as what it is to its manager: the way to the store and the way to the provider."""

    rotates = True

    def __init__(self, name: str, store: MemoryStore, provider: Provider, played: Played) -> None:
        self.name = name
        self.store = store
        self.provider = provider
        self.played = played
        self.recording = False
        self.manager: TokenManager[Any, None] = TokenManager(
            self,
            store=self,
            namespace="example",
            clock=provider.clock,
            # Without jitter, both members are due at the same moment.
            policy=RefreshPolicy(jitter=0.0),
            observers=[self.saw],
        )

    def saw(self, event: events.Event) -> None:
        """Remember which token is in service."""
        if isinstance(event, events.TokenRefreshed | events.TokenAdopted):
            self.played.in_service[self.name].append((event.at, event.fingerprint))

    def note(self, sender: str, receiver: str, words: str, *, dashed: bool = False) -> None:
        """Record a message, if the part that is drawn has begun."""
        if self.recording:
            self.played.steps.append(Step(self.provider.clock.time(), sender, receiver, words, dashed))

    async def asked(self, words: str, call: Awaitable[T], answer: Callable[[T], str]) -> T:
        """Send something to the store and back."""
        self.note(self.name, "store", words)
        await asyncio.sleep(WIRE / 2.0)
        result = await call
        self.note("store", self.name, answer(result), dashed=True)
        await asyncio.sleep(WIRE / 2.0)
        return result

    # A store

    async def read(self, key: str, /) -> Record | None:
        """Read the record."""
        return await self.asked("read", self.store.read(key), record)

    async def begin(self, key: str, owner: str, ttl: float, /) -> Begun:
        """Ask for the lease."""

        def answer(begun: Begun) -> str:
            return "lease, record" if isinstance(begun.lease, Lease) else "held by A"

        begun = await self.asked("begin", self.store.begin(key, owner, ttl), answer)
        if self.recording and isinstance(begun.lease, Lease):
            self.played.lease.append(self.provider.clock.time())
        return begun

    async def mark(self, record: Record, lease: Lease, /) -> bool:
        """Write that the refresh token is about to be presented."""
        return await self.asked("mark", self.store.mark(record, lease), kept)

    async def commit(self, record: Record, lease: Lease, /) -> bool:
        """Write the new token and end the lease."""
        if self.recording:
            self.played.lease.append(self.provider.clock.time() + WIRE / 2.0)
        return await self.asked("commit", self.store.commit(record, lease), kept)

    async def abandon(self, lease: Lease, /) -> None:
        """End the lease."""
        await self.asked("abandon", self.store.abandon(lease), lambda _: "done")

    async def renew(self, lease: Lease, ttl: float, /) -> bool:
        """Prolong the lease."""
        return await self.asked("renew", self.store.renew(lease, ttl), kept)

    async def watch(self, changed: Callable[[str | None], object], /) -> None:
        """Hear of each write."""

        def heard(key: str | None) -> None:
            self.note("store", self.name, "notice", dashed=True)
            changed(key)

        await self.store.watch(heard)

    # A source

    async def fetch(self, request: Any, /) -> Any:
        """Fetch a token."""
        self.note(self.name, "provider", "refresh token")
        token = await self.provider.fetch(request)
        self.played.fetches += self.recording
        self.note("provider", self.name, "new tokens", dashed=True)
        return token


def record(found: Record | None) -> str:
    """Return the words for an answer that contains the record."""
    return "new record" if found else "no record"


def kept(done: bool) -> str:
    """Return the words for the answer to a write."""
    return "kept" if done else "refused"


async def play(clock: VirtualClock) -> Played:
    """Let two members have the same token, and record what happens when it is due."""
    played, store = Played(), MemoryStore(clock=clock)
    provider = Provider(clock, lifetime=LIFETIME, latency=LATENCY, rotates=True)
    first, second = members = [Member(name, store, provider, played) for name in "AB"]
    async with first.manager, second.manager:
        for member in members:
            await member.manager.get()
        due_at = first.manager.snapshot(None).due_at
        assert due_at is not None
        assert due_at == second.manager.snapshot(None).due_at
        await clock.advance(due_at - clock.time() - 0.05)
        for member in members:
            member.recording = True
        end = clock.time() + 1.0
        while clock.time() < end:
            for member in members:
                began = clock.time()
                await member.manager.get()
                played.slowest = max(played.slowest, clock.time() - began)
                played.calls += 1
            await clock.advance(0.01)
        for member in members:
            member.recording = False
    for step in played.steps:
        step.at -= due_at
    played.lease = [at - due_at for at in played.lease]
    for name, tokens in played.in_service.items():
        played.in_service[name] = [(at - due_at, fingerprint) for at, fingerprint in tokens]
    return played


COLUMNS = {"provider": 70.0, "A": 164.0, "store": 260.0, "B": 356.0}
HEADS = {"provider": "provider", "A": "member A", "store": "store", "B": "member B"}
ROW = 27.0


def rows(steps: list[Step]) -> list[list[Step]]:
    """Put messages of one moment that do not touch each other into one row."""
    made: list[list[Step]] = []
    last: dict[frozenset[str], int] = {}
    for step in steps:
        pair = frozenset((step.sender, step.receiver))
        after = last.get(pair, -1)
        place = next((place for place, row in enumerate(made) if place > after and row[0].at == step.at), len(made))
        if place == len(made):
            made.append([])
        made[place].append(step)
        last[pair] = place
    return made


def draw() -> str:
    """Return the picture."""
    played = simulate(play)
    for step in played.steps:
        step.at = round(step.at, 6)
    table = rows(played.steps)
    picture = Picture(
        "A refresh through a store",
        "Two members of a fleet, A and B, have the same token, and it is due for both at the same moment. Both ask"
        " the store for the lease, and A gets it. A marks the record, presents the refresh token to the provider, and"
        f" has written the new tokens {milliseconds(played.lease[1])} after the token was due. The store tells B, and"
        f" B reads the record. B never asks the provider: there was {played.fetches} fetch. All {played.calls} calls"
        f" of get() in that second returned a valid token, and the slowest took {milliseconds(played.slowest)}.",
    )
    picture.text(14, 24, "A refresh through a store", size=15, bold=True)
    picture.text(14, 42, "Two members; their token is due at 0 ms", colour="soft")
    top = 70.0
    places = {row[0].at: top + 34 + ROW * place for place, row in reversed([*enumerate(table)])}
    bottom = top + 34 + ROW * len(table)
    for name, x in COLUMNS.items():
        member = name in played.in_service
        picture.text(x, top, HEADS[name], bold=True, anchor="middle")
        picture.line(x, top + 8, x, bottom + 8, "soft" if member else "rule", width=3 if member else 1)
    taken, ended = (places[round(at, 6)] for at in (played.lease[0] - WIRE / 2.0, played.lease[1]))
    picture.box(COLUMNS["A"] - 6, taken, COLUMNS["A"] + 6, ended, "wait")
    for name in played.in_service:
        at = next(at for at, _ in reversed(played.in_service[name]) if at > 0.0)
        y = max((place for moment, place in places.items() if moment <= at + 1e-6), default=top)
        picture.line(COLUMNS[name], y + (ROW / 2 if name == "A" else 6), COLUMNS[name], bottom + 8, "good", width=5)
    for place, row in enumerate(table):
        y = top + 34 + ROW * place
        if not place or table[place - 1][0].at != row[0].at:
            picture.text(8, y + 3, milliseconds(row[0].at), size=11, colour="soft")
        for step in row:
            start, end = COLUMNS[step.sender], COLUMNS[step.receiver]
            side = 8 if end > start else -8
            colour = "soft" if step.dashed else "good" if "provider" in {step.sender, step.receiver} else "ink"
            picture.arrow(start + side, end - side, y, colour, dashed=step.dashed)
            picture.text((start + end) / 2, y - 5, step.words, size=11, anchor="middle")
    y = bottom + 34
    picture.box(14, y - 9, 26, y + 1, "wait")
    picture.text(32, y, "A holds the lease", size=11, colour="soft")
    picture.box(150, y - 9, 155, y + 1, "soft")
    picture.text(162, y, "old token", size=11, colour="soft")
    picture.box(244, y - 9, 249, y + 1, "good")
    picture.text(256, y, "new token in service", size=11, colour="soft")
    y += 22
    picture.text(
        14,
        y,
        f"Fetches: {played.fetches}. Calls of get(): {played.calls}; the slowest took {milliseconds(played.slowest)}.",
        size=11,
    )
    return picture.svg(y + 16)
