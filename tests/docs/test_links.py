"""Links between the pages of the repository, which GitHub shows and the site does not have."""

from __future__ import annotations

import re

import pytest
from tests.docs.columns import ROOT

LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)|(?:src|srcset)=\"(?!\w+:)([^\"]+)\"")


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("*.md")))
def test_links_lead_somewhere(name):
    """Each relative link of README and its neighbours leads to a file, and to a heading that the file has."""
    for path, anchor, picture in LINK.findall((ROOT / name).read_text(encoding="utf-8")):
        found = ROOT / (path or picture or name)
        assert found.exists(), path or picture
        assert not anchor or anchor in anchors(found.read_text(encoding="utf-8")), f"{path}#{anchor}"
