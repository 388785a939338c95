"""The tables of clients in the documentation, read off their contracts: `python -m tests.clients.adapters`."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

from tests.clients import contract, sdk_contract
from tests.clients.contract import Contract
from tests.clients.sdk_contract import SdkContract
from tests.clients.test_contract import ADAPTERS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "adapters.md"
BEGIN, END = "<!-- adapters: written by python -m tests.clients.adapters -->\n", "<!-- end of adapters -->\n"
BETWEEN = "<!-- SDKs: written by python -m tests.clients.adapters -->\n"


def versions(adapter: type[Contract | SdkContract]) -> str:
    """Return which versions of the library are tested and asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    library = getattr(adapter, "library", "") if issubclass(adapter, SdkContract) else ""
    if library is None:
        return "any"
    library = library or adapter.name.partition(".")[0]
    extras = project["project"]["optional-dependencies"]
    wanted = extras[adapter.extra] if adapter.extra else project["project"]["dependencies"]
    wanted = [*wanted, *project["dependency-groups"]["test"]]
    pattern = re.compile(rf"{re.escape(library)}(?:\[[^]]*\])?(?![\w-])([^;]*)", re.IGNORECASE)
    found = next(match for one in wanted if isinstance(one, str) and (match := pattern.match(one)))
    return str(found[1].strip().replace(",", ", "))


def extra(adapter: type[Contract | SdkContract]) -> str:
    return f"`evertoken[{adapter.extra}]`" if adapter.extra else "none"


def named(adapter: type[SdkContract]) -> str:
    return adapter.name if adapter.library is None else f"`{adapter.name}`"


def numbered(notes: list[str], note: str) -> str:
    """Return the mark of *note*, which is added to *notes* if it is new."""
    if note not in notes:
        notes.append(note)
    return f"({notes.index(note) + 1})"


def listed(notes: list[str]) -> list[str]:
    return [f"{number}. {note}." for number, note in enumerate(notes, 1)]


def table() -> str:
    """Return both tables of HTTP clients, in Markdown."""
    lines = ["| client | extra | versions | what you write |", "| --- | --- | --- | --- |"]
    lines += [f"| `{one.name}` | {extra(one)} | {versions(one)} | `{one.lines}` |" for one in ADAPTERS]
    names = " | ".join(f"`{adapter.name}`" for adapter in ADAPTERS)
    lines += ["", f"| check | {names} |", f"| --- |{' --- |' * len(ADAPTERS)}"]
    notes: list[str] = []
    for check, said in contract.checks().items():
        found = [adapter.differs.get(check) for adapter in ADAPTERS]
        cells = ["yes" if differs is None else numbered(notes, differs) for differs in found]
        lines.append(f"| {said} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *listed(notes)]) + "\n"


def sdks() -> list[type[SdkContract]]:
    """Return the subclasses of the contract in all test modules of this folder, in the order of their names."""
    found: set[type[SdkContract]] = set()
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if "SdkContract" not in path.read_text("utf-8"):
            continue
        module = importlib.import_module(f"tests.clients.{path.stem}")
        for one in vars(module).values():
            # Classes that others derive from are in the module too, and are no tests.
            if isinstance(one, type) and issubclass(one, SdkContract) and one.__name__.startswith("Test"):
                found.add(one)
    return sorted(found, key=lambda one: one.name.lower())


def sdk_table() -> str:
    """Return both tables of SDKs, in Markdown."""
    lines = [
        "| client | extra | versions | what you write | lines | without |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    adapters = sdks()
    for adapter in adapters:
        written = adapter.lines.splitlines()
        cells = [named(adapter), extra(adapter), versions(adapter), "<br>".join(f"`{line}`" for line in written)]
        lines.append(f"| {' | '.join(cells)} | {len(written)} | {adapter.without} |")
    checks = sdk_contract.checks()
    lines += ["", f"| client | {' | '.join(map(str, range(1, len(checks) + 1)))} |", "| --- |" + " --- |" * len(checks)]
    notes: list[str] = []
    for adapter in adapters:
        found = [sdk_contract.outcome(adapter, check) for check in checks]
        cells = [numbered(notes, differs) if differs else word for word, differs in found]
        lines.append(f"| {named(adapter)} | {' | '.join(cells)} |")
    lines += ["", "The checks:", "", *listed(list(checks.values()))]
    return "\n".join([*lines, "", "The notes in brackets:", "", *listed(notes)]) + "\n"


def parts() -> tuple[str, str, str, str, str]:
    """Return the page as it is: text, the tables of HTTP clients, text, those of SDKs, text."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    clients, _, rest = rest.partition(END)
    between, _, rest = rest.partition(BETWEEN)
    others, _, behind = rest.partition(END)
    return before, clients, between, others, behind


if __name__ == "__main__":
    before, _, between, _, behind = parts()
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{between}{BETWEEN}\n{sdk_table()}\n{END}{behind}", "utf-8")
