"""`evertoken agent`: the process around an agent, with its signals and its log."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING

from evertoken.cli.agent import Agent
from evertoken.cli.get import configured
from evertoken.cli.toml_table import ConfigurationError

if TYPE_CHECKING:
    import argparse

__all__ = ["run_agent"]


def run_agent(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status. SIGHUP reads the configuration again."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        level=logging.DEBUG if options.verbose else logging.INFO,
    )
    # The messages of HTTP libraries about each request are not useful here.
    for name in ("httpx", "httpcore", "asyncio", "hpack"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not hasattr(signal, "SIGHUP"):
        msg = "the agent needs signals and unix sockets, which this system does not have"
        raise ConfigurationError(msg)
    asyncio.run(_serve(options))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    agent = Agent(lambda: configured(options.config))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    loop.add_signal_handler(signal.SIGHUP, agent.reload)
    await agent.run()
