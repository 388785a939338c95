"""
Random use of a fleet in virtual time: the promises hold for all calls, cancellations, clock steps, flushes and kills.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.enumeration.faults import PROVIDERS, Plan, outcomes_of
from tests.enumeration.logs import LOGGER, Errors
from tests.enumeration.process import STEP, Process
from tests.enumeration.stress_checks import check
from tests.enumeration.world import World

from evertoken import (
    GrantRejected,
    ManagerClosed,
    RetryPolicy,
    Token,
    TokenManager,
    TokenUnavailable,
    TransientRefreshError,
)
from evertoken.testing import VirtualTimeLoop

__all__ = ["stress"]

Manager = TokenManager[Any, Any]

# Virtual seconds of random use, and those in which all heals. A clock that was set takes longer.
_ACTIVE: Final = 90.0
_QUIET: Final = 90.0
# The share of steps that have another outcome than success.
_TROUBLED: Final = 0.04
# More steps than that in a second of the run are a loop.
_MANY: Final = 20.0
# Seconds that a flapping store is down or slow at a time.
_FLAP: Final = 12.0


class Stressed(World):
    """A world whose faults are drawn, and whose managers have one key or several."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        draw = self.random
        where = draw.choice(["store", "store", "local"])
        super().__init__(Plan(where, draw.choice(PROVIDERS)), lifetime=draw.choice([20.0, 60.0]))
        self.kind = draw.choice(["one", "mapping", "source_for"])
        self.keys: list[Any] = [None] if self.kind == "one" else ["x", "y", "z"][: draw.randint(1, 3)]
        self.eager = draw.random() < 0.2 and sys.version_info >= (3, 12)
        self.strict = self.shared and draw.random() < 0.2
        self.calm = False
        self.down_until = self.slow_until = 0.0
        self.logins: dict[object, int] = {}
        self.drawn: dict[str, int] = {}
        #: Keys that a person has signed out, or whose grant the server has revoked.
        self.signed_out: set[object] = set()

    def outcome(self, process: Process, step: str) -> str | None:
        super().outcome(process, step)
        if self.calm or self.closing:
            return None
        now = asyncio.get_running_loop().time()
        if step not in {"fetch", "watch"}:
            if now < self.down_until:
                return "fail"
            if now < self.slow_until:
                return "slow"
        if self.random.random() >= _TROUBLED:
            return None
        outcome = self.random.choice(outcomes_of(self.plan.where, step))
        if outcome.startswith("kill") and not self.shared:
            return None
        return self.count(outcome)

    def count(self, outcome: str) -> str:
        self.drawn[outcome] = self.drawn.get(outcome, 0) + 1
        return outcome

    def steps(self, *outcomes: str) -> int:
        return sum(self.drawn.get(outcome, 0) for outcome in outcomes)

    @property
    def close_bound(self) -> float:
        return 30.0 + 15.0 * self.steps("pause", "paused")

    def sources(self, process: Callable[[], Process]) -> dict[str, Any]:
        options: dict[str, Any] = {"strict_persist": self.strict, "retry": RetryPolicy(probe=5.0)}
        if self.kind == "one":
            return {**options, "source": self.source(process, None)}
        if self.kind == "mapping":
            return {**options, "source": {key: self.source(process, key) for key in self.keys}}
        return {**options, "source_for": lambda key: self.source(process, key), "idle_after": 25.0}

    def is_rejected(self, key: object) -> bool:
        """Tell whether a caller may be told that the grant of *key* is rejected."""
        return key in self.signed_out or any(grant.startswith(f"{key}|") for grant in self.server.revoked)

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        if not self.eager:
            return super()._make_task(loop, work, **options)
        parent = asyncio.current_task(loop)
        owner = self.current if parent is None else self.owners.get(parent, self.current)
        # CPython 3.11 has no eager tasks, and plays none.
        make: Any = asyncio.Task
        task: asyncio.Task[Any] = make(work, loop=loop, eager_start=True, **options)
        self.owners[task] = owner
        return task

    # The actions

    async def do_get(self, process: Process, key: Any) -> None:
        choices: list[dict[str, Any]] = [{}, {"timeout": 15.0}, {"min_ttl": 15.0}, {"min_ttl": 40.0, "timeout": 5.0}]
        options = self.random.choice(choices)
        token = await process.manager.get(key, **options)
        self.check_token(process, token, f"get({options})")

    async def do_refresh(self, process: Process, key: Any) -> None:
        self.check_token(process, await process.manager.refresh(key), "refresh()")

    async def do_refuse(self, process: Process, key: Any) -> None:
        token = process.manager.peek(key)
        if token is not None:
            await process.manager.refused(token, key, wait=self.random.random() < 0.5)

    async def do_invalidate(self, process: Process, key: Any) -> None:
        token = process.manager.peek(key)
        if token is not None:
            await process.manager.invalidate(token, key)

    async def do_put(self, process: Process, key: Any) -> None:
        login = self.logins[key] = self.logins.get(key, 0) + 1
        now, refresh_token = process.clock.time(), None
        if self.server.rotating:
            refresh_token = self.server.log_in(key, login)
        token = Token(
            f"put-{key}-{login}",
            issued_at=now,
            expires_at=now + self.server.lifetime,
            refresh_token=refresh_token,
        )
        await process.manager.put(token, key)

    async def do_forget(self, process: Process, key: Any) -> None:
        await process.manager.forget(key)

    async def do_revoke(self, process: Process, key: Any) -> None:
        self.signed_out.add(key)
        # The server is told as well, so that nothing of these grants is good any more, used before or not.
        self.server.log_in(key, 0)
        self.server.revoked.update(grant for grant in self.server.current if grant.startswith(f"{key}|"))
        await process.manager.revoke(key)

    async def do_subscribe(self, process: Process, key: Any) -> None:
        async with process.manager.subscribe(key) as tokens:
            for _ in range(self.random.randint(1, 2)):
                await anext(tokens)

    async def do_look(self, process: Process, key: Any) -> None:
        process.manager.snapshot()
        process.manager.health()
        process.manager.peek(key)

    # What happens

    def happens(self, process: Process) -> None:
        """Something that nobody asked for."""
        loop, draw = asyncio.get_running_loop(), self.random
        kinds = ["down", "slow", "step", "pause", "close", "close"]
        if self.shared:
            kinds += ["flush", "kill", "down", "slow"]
        kind = draw.choice(kinds)
        if kind == "down":
            self.down_until = loop.time() + draw.uniform(0.5, _FLAP)
        elif kind == "slow":
            self.slow_until = loop.time() + draw.uniform(0.5, _FLAP)
        elif kind == "step":
            back = draw.random() < 0.5
            self.count("back" if back else "forward")
            self.step(-STEP if back else STEP)
        elif kind == "pause":
            self.count("pause")
            process.pause()
        elif kind == "close":
            self.close_and_start(process)
        elif kind == "flush":
            heard = draw.random() < 0.5
            self.count("restart" if heard else "flush")
            self.flush(heard=heard)
        elif kind == "kill":
            self.count("kill")
            self.kill(process)

    # Checks

    def check_token(self, process: Process, token: Token, what: str) -> None:
        now = process.clock.time()
        if process.thaw is None and not (token.valid_at(now) and self.is_honest(process, token, now)):
            self.fault(f"{process.name}: {what} returned an expired token at {now:.3f}: {token}")


Call = Callable[[Process, Any], Awaitable[None]]

# How often each method is called.
_WEIGHTS: Final = (
    ("get", 10),
    ("refresh", 2),
    ("refuse", 2),
    ("invalidate", 1),
    ("put", 1),
    ("forget", 1),
    ("revoke", 0.15),
    ("subscribe", 1),
    ("look", 1),
    ("happens", 2),
)


def stress(seed: int, tell: Callable[..., object] | None = None) -> list[str]:
    """Play one seed, and return the promises that were broken."""
    errors = Errors()
    LOGGER.addHandler(errors)
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            world = runner.run(_stressed(seed, tell))
    finally:
        LOGGER.removeHandler(errors)
    return world.faults + [f"an error was contained: {message}" for message in errors.messages]


async def _stressed(seed: int, tell: Callable[..., object] | None) -> Stressed:
    world = Stressed(seed)
    world.install()
    loop, draw = asyncio.get_running_loop(), world.random
    end = loop.time() + _ACTIVE
    callers: list[asyncio.Task[Any]] = []
    if tell is not None:
        tell(world.plan, world.kind, world.keys, "eager" if world.eager else "", "strict" if world.strict else "")
    for name in ("a", "b") if world.shared else ("a",):
        world.begin(name)
    names, weights = zip(*_WEIGHTS, strict=True)
    while loop.time() < end:
        await asyncio.sleep(draw.choice([0.0, 0.01, 0.3, 2.0, 6.0]) * draw.random())
        world.check_deadlines()
        processes = list(world.processes.values())
        if not processes:
            continue
        process, key = draw.choice(processes), draw.choice(world.keys)
        [name] = draw.choices(names, weights)
        if tell is not None:
            tell(f"{loop.time():10.3f} {process.name} {name} {key}")
        if name == "happens":
            world.happens(process)
            continue
        task = process.spawn(_calling(world, process, key, name))
        callers.append(task)
        if draw.random() < 0.2:
            loop.call_later(draw.random(), task.cancel)
    world.calm = True
    await asyncio.sleep(_QUIET + STEP * min(world.steps("ahead", "behind", "back"), 4))
    if tell is not None:
        for at, name, event in world.events:
            tell(f"{at:10.3f} {name} {event!r}")
        tell(world.drawn)
    if len(world.trace) > _MANY * (loop.time() - end + _ACTIVE):
        world.fault(f"{len(world.trace)} steps")
    await check(world, callers)
    await world.bury()
    return world


async def _calling(world: Stressed, process: Process, key: Any, name: str) -> None:
    await process.alive()
    call: Call = getattr(world, f"do_{name}")
    try:
        await call(process, key)
    except (TokenUnavailable, TransientRefreshError, StopAsyncIteration):
        pass
    except GrantRejected as error:
        if not world.is_rejected(key):
            world.fault(f"{process.name}: {name}({key}) was told {error}, and the grant is good")
    except ManagerClosed:
        if not process.closings:
            world.fault(f"{process.name}: {name}({key}) was told that the manager is closed")
    except RuntimeError as error:
        if "not started" not in str(error):
            world.fault(f"{process.name}: {name}({key}) raised {error!r}")
