"""Walk all calls, or every so many, and print the report: `python -m tests.leaks [EVERY]`."""

from __future__ import annotations

import sys

from tests.leaks.run import Report, all_cases, look_at_values, prepared, walk


def main() -> int:
    """Return 1 if a secret was found."""
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    report = Report()
    with prepared(report) as folder:
        walk(all_cases(folder, every=every), report)
        look_at_values(folder, report)
    print(report)
    return int(bool(report.found))


if __name__ == "__main__":
    sys.exit(main())
