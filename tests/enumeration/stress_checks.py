"""The conditions that must hold after random use, when all is quiet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.enumeration.process import Process

from evertoken import GrantRejected, ManagerClosed

if TYPE_CHECKING:
    from tests.enumeration.stress import Stressed

__all__ = ["check"]


async def check(world: Stressed, callers: list[asyncio.Task[Any]]) -> None:
    closings = [task for process in world.processes.values() for task in process.closings]
    for task in [*callers, *world.starts, *closings]:
        owner = world.owners.get(task)
        if owner is not None and owner.dead:
            continue
        if not task.done():
            if "subscribe" not in repr(task.get_coro()) and not _reads(task):
                world.fault(f"a caller still waits: {task!r}")
        elif not task.cancelled() and task.exception() is not None and not _is_closed(task, owner):
            world.fault(f"a caller got {task.exception()!r}")
    for process in list(world.processes.values()):
        if process.manager._life.state != "running":
            # Two closes in a row, the second of which found the manager closed, or a start that was closed.
            await process.manager.start()
        for key in world.keys:
            await _check_get(world, process, key)
    await asyncio.sleep(8.0)
    world.check_deadlines()
    for process in world.processes.values():
        for key in world.keys:
            _check_agreement(world, process, key)
    await world.check_close(rounds=5, owned=bool(world.dead) or world.eager)


def _reads(task: asyncio.Task[Any]) -> bool:
    # A reader of a subscription waits for as long as no other token comes.
    frames = task.get_stack()
    return any(frame.f_code.co_name in {"do_subscribe", "_calling"} for frame in frames) and any(
        "subscription" in frame.f_code.co_filename for frame in _frames(task)
    )


def _frames(task: asyncio.Task[Any]) -> list[Any]:
    found: list[Any] = []
    work: Any = task.get_coro()
    while work is not None:
        frame = getattr(work, "cr_frame", None) or getattr(work, "ag_frame", None)
        if frame is not None:
            found.append(frame)
        work = getattr(work, "cr_await", None) or getattr(work, "ag_await", None)
    return found


def _is_closed(task: asyncio.Task[Any], owner: Process | None) -> bool:
    # A start that was closed meanwhile, and a start beside another one.
    return owner is not None and bool(owner.closings) and isinstance(task.exception(), ManagerClosed | RuntimeError)


async def _check_get(world: Stressed, process: Process, key: Any) -> None:
    try:
        token = await process.manager.get(key, timeout=12.0)
    except GrantRejected as error:
        if not world.is_rejected(key):
            world.fault(f"{process.name}: get({key}) after quiet was told {error}, and the grant is good")
    except Exception as error:  # noqa: BLE001 - the run looks for exactly this
        if not world.is_rejected(key):
            world.fault(f"{process.name}: get({key}) after quiet raised {error!r}")
    else:
        world.check_token(process, token, f"get({key}) after quiet")


def _check_agreement(world: Stressed, process: Process, key: Any) -> None:
    state = process.manager._life.registry.keys.get(key)
    if not world.shared or state is None or world.is_rejected(key) or state.flight is not None:
        return
    stored = world.stored(key)
    if state.unkept:
        world.fault(f"{process.name}: after quiet the store still lacks what memory has of {key}")
    elif not process.hears:
        # The write of a peer is seen here when the key is due.
        return
    elif stored is None or state.token is None or stored.refresh_token != state.token.refresh_token:
        world.fault(f"{process.name}: after quiet memory has {state.token} of {key}, and the store {stored}")
