"""
The scenario of an enumeration: some lifetimes of a fleet of two, or of one manager without a store, and then quiet.

The first tokens are fetched cold. Two are refreshed ahead, one of them by a fetch that takes long. A person refreshes
once, and a resource server refuses a token once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from tests.enumeration.faults import Plan
from tests.enumeration.logs import LOGGER, Errors
from tests.enumeration.process import STEP, Process
from tests.enumeration.world import World

from evertoken import GrantRejected, ManagerClosed, TokenManager, TokenUnavailable
from evertoken.testing import VirtualTimeLoop

__all__ = ["Result", "play"]

Call = Callable[[TokenManager[Any, Any]], Awaitable[Any]]

# Seconds of the run in which faults are planned, and in which everything heals afterwards.
ACTIVE: Final = 122.0
QUIET: Final = 75.0
# Seconds after which members of one fleet must agree, once each has been asked for a token.
AGREED: Final = 20.0
# More fetches than that in one run are a loop.
_MANY: Final = 40


class Result(NamedTuple):
    """The result of a run: its faults, the steps at which more faults can be planned, and its fetches."""

    plan: Plan
    faults: list[str]
    trace: list[tuple[str, str, int]]
    events: list[tuple[float, str, Any]]
    taken: int
    replays: int


async def get(manager: TokenManager[Any, Any]) -> Any:
    return await manager.get(timeout=20.0)


async def refresh(manager: TokenManager[Any, Any]) -> Any:
    return await manager.refresh()


async def refuse(manager: TokenManager[Any, Any]) -> Any:
    token = manager.peek()
    if token is not None:
        await manager.refused(token)
    return manager.peek()


#: When which member is asked what.
SCRIPT: Final[tuple[tuple[float, str, Call], ...]] = (
    (0.05, "a", get),
    (0.1, "b", get),
    (46.0, "a", get),
    (56.0, "b", get),
    (64.0, "a", get),
    (66.0, "a", refresh),
    (70.0, "b", refuse),
    (71.0, "b", get),
    (90.0, "a", get),
    (115.0, "b", get),
    (121.0, "a", get),
)
# From here on the provider takes long, so that leases are renewed.
_SLOW_AT: Final = 100.0


def play(plan: Plan, make: Callable[[Plan], World] = World) -> Result:
    """Play one run in a world that *make* makes, and return what became of it."""
    errors = Errors()
    LOGGER.addHandler(errors)
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            world = runner.run(_played(make(plan)))
    finally:
        LOGGER.removeHandler(errors)
    faults = world.faults + [f"an error was contained: {message}" for message in errors.messages]
    if world.server.taken > _MANY and not world.server.revoked:
        faults.append(f"{world.server.taken} fetches")
    trace = world.trace[: world.phase_ended]
    return Result(plan, faults, trace, world.events, world.server.taken, len(world.server.replays))


async def _played(world: World) -> World:
    world.install()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    names = ("a", "b") if world.shared else ("a",)
    callers: list[asyncio.Task[Any]] = []
    for name in names:
        world.begin(name)
    for at, name, call in SCRIPT:
        await _until(begun + at, world)
        world.latency = 4.0 if at >= _SLOW_AT else 0.2
        process = world.processes.get(name if world.shared else "a")
        if process is not None:
            callers.append(process.spawn(_calling(world, process, call)))
    await _until(begun + ACTIVE, world)
    world.latency = 0.2
    world.phase_ended = len(world.trace)
    await _until(begun + ACTIVE + QUIET + STEP * world.steps("ahead", "behind"), world)
    world.check_deadlines()
    await _check_quiet(world, callers)
    await world.check_close(rounds=3, owned=bool(world.dead))
    await world.bury()
    return world


async def _until(instant: float, world: World) -> None:
    loop = asyncio.get_running_loop()
    while instant - loop.time() > 30.0:
        await asyncio.sleep(30.0)
        world.check_deadlines()
    await asyncio.sleep(max(instant - loop.time(), 0.0))
    world.check_deadlines()


async def _calling(world: World, process: Process, call: Call) -> None:
    await process.alive()
    try:
        token = await call(process.manager)
    except TokenUnavailable:
        return
    except GrantRejected as error:
        if not world.server.revoked:
            world.fault(f"{process.name}: {call.__name__} was told {error}, and the grant is good")
        return
    except ManagerClosed:
        if not process.closings:
            world.fault(f"{process.name}: {call.__name__} was told that the manager is closed")
        return
    except RuntimeError as error:
        if "not started" not in str(error) or not world.starts:
            world.fault(f"{process.name}: {call.__name__} raised {error!r}")
        return
    now = process.clock.time()
    if (
        token is not None
        and process.thaw is None
        and not (token.valid_at(now) and world.is_honest(process, token, now))
    ):
        world.fault(f"{process.name}: {call.__name__} returned an expired token")


async def _check_quiet(world: World, callers: list[asyncio.Task[Any]]) -> None:
    for task in callers + world.starts + [task for one in world.processes.values() for task in one.closings]:
        owner = world.owners.get(task)
        if owner is not None and owner.dead:
            continue
        if not task.done():
            world.fault(f"a caller still waits: {task.get_coro()!r}")
        elif not task.cancelled() and task.exception() is not None:
            # A start, or another close, that was closed meanwhile.
            closed = owner is not None and owner.closings and task not in callers
            if not (closed and isinstance(task.exception(), ManagerClosed)):
                world.fault(f"a caller got {task.exception()!r}")
    for process in world.processes.values():
        if process.manager._life.state != "running":
            world.fault(f"{process.name} is {process.manager._life.state}")
            continue
        await _check_get(world, process)
    loop = asyncio.get_running_loop()
    end = loop.time() + AGREED
    while (differences := _differences(world)) and loop.time() < end:
        await asyncio.sleep(1.0)
    if not world.server.revoked:
        for difference in differences:
            world.fault(difference)


async def _check_get(world: World, process: Process) -> None:
    try:
        token = await process.manager.get(timeout=10.0)
    except GrantRejected as error:
        if not world.server.revoked:
            world.fault(f"{process.name}: get() after quiet was told {error}, and the grant is good")
    except Exception as error:  # noqa: BLE001 - the run looks for exactly this
        world.fault(f"{process.name}: get() after quiet raised {error!r}")
    else:
        if not token.valid_at(process.clock.time()):
            world.fault(f"{process.name}: get() after quiet returned an expired token")


def _differences(world: World) -> list[str]:
    found: list[str] = []
    if not world.shared:
        return found
    # A member that hears nothing looks at the store when its own token is due.
    deaf = any(fault.step == "watch" and fault.outcome == "hang" for fault in world.plan.faults)
    record = world.memory._records.get(world.name_of(None))
    for process in world.processes.values():
        state = process.manager._life.registry.keys[None]
        if state.flight is not None:
            found.append(f"{process.name}: a flight of the reason {state.flight.reason} after quiet")
        elif state.unkept:
            found.append(f"{process.name}: after quiet the store still lacks what memory has")
        elif record is None:
            found.append(f"{process.name}: after quiet the store has no record")
        elif record.sent_at is not None:
            found.append(f"{process.name}: after quiet the record has a mark")
        elif deaf:
            continue
        elif state.token is None or record.token is None or record.token.access_token != state.token.access_token:
            found.append(f"{process.name}: after quiet memory has {state.token}, and the store {record.token}")
        elif record.token.refresh_token != state.token.refresh_token:
            found.append(f"{process.name}: after quiet memory and store have different refresh tokens")
    return found
