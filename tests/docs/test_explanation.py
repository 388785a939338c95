"""The pages of explanation and CONTRIBUTING.md name files, commands and figures that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MEASURED = (ROOT / "docs" / "explanation" / "measured.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
NOXFILE = (ROOT / "noxfile.py").read_text(encoding="utf-8")

#: Where a page that names `_engine/flight.py` or `store_client.py` may mean it.
FOLDERS = [ROOT, ROOT / "src" / "evertoken", ROOT / "src" / "evertoken" / "_coordination"]


def words(text: str) -> list[str]:
    """Return what stands between single backticks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def is_file(word: str) -> bool:
    """Tell whether *word* looks like a file or a folder."""
    return re.fullmatch(r"[\w./*-]+(?:/|\w\.(?:py|md|toml|yml))", word) is not None


def places(name: str) -> list[Path]:
    """Return where the file or folder *name* is."""
    return [place for folder in FOLDERS if (place := folder / name).exists()]


@pytest.mark.parametrize("page", ["docs/explanation/design.md", "docs/explanation/fleet.md", "CONTRIBUTING.md"])
def test_files_that_a_page_names_exist(page: str):
    """A page that explains the code names files by the present layout."""
    for name in filter(is_file, words((ROOT / page).read_text(encoding="utf-8"))):
        # What a session makes, and a pattern of names.
        assert name.startswith("docs/_build/") or "*" in name or places(name), name


def test_rows_of_the_tour_name_what_is_in_their_files():
    """A name in a row of CONTRIBUTING's tables, such as that of an example to follow, is in a file of that row."""
    tour = CONTRIBUTING.partition("## Your first change")[2]
    rows = [line for line in tour.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    for row in rows:
        found = [place for name in filter(is_file, words(row)) for place in places(name)]
        files = [file for place in found for file in ([place] if place.is_file() else place.rglob("*.py"))]
        texts = [file.read_text(encoding="utf-8") for file in files]
        for word in words(row):
            if not is_file(word) and not word.startswith("python -m "):
                assert any(word.partition("(")[0] in text for text in texts), f"{word} in {row}"


@pytest.mark.parametrize("page", ["docs/explanation/measured.md", "CONTRIBUTING.md"])
def test_commands_that_a_page_names_exist(page: str):
    """Each `nox -s` session, each `python -m tests...` module and each folder of tests of a page exists."""
    text = (ROOT / page).read_text(encoding="utf-8")
    sessions = set(re.findall(r"^def (\w+)\(session", NOXFILE, flags=re.MULTILINE))
    assert {name for names in re.findall(r"nox -s ([a-z ]+)", text) for name in names.split()} <= sessions
    for module in re.findall(r"python -m (tests[\w.]*\w)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for benchmark in re.findall(r"python -m tests\.benchmarks ([a-z]+)", text):
        assert (ROOT / "tests" / "benchmarks" / f"bench_{benchmark}.py").exists(), benchmark
    for selection in re.findall(r"-m pytest ([\w/. ]+)`", text):
        assert all((ROOT / place).exists() for place in selection.split()), selection


def test_measured_figures_stand_in_the_results():
    """The figures of a cell stand together in a line of the benchmarks' results, so none is newer or better."""
    results = [figures(line) for line in RESULTS.splitlines()]
    lines = [line for line in MEASURED.splitlines() if line.startswith("| ")]
    heads = ("| ---", "| measured", "| library")
    rows = [line.strip("| ").split(" | ") for line in lines if not line.startswith(heads)]
    assert len(rows) > 30
    for row in rows:
        assert (ROOT / "tests" / "benchmarks" / f"bench_{row[-1].strip('`')}.py").exists(), row
        for cell in row[:-1]:
            assert any(figures(cell) <= line for line in results), cell


def figures(text: str) -> set[str]:
    """Return all numbers in *text*, as they are written."""
    return {found.rstrip(".,") for found in re.findall(r"\d[\d.,]*", text)}


def test_extras_that_contributors_install_exist():
    """The command for an editor names extras of pyproject.toml."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = ",".join(re.findall(r"'\.\[([\w,]+)\]'", CONTRIBUTING)).split(",")

    assert named != [""]
    assert set(named) <= set(pyproject["project"]["optional-dependencies"])
