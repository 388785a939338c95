"""
One Valkey and one PostgreSQL server for all tests of stores that need no one of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.stores.servers import Server, postgres, valkey

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    with valkey() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    with postgres() as server:
        yield server
