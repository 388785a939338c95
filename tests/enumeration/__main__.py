"""All pairs of faults, or many seeds of the stress test, on all cores: `python -m tests.enumeration --help`."""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from tests.enumeration.faults import Plan
from tests.enumeration.runs import following, sample, singles
from tests.enumeration.scenario import play
from tests.enumeration.stress import stress

# Seeds that one worker plays at a time.
_SEEDS = 50

Report = tuple[int, list[str]]


def main() -> int:
    """Run what the command line asks for; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="tests.enumeration", description=__doc__)
    parser.add_argument("--run", metavar="ID", help="play one run, as 'store:rotating:a.commit#3=lost', or 'stress:17'")
    parser.add_argument("--shard", default="1/1", metavar="N/OF", help="only this part of the pairs")
    parser.add_argument("--sample", type=int, metavar="PAIRS", help="as many pairs as that, chosen by the seed")
    parser.add_argument("--stress", type=int, metavar="SEEDS", help="the stress test, with as many seeds as that")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    options = parser.parse_args()
    if options.run is not None:
        return _play_one(options.run)
    if options.stress is not None:
        jobs: Sequence[Callable[[], Report]] = [
            partial(_stressed, range(first, min(first + _SEEDS, options.seed + options.stress)))
            for first in range(options.seed, options.seed + options.stress, _SEEDS)
        ]
    elif options.sample is not None:
        jobs = [partial(_sampled, 100, options.seed + number) for number in range(-(-options.sample // 100))]
    else:
        number, of = map(int, options.shard.split("/"))
        firsts = [plan for index, plan in enumerate(singles()) if index % of == number - 1]
        jobs = [partial(_after, plan) for plan in firsts]
    return _run(jobs, options.jobs)


def _play_one(name: str) -> int:
    if name.startswith("stress:"):
        faults = stress(int(name.partition(":")[2]), tell=print)
    else:
        result = play(Plan.parse(name))
        for at, member, event in result.events:
            print(f"{at:10.2f} {member} {event!r}")
        print(*(f"{member}.{step}#{number}" for member, step, number in result.trace))
        faults = result.faults
    print(f"{name}: {len(faults)} faults", *faults, sep="\n    ")
    return int(bool(faults))


def _after(first: Plan) -> Report:
    result = play(first)
    count, failed = _played(following(result))
    return count + 1, [*([_told(str(first), result.faults)] if result.faults else []), *failed]


def _sampled(number: int, seed: int) -> Report:
    return _played(sample(number, seed))


def _played(plans: Iterable[Plan]) -> Report:
    count, failed = 0, []
    for plan in plans:
        count += 1
        faults = play(plan).faults
        if faults:
            failed.append(_told(str(plan), faults))
    return count, failed


def _stressed(seeds: range) -> Report:
    failed = [_told(f"stress:{seed}", faults) for seed in seeds if (faults := stress(seed))]
    return len(seeds), failed


def _told(name: str, faults: list[str]) -> str:
    return "\n    ".join([name, *faults[:3]])


def _run(jobs: Sequence[Callable[[], Report]], processes: int) -> int:
    begun = time.perf_counter()
    runs, failures = 0, 0
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        for done in concurrent.futures.as_completed([pool.submit(job) for job in jobs]):
            count, failed = done.result()
            runs += count
            failures += len(failed)
            for text in failed:
                print(text, flush=True)
    print(f"{runs} runs in {time.perf_counter() - begun:.0f} s on {processes} processes, {failures} with faults")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
