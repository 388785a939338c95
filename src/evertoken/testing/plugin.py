"""
Fixtures for tests of programs that use evertoken.

They are installed as a pytest plugin. Nothing changes until a test requests one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evertoken.testing.clock import ManualClock, VirtualClock
    from evertoken.testing.server import TokenServer

__all__ = ["manual_clock", "token_server", "virtual_clock"]


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    """A `TokenServer` that listens on loopback, fresh for each test."""
    from evertoken.testing.server import TokenServer  # noqa: PLC0415 - only this fixture needs the extra

    with TokenServer() as server:
        yield server


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A `VirtualClock`, for tests that run on a `VirtualTimeLoop`."""
    from evertoken.testing.clock import VirtualClock  # noqa: PLC0415

    return VirtualClock()


@pytest.fixture
def manual_clock() -> ManualClock:
    """A `ManualClock`, for tests on any loop."""
    from evertoken.testing.clock import ManualClock  # noqa: PLC0415

    return ManualClock()
