"""
The built site, read with a parser: it needs no network, and all its pages and links are there.

`nox -s docs` builds the site and runs these tests on it. The variable `EVERTOKEN_SITE` names its folder.
"""

from __future__ import annotations

import os
import re
from collections import deque
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from tests.docs.columns import WIDTH

SITE = Path(os.environ.get("EVERTOKEN_SITE", "")).absolute()

pytestmark = pytest.mark.skipif("EVERTOKEN_SITE" not in os.environ, reason="needs the site: nox -s docs")

# Words that users of other libraries search for.
SEARCHED = ("leeway", "skew", "buffer", "early expiry")


class Page(HTMLParser):
    """What a page loads, where its links lead, its anchors and the lines of its examples."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.examples = ""
        self.images_without_text: list[str] = []
        self._inside = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") in {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch"}:
            self.loads.append(found["href"])
        elif tag in {"script", "img", "iframe", "source", "object", "video"}:
            self.loads += [found[name] for name in ("src", "srcset", "data") if name in found]
        if tag == "img" and not found.get("alt"):
            self.images_without_text.append(found["src"])
        if tag == "pre":
            self._inside += 1

    def handle_endtag(self, tag):
        if tag == "pre":
            self._inside -= 1

    def handle_data(self, data):
        if self._inside:
            self.examples += data


@cache
def pages() -> dict[Path, Page]:
    return {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(SITE.rglob("*.html"))
        if "_static" not in path.parts
    }


def target(page: Path, link: str) -> tuple[Path, str]:
    parts = urlsplit(link)
    return (page.parent / unquote(parts.path)).resolve() if parts.path else page, unquote(parts.fragment)


def inner(page: Path) -> list[str]:
    return [link for link in pages()[page].links if not urlsplit(link).scheme]


def test_no_page_needs_the_network():
    """No page and no style sheet loads anything from elsewhere."""
    for path, page in pages().items():
        for url in page.loads:
            assert not urlsplit(url).scheme.startswith("http"), (path, url)
            assert not url.startswith("//"), (path, url)
    for path in SITE.rglob("*.css"):
        found = re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*|@import[^;]*//[^;]*", path.read_text(encoding="utf-8"))
        assert found == [], path


def test_what_is_loaded_is_there():
    """Each picture, script and style sheet of a page is part of the site."""
    for path, page in pages().items():
        for url in page.loads:
            assert url.startswith("data:") or target(path, url)[0].is_file(), (path, url)


def test_links_lead_somewhere():
    """Each link within the site leads to a page that exists, and to an anchor that the page has."""
    for path in pages():
        for link in inner(path):
            page, anchor = target(path, link)
            assert page.is_file(), (path.relative_to(SITE), link)
            known = pages().get(page)
            assert not anchor or known is None or anchor in known.anchors, (path.relative_to(SITE), link)


def test_each_page_is_reachable():
    """A reader gets from the front page to each page by links."""
    start = SITE / "index.html"
    seen, waiting = {start}, deque([start])
    while waiting:
        page = waiting.popleft()
        for link in inner(page):
            found = target(page, link)[0]
            if found in pages() and found not in seen:
                seen.add(found)
                waiting.append(found)

    # The field of each page leads to the search.
    assert set(pages()) - seen == {SITE / "search.html"}


def test_the_newcomers_path():
    """From the front page, links lead to the installation, the first token and the test of one's own code."""
    start = SITE / "index.html"
    for page in ("install.html", "tutorial.html", "how-to/index.html"):
        assert SITE / page in {target(start, link)[0] for link in inner(start)}
    assert SITE / "testing.html" in {target(SITE / "tutorial.html", link)[0] for link in inner(SITE / "tutorial.html")}


def test_pictures_have_a_text():
    """Each picture has a text for readers who cannot see it."""
    for path, page in pages().items():
        assert page.images_without_text == [], path


def test_examples_need_no_scrolling():
    """No line of an example is longer than the site is wide, those of docstrings included."""
    for path, page in pages().items():
        if path.name != "changelog.html":
            assert [line for line in page.examples.splitlines() if len(line) > WIDTH] == [], path


@pytest.mark.parametrize("words", SEARCHED)
def test_search_knows_the_words_of_others(words):
    """The search index has the words that other libraries use for what evertoken calls a lead."""
    index = (SITE / "searchindex.js").read_text(encoding="utf-8")
    for word in words.split():
        # Sphinx keeps the stems of words. The stem of "early" is "earli".
        assert f'"{re.sub("(?<=[^aeiou])y$", "i", word)}":' in index, word
