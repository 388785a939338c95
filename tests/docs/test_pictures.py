"""The pictures of the documentation are what the simulations draw, and the page about them says what they show."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.docs.pictures.__main__ import PICTURES, STATIC

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "how-it-works.md"
SVG = "{http://www.w3.org/2000/svg}"

#: The least size of text, in units of which a picture has 400: a phone shows 350 pixels.
LEAST_SIZE = 11.0


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_what_the_code_does(name: str):
    """A change of behaviour that changes a picture is noticed: `python -m tests.docs.pictures` draws it again."""
    assert (STATIC / name).read_text(encoding="utf-8") == PICTURES[name]()


@pytest.mark.parametrize("name", PICTURES)
def test_picture_can_be_read(name: str):
    """A picture has a title and a description, dark colours, and no text that is too small on a phone."""
    root = ET.fromstring((STATIC / name).read_text(encoding="utf-8"))
    assert [root[place].tag for place in (0, 1)] == [f"{SVG}title", f"{SVG}desc"]
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == " ".join(root[place].get("id", "") for place in (0, 1))
    assert "prefers-color-scheme:dark" in "".join(root.find(f"{SVG}style").itertext())  # type: ignore[union-attr]
    assert all(float(text.get("font-size", "0")) >= LEAST_SIZE for text in root.iter(f"{SVG}text"))


def test_page_describes_the_pictures_for_those_who_cannot_see_them():
    """Each picture is on the page, and its alternative text is its description."""
    shown = re.findall(r"!\[([^\]]*)\]\(\.\./_static/([^)]*)\)", PAGE.read_text(encoding="utf-8"))

    assert [name for _, name in shown] == list(PICTURES)
    for words, name in shown:
        root = ET.fromstring((STATIC / name).read_text(encoding="utf-8"))
        assert " ".join(words.split()) == root[1].text, name


def test_page_has_the_figures_of_the_pictures():
    """A number in the text below a picture is a number of that picture."""
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    for name, section in zip(PICTURES, sections, strict=False):
        picture = " ".join(ET.fromstring((STATIC / name).read_text(encoding="utf-8")).itertext())
        words = re.sub(r"!\[[^\]]*\]\([^)]*\)|^\d+\. |\]\([^)]*\)", " ", section, flags=re.MULTILINE)
        assert numbers(words) <= numbers(picture), name


def numbers(text: str) -> set[str]:
    """Return the numbers in *text*, also those such as 7:53."""
    return {found.rstrip(".:") for found in re.findall(r"\d[\d:.]*", text)}
