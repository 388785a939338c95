"""The fixtures that users of evertoken get from its pytest plugin, in a test run of their own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

USERS_TESTS = """
import asyncio
import httpx
import pytest
from evertoken import TokenManager
from evertoken.testing import VirtualTimeLoop


async def test_server(token_server):
    async with TokenManager(token_server.client_credentials()) as tokens:
        async with httpx.AsyncClient(auth=tokens.auth()) as client:
            assert (await client.get(token_server.resource)).status_code == 200
    assert token_server.stats.token_requests == 1


def test_server_is_fresh(token_server):
    assert token_server.stats.token_requests == 0


def test_virtual_clock(virtual_clock):
    fetches = []

    async def fetch():
        fetches.append(virtual_clock.time())
        return "opaque", 3600.0

    async def main():
        async with TokenManager(fetch, clock=virtual_clock) as tokens:
            await tokens.get()
            await asyncio.sleep(10 * 3600.0)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert len(fetches) > 10


async def test_manual_clock(manual_clock):
    before = manual_clock.time()
    await manual_clock.advance(5.0)
    assert manual_clock.time() == before + 5.0
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_fixtures(pytester: pytest.Pytester) -> None:
    """Installed, the plugin offers a server and clocks, without a line of configuration."""
    pytester.makepyfile(USERS_TESTS)
    result = pytester.runpytest_subprocess("-q", "-p", "no:xdist", "-o", "asyncio_mode=auto")

    result.assert_outcomes(passed=4)


def test_nothing_changes_until_asked(pytester: pytest.Pytester) -> None:
    """A run that asks for none of the fixtures imports none of the libraries that they need."""
    pytester.makepyfile("import sys\ndef test_it():\n    assert 'uvicorn' not in sys.modules\n")
    result = pytester.runpytest_subprocess("-q", "-p", "no:xdist")

    result.assert_outcomes(passed=1)
