"""The page of the comparison and the code that writes it say the same. Nothing is measured here."""

from __future__ import annotations

import pytest
from tests.comparison._page import PAGE, replaced, table, written
from tests.comparison.peers import PEERS
from tests.comparison.scenarios import SCENARIOS, TABLES

TEXT = PAGE.read_text("utf-8")


def cells(line: str) -> list[str]:
    """Return the cells of a row."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_the_scenarios_and_the_libraries_of_the_code(name: str):
    """The headings of a table are those of its scenarios, and each library has a row with a cell for each of them."""
    heading, _, *rows = map(cells, written(TEXT, name).splitlines())

    assert heading == ["library", *(scenario.heading for scenario in TABLES[name])]
    assert [row[0] for row in rows] == [peer.name for peer in PEERS]
    assert all(len(row) == len(heading) and all(row) for row in rows)


def test_no_cell_is_a_fault_of_the_run():
    """The page was written by a run in which every scenario was played."""
    assert "did not run" not in TEXT


def test_each_column_is_explained():
    """Below the tables, a paragraph begins with the heading of each column."""
    for scenario in SCENARIOS:
        assert f"- **{scenario.heading}.**" in TEXT, scenario.heading


def test_the_libraries_are_described():
    """The table of libraries names each one, its version, and the margin that the code says."""
    rows = [cells(line) for line in written(TEXT, "libraries").splitlines()[2:]]

    assert [row[1] for row in rows] == [peer.note for peer in PEERS]
    for row, peer in zip(rows, PEERS, strict=True):
        assert row[0].startswith(f"{peer.name} " if peer.package else peer.name)


def test_it_is_wide_enough():
    """At least ten other libraries and ten scenarios, and each library says what it does not offer by a known name."""
    assert len(PEERS) - 1 >= 10
    assert len(SCENARIOS) >= 10
    assert set().union(*(peer.lacks for peer in PEERS)) <= {scenario.name for scenario in SCENARIOS}


def test_a_table_replaces_the_one_before_and_nothing_else():
    """What is written stands between the markers; a second run with the same results changes nothing."""
    columns = TABLES["work"]
    results = {peer.name: {scenario.name: "1" for scenario in columns} for peer in PEERS}

    once = replaced(TEXT, "work", table(columns, PEERS, results))

    assert replaced(once, "work", table(columns, PEERS, results)) == once
    assert written(once, "tokens") == written(TEXT, "tokens")
    assert replaced(once, "work", written(TEXT, "work")) == TEXT


def test_an_unknown_marker_is_named():
    """A page without a marker of the code is an error, and no silent loss of a table."""
    with pytest.raises(LookupError, match="nowhere"):
        replaced(TEXT, "nowhere", "")
