"""`evertoken top`: shows keys, providers and failures, from an agent or from a store."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from evertoken._model.redaction import scrub
from evertoken.cli.agent_client import ask
from evertoken.cli.get import socket_of
from evertoken.cli.readings import KeyLine, Reading, reading_from
from evertoken.cli.store import plain, rows, span
from evertoken.cli.toml_table import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from evertoken import ListedStore

__all__ = ["life_bar", "lines_of", "run_top"]

# The number of characters of a life bar.
_BAR: Final = 20


def run_top(options: argparse.Namespace) -> int:
    """Show the state until interrupted, or as often as `--count` says. Return the exit status."""
    logging.basicConfig(format="evertoken: %(message)s", stream=sys.stderr, level=logging.ERROR)
    read = _reader(options)
    live = sys.stdout.isatty()
    count = options.count or (None if live else 1)
    if not live:
        for place, reading in enumerate(_readings(read, count, options.every)):
            if place:
                print()
            print("\n".join(lines_of(reading)), flush=True)
        return 0
    from evertoken.cli.top_view import TopView  # noqa: PLC0415 - rich is only needed here

    with TopView() as view:
        for reading in _readings(read, count, options.every):
            view.update(reading)
    return 0


def _readings(read: Callable[[], Reading], count: int | None, every: float) -> Iterator[Reading]:
    shown = 0
    while True:
        yield read()
        shown += 1
        if shown == count:
            return
        time.sleep(every)


def _reader(options: argparse.Namespace) -> Callable[[], Reading]:
    path, configuration = socket_of(options)
    if path is not None and ask(path, {"op": "health"}) is not None:
        where = path

        def from_agent() -> Reading:
            answer = ask(where, {"op": "top"})
            if answer is None:
                msg = f"the agent at {str(where)!r} has gone"
                raise ConnectionError(msg)
            return reading_from(answer["reading"])

        return from_agent
    if configuration is None or configuration.make_store is None:
        msg = "no agent runs, and the configuration has no [store] to look into"
        raise ConfigurationError(msg)
    make = configuration.make_store

    def from_store() -> Reading:
        store = make()
        try:
            return asyncio.run(_from_store(store))
        except Exception as error:
            # The libraries of servers raise their own exceptions.
            msg = f"the store failed: {type(error).__name__}: {scrub(str(error))}"
            raise OSError(errno.EIO, msg) from error

    return from_store


async def _from_store(store: ListedStore) -> Reading:
    now = time.time()
    async with AsyncExitStack() as stack:
        if hasattr(store, "__aenter__"):
            await stack.enter_async_context(store)  # type: ignore[arg-type]
        return Reading(
            at=now,
            keys=[
                KeyLine(
                    name=row.key,
                    state=row.state,
                    token=row.token,
                    issued_at=row.issued_at,
                    expires_at=row.expires_at,
                )
                async for row in rows(store)
            ],
        )


def life_bar(line: KeyLine, now: float, cells: int = _BAR) -> str:
    """Return the remaining life of a token as a bar, with a mark at the time of the refresh."""
    if line.issued_at is None or line.expires_at is None or line.expires_at <= line.issued_at:
        return "-" * cells if line.token is None else " " * cells
    lifetime = line.expires_at - line.issued_at
    share = max(0.0, min((line.expires_at - now) / lifetime, 1.0))
    bar = ["█" if cell < share * cells else "░" for cell in range(cells)]
    if line.due_at is not None:
        mark = int((line.expires_at - line.due_at) / lifetime * cells)
        if 0 <= mark < cells:
            bar[mark] = "│"
    return "".join(bar)


def lines_of(reading: Reading) -> Iterator[str]:
    """Yield the output without a terminal: one line for each key, and one for each provider."""
    yield f"{'KEY':<28} {'STATE':<15} {'TOKEN':<8} {'LEFT':>7}  {'DUE IN':>7}  FAILURES"
    for key in reading.keys:
        left = None if key.expires_at is None else key.expires_at - reading.at
        due = None if key.due_at is None else key.due_at - reading.at
        failed = "" if not key.failures else f"{key.failures} ({plain(key.error or '')})"
        yield (
            f"{plain(key.name):<28} {key.state:<15} {key.token or '-':<8} {span(left):>7}  {span(due):>7}  {failed}"
        ).rstrip()
    if reading.providers:
        yield f"{'PROVIDER':<44} {'RATE':>8} {'ASKED':>6} {'WAITING':>7}  {'BUDGET':<13} DOWN"
    for one in reading.providers:
        rate = "-" if one.rate is None else f"{one.rate:.2g}/s"
        budget = "-" if one.budget_used is None else f"{one.budget_used} ({one.budget_left} left)"
        down = "" if one.down_since is None else f"for {span(reading.at - one.down_since)}"
        waiting = one.in_flight + one.queued
        yield f"{plain(one.name):<44} {rate:>8} {one.attempts:>6} {waiting:>7}  {budget:<13} {down}".rstrip()
    if reading.fetches is not None:
        yield f"token requests: {reading.fetches}, failed: {reading.failed}"
