"""Walk all calls, and print the report: `python -m tests.secrets`."""

from __future__ import annotations

import sys

from tests.secrets.run import Report, all_cases, look_at_values, prepared, walk


def main() -> int:
    """Return 1 if a secret was found."""
    report = Report()
    with prepared(report) as folder:
        walk(all_cases(folder), report)
        look_at_values(folder, report)
    print(report)
    return int(bool(report.found))


if __name__ == "__main__":
    sys.exit(main())
