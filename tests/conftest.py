"""
What all tests share: the loops to run on, and sources that wait at gates.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from evertoken.testing.clock import VirtualClock
from evertoken.testing.loop import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _eager(factory: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
    def make() -> asyncio.AbstractEventLoop:
        loop = factory()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    return make


def _debug() -> asyncio.AbstractEventLoop:
    loop = VirtualTimeLoop()
    loop.set_debug(True)
    return loop


def _uvloop() -> asyncio.AbstractEventLoop:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not made for this platform")
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "real": asyncio.SelectorEventLoop,
    "virtual": VirtualTimeLoop,
    "debug": _debug,
    "uvloop": _uvloop,
}
if hasattr(asyncio, "eager_task_factory"):
    FACTORIES["eager"] = _eager(VirtualTimeLoop)

VIRTUAL = [name for name in ("virtual", "debug", "eager") if name in FACTORIES]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Any]:
    """
    Offer all loops to the tests that name theirs, and the real one to the others.
    """
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        return FACTORIES
    return {"real": FACTORIES["real"]}


@pytest.fixture
def clock() -> VirtualClock:
    """
    The wall clock of a virtual loop.
    """
    return VirtualClock()
