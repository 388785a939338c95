"""Plays scenarios with one library in a process of its own: `python -m tests.comparison._worker NAME SCENARIO ...`."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings

from tests.benchmarks._process import ServerProcess
from tests.comparison._play import settle
from tests.comparison.peers import PEERS
from tests.comparison.scenarios import SCENARIOS

FAULT = "did not run"


def main(name: str, scenarios: list[str]) -> None:
    kind = next(kind for kind in PEERS if kind.name == name)
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    with ServerProcess(rotate=False) as server:
        for scenario in SCENARIOS:
            if scenario.name not in scenarios:
                continue
            begun = time.perf_counter()
            settle(server)
            fault = ""
            try:
                cell = "not offered" if scenario.name in kind.lacks else scenario.play(kind, server)
            except Exception as error:  # noqa: BLE001 - the other scenarios go on
                cell, fault = FAULT, f"{type(error).__name__}: {error}"
            took = time.perf_counter() - begun
            print(json.dumps({"scenario": scenario.name, "cell": cell, "took": took, "fault": fault}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
    # Threads of a library may hang.
    os._exit(0)
