"""Lines of examples fit the site."""

from __future__ import annotations

import pytest
from tests.docs.columns import PAGES, ROOT, too_long


def test_long_lines_are_found():
    """Only lines of examples count, and their indent in a list does not."""
    page = f"{'a' * 99}\n\n```sh\n{'b' * 89}\n{'c' * 88}\n```\n\n```{{image}} {'d' * 99}\n:alt: {'e' * 99}\n```\n"

    assert list(too_long(page)) == ["b" * 89]
    assert list(too_long(f"- x\n\n  ```python\n  {'f' * 88}\n  ```\n")) == []


@pytest.mark.parametrize("page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES])
def test_examples_need_no_scrolling(page):
    """No line of an example is longer than the site is wide: `ruff format` shortens Python code."""
    assert list(too_long(page.read_text(encoding="utf-8"))) == []
