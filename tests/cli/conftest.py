"""A world for each test of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cli.world import World

from evertoken.testing import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A token server, and a folder for the configuration."""
    with TokenServer() as server:
        yield World(server, tmp_path)
