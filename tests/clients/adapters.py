"""The tables of clients in the documentation, read off their contracts: `python -m tests.clients.adapters`."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tests.clients import contract, sdk_contract
from tests.clients.contract import Contract
from tests.clients.sdk_contract import SdkContract
from tests.clients.test_contract import ADAPTERS as HERE
from tests.own_environment.niquests_rows import ADAPTERS as ELSEWHERE

Adapter: TypeAlias = type[Contract] | type[SdkContract]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "adapters.md"
#: The adapters that `nox -s niquests` checks are not installed here.
ADAPTERS = [*HERE, *ELSEWHERE]
BEGIN, END = "<!-- adapters: written by python -m tests.clients.adapters -->\n", "<!-- end of adapters -->\n"
BETWEEN = "<!-- SDKs: written by python -m tests.clients.adapters -->\n"


def versions(adapter: Adapter) -> str:
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


def named(adapter: Adapter) -> str:
    return adapter.name if getattr(adapter, "library", "") is None else f"`{adapter.name}`"


def listed(checks: Iterable[str]) -> list[str]:
    return [f"{number}. {check}." for number, check in enumerate(checks, 1)]


def rows(cells: list[list[str]]) -> list[str]:
    """Return a table in Markdown, whose head is the first row."""
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]]


def written(adapters: Sequence[Adapter]) -> list[str]:
    """Return the table of the lines that users write."""
    cells = [["client", "what you write", "lines", "without"]]
    for one in adapters:
        lines = one.lines.splitlines()
        client = "<br>".join(filter(None, (named(one), one.extra and f"`[{one.extra}]`", versions(one))))
        code = "<br>".join(f"`{line}`" for line in lines)
        cells.append([client, code, str(len(lines)), str(one.without)])
    return rows(cells)


def checked(
    adapters: Sequence[Any], checks: dict[str, str], outcome: Callable[[Any, str], tuple[str, str]]
) -> list[str]:
    """Return the checks, and the table of the clients for which one of them comes out otherwise."""
    alike: dict[str, list[str]] = {}
    for one in adapters:
        otherwise: dict[str, list[str]] = {}
        for number, check in enumerate(checks, 1):
            word, differs = outcome(one, check)
            if differs or word != "yes":
                otherwise.setdefault(f"{differs}." if differs else "not applicable.", []).append(str(number))
        said = "<br>".join(f"{', '.join(numbers)}: {what}" for what, numbers in otherwise.items())
        alike.setdefault(said or "All pass.", []).append(named(one))
    cells = [["client", "checks that come out otherwise"], *(["<br>".join(who), what] for what, who in alike.items())]
    return ["Each of them passes these checks:", "", *listed(checks.values()), "", *rows(cells)]


def table() -> str:
    """Return both tables of HTTP clients."""
    lines = checked(ADAPTERS, contract.checks(), contract.outcome)
    return "\n".join([*written(ADAPTERS), "", *lines]) + "\n"


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
    """Return both tables of SDKs."""
    lines = checked(sdks(), sdk_contract.checks(), sdk_contract.outcome)
    return "\n".join([*written(sdks()), "", *lines]) + "\n"


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
