"""
The full check: so many runs for each store, each way to stop, and each length of it. It fails if any run does.

`python -m tests.chaos [--runs N] [--seed N] [--stores valkey,postgres] [--seconds 10,60]
[--stops killed,frozen,emptied] [--logs FOLDER]`
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.play import Plan, Stop, playing
from tests.chaos.verdict import Verdict, judge
from tests.stores.servers import postgres, valkey

if TYPE_CHECKING:
    from collections.abc import Sequence

#: In turn, so that three runs have one of each.
STOPS: tuple[Stop, ...] = ("killed", "frozen", "emptied")


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(plan: Plan, folder: Path) -> Verdict:
    """Play one plan on a store of its own, and judge it."""
    folder.mkdir(parents=True)
    with (valkey if plan.store == "valkey" else postgres)() as store, playing(plan, store, folder) as played:
        return judge(played)


def total(verdicts: Sequence[Verdict]) -> str:
    families, requests = sum(one.families for one in verdicts), sum(one.requests for one in verdicts)
    replays, revoked = sum(one.replays for one in verdicts), sum(len(one.revoked) for one in verdicts)
    excused, faults = sum(len(one.excused) for one in verdicts), sum(len(one.faults) for one in verdicts)
    kills, freezes = sum(one.kills for one in verdicts), sum(one.freezes for one in verdicts)
    return (
        f"{len(verdicts)} runs, {families} families, {requests} requests, {kills} killed, {freezes} frozen, "
        f"{replays} replays, {revoked} revoked, {excused} excused, {faults} faults"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Play chaos on a fleet, and judge it.")
    parser.add_argument("--runs", type=int, default=10, help="runs for each store and each length")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000), help="of the first run")
    parser.add_argument("--stores", default="valkey,postgres", help="which stores")
    parser.add_argument("--seconds", default="10,60", help="how long the store is stopped")
    parser.add_argument("--stops", default=",".join(STOPS), help="how it is stopped, in turn")
    parser.add_argument("--logs", type=Path, default=None, help="where to leave the logs of the members")
    options = parser.parse_args(arguments)
    logs = options.logs or Path(tempfile.mkdtemp(prefix="evertoken-chaos-"))
    say(f"seed {options.seed}, logs in {logs}")
    stops = options.stops.split(",")
    verdicts: dict[str, list[Verdict]] = {}
    for number in range(options.runs):
        for seconds in map(float, options.seconds.split(",")):
            for store in options.stores.split(","):
                plan = Plan(store, stops[number % len(stops)], seconds, options.seed + number)
                begun = time.monotonic()
                verdict = run(plan, logs / f"{store}-{seconds:g}-{plan.seed}")
                say(f"{verdict} ({time.monotonic() - begun:.0f} s)")
                verdicts.setdefault(f"{store} {seconds:g} s", []).append(verdict)
    for title, some in verdicts.items():
        say(f"{title}: {total(some)}")
    everything = [one for some in verdicts.values() for one in some]
    say(f"in all: {total(everything)}")
    return 1 if any(one.faults for one in everything) else 0


if __name__ == "__main__":
    sys.exit(main())
