"""`python -m tests.comparison`: play every scenario with every library, and write the page."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.comparison._page import PAGE, machine, peers_table, replaced, table
from tests.comparison._peer import Peer
from tests.comparison.peers import PEERS
from tests.comparison.scenarios import SCENARIOS, TABLES

#: A scenario that takes longer is ended, and the library goes on with the next one.
PATIENCE = 90.0
#: Libraries at one time. Most scenarios wait.
AT_ONCE = 2


def played(kind: type[Peer], names: list[str]) -> dict[str, str]:
    """Play scenarios with one library; return the cells by scenario."""
    cells: dict[str, str] = {}
    while left := [name for name in names if name not in cells]:
        before = len(cells)
        command = [sys.executable, "-m", "tests.comparison._worker", kind.name, *left]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            while True:
                guard = threading.Timer(PATIENCE, worker.kill)
                guard.start()
                line = worker.stdout.readline()
                guard.cancel()
                if not line:
                    break
                found = json.loads(line)
                cells[found["scenario"]] = found["cell"]
                text = f"{kind.name:<22} {found['scenario']:<14} {found['cell']:<20} {found['took']:5.1f} s"
                print(f"{text}  {found['fault']}".rstrip(), flush=True)
        if len(cells) == before:
            cells[left[0]] = "no end"
            print(f"{kind.name:<22} {left[0]:<14} no end", flush=True)
    return cells


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.comparison", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--peer", action="append", choices=[peer.name for peer in PEERS], help="one library; no page")
    parser.add_argument("--scenario", action="append", choices=names, help="one scenario; no page")
    parsed = parser.parse_args(arguments)
    begun = time.perf_counter()
    peers = tuple(peer for peer in PEERS if parsed.peer is None or peer.name in parsed.peer)
    scenarios = [name for name in names if parsed.scenario is None or name in parsed.scenario]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda peer: played(peer, scenarios), peers))
    if parsed.peer is not None or parsed.scenario is not None:
        return 0
    results = {peer.name: cells for peer, cells in zip(peers, found, strict=True)}
    page = PAGE.read_text("utf-8")
    page = replaced(page, "run", machine((time.perf_counter() - begun) / 60.0))
    page = replaced(page, "libraries", peers_table(PEERS))
    for name, columns in TABLES.items():
        page = replaced(page, name, table(columns, PEERS, results))
    PAGE.write_text(page, "utf-8")
    # A cell that says so is a fault of this code or of the machine, and no result.
    return int(any("did not run" in cells.values() for cells in found))


if __name__ == "__main__":
    sys.exit(main())
