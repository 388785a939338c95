"""The pages of explanation and CONTRIBUTING.md name files, commands and figures that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPLANATION = ROOT / "docs" / "explanation"
MEASURED = (EXPLANATION / "measured.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
NOXFILE = (ROOT / "noxfile.py").read_text(encoding="utf-8")

#: Where a page that names `_engine/flight.py` or `test_docs.py` may mean it.
FOLDERS = [ROOT, ROOT / "src" / "evertoken", ROOT / "src" / "evertoken" / "_coordination", ROOT / "tests"]

#: A name in a guide for contributors that stands for a file to be made.
INVENTED = re.compile(r"\b(?:my|your)_?\w*|\*")


def named(text: str) -> list[str]:
    """Return what looks like a file or a folder between single backticks."""
    words = re.findall(r"(?<!`)`([\w./*-]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [word for word in words if word.endswith("/") or re.search(r"\w\.(?:py|md|toml|yml|yaml|svg|exs|go)$", word)]


@pytest.mark.parametrize("page", ["docs/explanation/design.md", "docs/explanation/fleet.md", "CONTRIBUTING.md"])
def test_files_that_a_page_names_exist(page: str):
    """A page that explains the code names files by the present layout."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in named(text):
        if not INVENTED.search(name):
            assert any((folder / name).exists() for folder in FOLDERS), name


@pytest.mark.parametrize(
    "page", ["docs/explanation/measured.md", "docs/explanation/how-it-works.md", "CONTRIBUTING.md"]
)
def test_commands_that_a_page_names_exist(page: str):
    """Each `nox -s` session and each `python -m tests...` module of a page exists."""
    text = (ROOT / page).read_text(encoding="utf-8")
    sessions = re.findall(r"^def (\w+)\(session", NOXFILE, flags=re.MULTILINE)
    assert set(re.findall(r"nox -s ([a-z]+)", text)) <= set(sessions)
    for module in re.findall(r"python -m (tests[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for benchmark in re.findall(r"python -m tests\.benchmarks ([a-z]+)", text):
        assert (ROOT / "tests" / "benchmarks" / f"bench_{benchmark}.py").exists(), benchmark


def test_measured_figures_stand_in_the_results():
    """No figure of the page is newer or better than the results of the benchmarks."""
    results = figures(RESULTS)
    rows = [
        line for line in MEASURED.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| meas"))
    ]
    assert len(rows) > 30
    for row in rows:
        assert "`python -m tests.benchmarks " in row or row.startswith("| library")
        # The `1` of evertoken itself, as a multiple of itself.
        assert figures(row.rpartition("|")[0]) - {"1"} <= results, row


def figures(text: str) -> set[str]:
    """Return all numbers in *text*, as they are written."""
    return {found.rstrip(".,") for found in re.findall(r"\d[\d.,]*", text)}


def test_extras_that_the_contributors_install_exist():
    """The command for an editor names extras of pyproject.toml."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named_extras = re.findall(r"'\.\[([\w,]+)\]'", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))

    assert named_extras
    assert set(",".join(named_extras).split(",")) <= set(pyproject["project"]["optional-dependencies"])
