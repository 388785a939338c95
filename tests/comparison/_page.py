"""The page: what of it is written by a run, between markers, and what stands there."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tests.comparison._peer import Peer
from tests.comparison._play import Scenario

__all__ = ["PAGE", "machine", "peers_table", "replaced", "table", "written"]

PAGE = Path(__file__).parents[2] / "docs" / "comparison.md"
BEGIN, END = "<!-- comparison: written by nox -s comparison: {} -->", "<!-- comparison: end -->"


def written(page: str, name: str) -> str:
    """Return what stands between the markers of *name*."""
    found = _block(name).search(page)
    if found is None:
        raise LookupError(name)
    return found["text"].strip()


def replaced(page: str, name: str, text: str) -> str:
    """Return *page* with *text* between the markers of *name*."""
    written(page, name)
    between = f"\n\n{text.strip()}\n\n"
    return _block(name).sub(lambda found: f"{found['begin']}{between}{found['end']}", page)


def _block(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<begin>{re.escape(BEGIN.format(name))})(?P<text>.*?)(?P<end>{re.escape(END)})", flags=re.DOTALL
    )


def table(
    scenarios: tuple[Scenario, ...], peers: tuple[type[Peer], ...], results: Mapping[str, Mapping[str, str]]
) -> str:
    """Return one table: a row a library, a column a scenario. *results* is by library and scenario."""
    return _lines(
        ["library", *(scenario.heading for scenario in scenarios)],
        [[peer.name, *(results[peer.name][scenario.name] for scenario in scenarios)] for peer in peers],
    )


def peers_table(peers: tuple[type[Peer], ...]) -> str:
    """Return the table of the libraries: version, and how each is used."""
    return _lines(["library", "how it is used"], [[_with_version(peer), peer.note] for peer in peers])


def _with_version(peer: type[Peer]) -> str:
    return f"{peer.name} {metadata.version(peer.package)}" if peer.package else peer.name


def _lines(heading: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in [heading, ["---"] * len(heading), *rows]
    )


def machine(minutes: float) -> str:
    """Return the sentence about the run: when, with what, and on what."""
    load = os.getloadavg()[0]
    return (
        f"Run on {datetime.now(UTC):%d %B %Y} with {platform.python_implementation()} {platform.python_version()} on "
        f"{platform.system()} ({platform.machine()}, {os.cpu_count()} cores, load {load:.0f} at the end). The run took "
        f"{minutes:.0f} minutes."
    )
