"""`python -m tests.benchmarks [name ...] [--quick] [--json]`: measure, and print a table."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import platform
import sys
import traceback

from tests.benchmarks._measure import Options, Row, loadavg

NAMES = (
    "hit", "httpx", "adapters", "refresh", "import", "cold", "steady", "outage", "recovery", "refusals", "keys",
    "trips", "load", "fleet", "stores", "peers", "elsewhere",
)  # fmt: skip


def line(row: Row) -> str:
    measured = (
        row.measured
        if isinstance(row.measured, str)
        else f"{row.measured:,.4g}"
        if row.measured < 1000
        else f"{row.measured:,.0f}"
    )
    target = "" if row.target is None else f"{'>=' if row.least else '<='} {row.target:g}"
    verdict = {True: "kept", False: "MISSED", None: ""}[row.kept]
    return f"  {row.what:<62} {measured:>9} {row.unit:<4} {target:>9}  {verdict:<7}{row.note}".rstrip()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which; all of them by default")
    parser.add_argument("--quick", action="store_true", help="shorter and rougher")
    parser.add_argument("--json", action="store_true", help="for machines: one object a row")
    parsed = parser.parse_args(arguments)
    missed, crashed = 0, False
    if not parsed.json:
        print(f"{platform.python_implementation()} {platform.python_version()}, load {loadavg()}")
    for name in parsed.names or NAMES:
        if not parsed.json:
            print(f"\n{name}", flush=True)
        try:
            for row in importlib.import_module(f"tests.benchmarks.bench_{name}").rows(Options(parsed.quick)):
                missed += row.kept is False
                shown = {"bench": name, **dataclasses.asdict(row), "kept": row.kept}
                print(json.dumps(shown) if parsed.json else line(row), flush=True)
        except Exception:  # noqa: BLE001 - the other benchmarks go on
            crashed = True
            traceback.print_exc()
    # 1: a target was missed; 2: a benchmark did not run to its end.
    return 2 if crashed else 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
