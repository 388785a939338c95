"""The table of HTTP clients in the documentation, read off their contract: `python -m tests.clients.adapters`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.clients.contract import Contract, checks
from tests.clients.test_contract import ADAPTERS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "adapters.md"
BEGIN, END = "<!-- adapters: written by python -m tests.clients.adapters -->\n", "<!-- end of adapters -->\n"


def versions(adapter: type[Contract]) -> str:
    """Return which versions of the library are tested and asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = extras[adapter.extra] if adapter.extra else project["dependencies"]
    library = adapter.name.partition(".")[0]
    found = next(one for one in wanted if re.match(rf"{library}\b", one))
    return str(found.removeprefix(library).replace(",", ", "))


def table() -> str:
    """Return both tables, in Markdown."""
    lines = ["| client | extra | versions | what you write |", "| --- | --- | --- | --- |"]
    for adapter in ADAPTERS:
        extra = f"`evertoken[{adapter.extra}]`" if adapter.extra else "none"
        lines.append(f"| `{adapter.name}` | {extra} | {versions(adapter)} | `{adapter.lines}` |")
    names = " | ".join(f"`{adapter.name}`" for adapter in ADAPTERS)
    lines += ["", f"| check | {names} |", f"| --- |{' --- |' * len(ADAPTERS)}"]
    notes: list[str] = []
    for check, said in checks().items():
        cells = []
        for adapter in ADAPTERS:
            differs = adapter.differs.get(check)
            if differs is not None and differs not in notes:
                notes.append(differs)
            cells.append("yes" if differs is None else f"({notes.index(differs) + 1})")
        lines.append(f"| {said} | {' | '.join(cells)} |")
    told = [f"{number}. {note}." for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *told]) + "\n"


def parts() -> tuple[str, str, str]:
    """Return what the page has before the tables, the tables, and what it has behind."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    written, _, behind = rest.partition(END)
    return before, written, behind


if __name__ == "__main__":
    before, _, behind = parts()
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{behind}", "utf-8")
