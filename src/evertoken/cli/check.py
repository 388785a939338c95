"""`evertoken check`: whether the configuration can be used, and its sources bring tokens."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

from evertoken._engine.clock import SystemClock
from evertoken._model.errors import TokenError
from evertoken._model.redaction import describe
from evertoken.cli.get import configured
from evertoken.cli.managers import Managers
from evertoken.cli.statuses import lines_of

if TYPE_CHECKING:
    import argparse

__all__ = ["run_check"]


def run_check(options: argparse.Namespace) -> int:
    """Say whether the configuration can be used, and with `--fetch` whether each source brings a token."""
    logging.basicConfig(format="evertoken: %(message)s", stream=sys.stderr, level=logging.CRITICAL)
    configuration = configured(options.config)
    # All that the sources can be asked without a request.
    managers = Managers(configuration)
    print(f"{configuration.path}: no mistake found; sources: {', '.join(configuration.sources)}")
    if not options.fetch:
        return 0
    return asyncio.run(_fetched(managers, options.timeout))


async def _fetched(managers: Managers, timeout: float | None) -> int:
    worst, now = 0, SystemClock.time
    async with managers:
        for name in managers:
            try:
                token = await managers.get(name, timeout=timeout)
            except Exception as error:  # noqa: BLE001 - each source is to be told of
                print(f"{name}: {lines_of(error)[0] if isinstance(error, TokenError) else describe(error)}")
                worst = 1
            else:
                left = token.remaining(now())
                lives = "no known expiry" if token.expires_at is None else f"{left:.0f} s left"
                print(f"{name}: a token {token.fingerprint}, {lives}")
    return worst
