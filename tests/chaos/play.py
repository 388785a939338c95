"""
One run: a fleet of processes on one store, a store that stops, and members that are killed, frozen and asked to fetch.

A seed determines the schedule, but not the exact timing on a real machine. So the logs decide whether a run passes.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import uuid4

import psycopg
import redis
from tests.chaos.judging import History
from tests.chaos.process import Member

from evertoken.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stores.servers import Server

#: How the store stops: its processes end, or stand still, or it comes back and has lost everything.
Stop: TypeAlias = Literal["killed", "frozen", "emptied"]

#: Events by which a member knows how a grant stands.
FIRST = {"TokenRefreshed", "TokenAdopted", "RefreshRejected"}

#: Seconds in which all members must have their first tokens.
STARTS_WITHIN = 60.0

#: Seconds in which a member must have ended that was told to.
ENDS_WITHIN = 150.0


@dataclass(frozen=True)
class Plan:
    """The settings of a run. All times are in seconds."""

    store: Literal["valkey", "postgres"]
    stop: Stop
    stopped: float
    seed: int
    members: int = 8
    grants: int = 4
    lifetimes: tuple[float, ...] = (6.0, 30.0)
    latency: float = 0.3
    before: float = 8.0
    after: float = 12.0
    calm: float = 8.0
    #: Between two things that happen to members, on average.
    pause: float = 0.8
    longest_freeze: float = 8.0

    def __str__(self) -> str:
        return f"{self.store} {self.stop} for {self.stopped:g} s, seed {self.seed}"


@dataclass
class Played:
    """The records of a run, ready to be judged."""

    plan: Plan
    folder: Path
    servers: list[TokenServer]
    #: By key: the server and the first refresh token.
    grants: dict[str, tuple[TokenServer, str]]
    history: History = field(default_factory=History)
    kills: int = 0
    freezes: int = 0
    asked: int = 0
    #: The reports of the members that lived to the end, or None for a member that did not.
    said: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    def logged(self) -> list[dict[str, Any]]:
        """Return all that the members wrote, in order of time. The last line of one that was killed may be cut off."""
        lines: list[dict[str, Any]] = []
        for path in sorted(self.folder.glob("*.log")):
            whole = path.read_text("utf-8").split("\n")[:-1]
            lines += [{**json.loads(line), "member": path.stem} for line in whole]
        return sorted(lines, key=lambda line: float(line["at"]))


class Run:
    """A run that is under way."""

    def __init__(self, played: Played, store: Server, place: list[str]) -> None:
        self.played = played
        self.plan = played.plan
        self.store = store
        self.place = place
        self.chance = random.Random(str(self.plan))
        self.members: list[Member] = []
        self.waiting: list[float] = []
        self.number = 0
        self.task = {
            "store": place,
            "grants": {key: [server.token_endpoint, first] for key, (server, first) in played.grants.items()},
        }

    def start(self) -> None:
        self.number += 1
        member = Member(f"m{self.number}", self.played.folder, self.task)
        self.played.history.lives[member.name] = member.life
        self.members.append(member)

    def thaw(self) -> None:
        for member in self.members:
            member.thaw()

    def await_first(self) -> None:
        """Wait until each member has a token for each key, or knows that its grant is gone."""
        end = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < end:
            served = {(line["member"], line["key"]) for line in self.played.logged() if line["what"] in FIRST}
            alive = {member.name for member in self.members}
            if len([one for one in served if one[0] in alive]) == len(alive) * len(self.played.grants):
                return
            time.sleep(0.2)
        msg = "not all members have got their first tokens"
        raise AssertionError(msg)

    def chaos(self, seconds: float, *, births: bool = True, pause: float | None = None) -> None:
        """Let things happen to members during *seconds*."""
        end = time.time() + seconds
        rate = 1.0 / (pause or self.plan.pause)
        next_at = time.time() + self.chance.expovariate(rate)
        while (now := time.time()) < end:
            for member in self.members:
                if member.thaws_at is not None and member.thaws_at <= now:
                    member.thaw()
            if births and self.waiting and self.waiting[0] <= now:
                self.waiting.pop(0)
                self.start()
            if now >= next_at:
                self.happen(now)
                next_at = now + self.chance.expovariate(rate)
            time.sleep(0.02)

    def happen(self, now: float) -> None:
        what = self.chance.choices(["kill", "freeze", "refresh", "refused"], [2, 3, 3, 2])[0]
        running = [member for member in self.members if not member.frozen]
        key = self.chance.choice(list(self.played.grants))
        if what == "kill" and len(self.members) > self.plan.members // 2:
            member = self.chance.choice(self.members)
            self.members.remove(member)
            member.thaw()
            member.kill()
            self.played.kills += 1
            self.waiting.append(now + self.chance.uniform(0.2, 3.0))
            self.waiting.sort()
        elif what == "freeze" and len(running) > self.plan.members // 3:
            self.chance.choice(running).freeze(now + self.chance.uniform(0.3, self.plan.longest_freeze))
            self.played.freezes += 1
        elif what in {"refresh", "refused"}:
            self.chance.choice(self.members).tell(what, key)
            self.played.asked += 1

    def outage(self) -> None:
        """
        Stop the store while answers are on their way, and bring it back.

        If it comes back empty, each member has its tokens before, and no member starts during the outage or soon after
        it. A process that knows nothing but the refresh token of its configuration cannot tell an empty store from a
        new one.
        """
        if self.plan.stop == "emptied":
            self.thaw()
            self.await_first()
        running = [member for member in self.members if not member.frozen]
        for key in self.played.grants:
            self.chance.choice(running).tell("refresh", key)
        time.sleep(self.chance.uniform(0.0, 2.0 * self.plan.latency))
        begun, births = time.time(), self.plan.stop != "emptied"
        if self.plan.stop == "frozen":
            self.store.freeze()
        else:
            self.store.kill()
        # As much as in a short one: a long one should leave some that remember how it began.
        self.chaos(self.plan.stopped, births=births, pause=max(self.plan.pause, self.plan.stopped / 12.0))
        if self.plan.stop == "frozen":
            self.store.thaw()
        else:
            self.store.start()
        if self.plan.stop == "emptied":
            empty(self.place)
            self.played.history.emptied = time.time()
        self.played.history.outages.append((begun, time.time()))
        if not births:
            self.chaos(8.0, births=False)

    def end(self) -> None:
        """Ask all living members for their tokens, and let them end."""
        for member in self.members:
            member.thaw()
            member.tell("end")
        until = time.monotonic() + ENDS_WITHIN
        for member in self.members:
            try:
                said, _ = member.process.communicate(timeout=max(until - time.monotonic(), 0.1))
                well = member.process.returncode == 0
                self.played.said[member.name] = json.loads(said) if well else {"ended with": member.process.returncode}
            except subprocess.TimeoutExpired:
                self.played.said[member.name] = None

    def play(self) -> None:
        for _ in range(self.plan.members):
            self.start()
        self.await_first()
        self.chaos(self.plan.before)
        self.outage()
        self.chaos(self.plan.after)
        self.thaw()
        while self.waiting:
            self.waiting.pop()
            self.start()
        time.sleep(self.plan.calm)
        self.end()


def empty(place: list[str]) -> None:
    """Take all that the store has."""
    url, name = place
    if url.startswith("redis:"):
        with redis.Redis.from_url(url) as client:
            client.flushall()
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DELETE FROM {name}")  # a name of ours


@contextlib.contextmanager
def playing(plan: Plan, store: Server, folder: Path) -> Iterator[Played]:
    """Play *plan* on *store*, and keep the servers until it is judged."""
    name = f"c{uuid4().hex}"
    scheme = "redis" if plan.store == "valkey" else "postgresql"
    place = (
        [f"redis://127.0.0.1:{store.port}/0", f"{name}:"]
        if scheme == "redis"
        else [f"postgresql://evertoken@127.0.0.1:{store.port}/postgres", name]
    )
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(TokenServer(lifetime=lifetime, latency=plan.latency, reuse_revokes_family=True))
            for lifetime in plan.lifetimes
        ]
        grants = {
            f"{server.lifetime:g}s-{number}": (server, server.issue_grant())
            for server in servers
            for number in range(plan.grants)
        }
        played = Played(plan, folder, servers, grants)
        run = Run(played, store, place)
        try:
            run.play()
            yield played
        finally:
            for member in run.members:
                member.clear()
