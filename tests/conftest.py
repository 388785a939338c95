"""Shared by all tests: the event loops to run on, and sources that wait at gates."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from evertoken._signing import server_time
from evertoken.testing.clock import VirtualClock
from evertoken.testing.loop import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
if sys.version_info >= (3, 12):

    def _eager() -> asyncio.AbstractEventLoop:
        loop = VirtualTimeLoop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    FACTORIES["eager"] = _eager

VIRTUAL = [name for name in ("virtual", "debug", "eager") if name in FACTORIES]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Any]:
    """Offer all loops to the tests that name theirs, and the real one to the others."""
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        return FACTORIES
    return {"real": FACTORIES["real"]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests on the loop in debug mode, which one Python of a run is enough for."""
    for item in items:
        spec = getattr(item, "callspec", None)
        if spec is not None and spec.params.get("_asyncio_loop_factory") is _debug:
            item.add_marker("debug")


@pytest.fixture
def clock() -> VirtualClock:
    """The wall clock of a virtual loop."""
    return VirtualClock()


@pytest.fixture(autouse=True)
def no_known_clocks() -> None:
    """Forget the clocks of servers: another server of another test may be given the same port."""
    server_time._servers.clear()
