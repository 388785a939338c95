"""`evertoken check`: checks whether the configuration can be used, and whether its sources bring tokens."""

from __future__ import annotations

import asyncio
import contextlib
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
    from collections.abc import Callable

    from evertoken._model.protocols import ListedStore
    from evertoken.cli.configuration import Configuration

__all__ = ["run_check"]

# Seconds in which a store must answer.
_PATIENCE = 10.0


def run_check(options: argparse.Namespace) -> int:
    """
    Check whether the configuration can be used.

    With `--fetch`, also check whether the store answers, and whether each source brings a token.
    """
    logging.basicConfig(format="evertoken: %(message)s", stream=sys.stderr, level=logging.CRITICAL)
    configuration = configured(options.config)
    # This checks everything that needs no request.
    managers = Managers(configuration)
    print(f"{configuration.path}: no mistake found; sources: {', '.join(configuration.sources)}")
    if not options.fetch:
        return 0
    return asyncio.run(_fetched(configuration, managers, options.timeout))


async def _fetched(configuration: Configuration, managers: Managers, timeout: float | None) -> int:
    # The store is checked first. Otherwise a token of this process alone would look like a shared one.
    worst = 0 if configuration.make_store is None else await _asked(configuration.make_store(), configuration.clean)
    now = SystemClock.time
    async with managers:
        for name in managers:
            try:
                token = await managers.get(name, timeout=timeout)
            except Exception as error:  # noqa: BLE001 - every source must be reported
                print(f"{name}: {lines_of(error)[0] if isinstance(error, TokenError) else describe(error)}")
                worst = 1
            else:
                left = token.remaining(now())
                lives = "no known expiry" if token.expires_at is None else f"{left:.0f} s left"
                print(f"{name}: a token {token.fingerprint}, {lives}")
    return worst


async def _asked(store: ListedStore, clean: Callable[[str], str]) -> int:
    try:
        async with asyncio.timeout(_PATIENCE), contextlib.AsyncExitStack() as stack:
            if hasattr(store, "__aenter__"):
                await stack.enter_async_context(store)  # type: ignore[arg-type]
            if hasattr(store, "keys"):
                await anext(aiter(store.keys()), None)
    except TimeoutError:
        print(f"store: no answer within {_PATIENCE:g} s")
    except Exception as error:  # noqa: BLE001 - a store may raise anything
        print(f"store: {clean(describe(error))}")
    else:
        print("store: it answers")
        return 0
    return 1
