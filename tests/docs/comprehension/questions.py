"""Five factual questions and answers for each page that is to be understood alone, and the text of the page."""

from __future__ import annotations

import inspect
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.docs.files import ROOT

import evertoken

DOCS = ROOT / "docs"
FOLDER = Path(__file__).parent / "questions"

_HIDDEN = re.compile(r"^ *<!--.*?-->\n", re.DOTALL | re.MULTILINE)

#: The reference of the manager shows the docstrings of these.
SHOWN = {"reference/manager": (evertoken.TokenManager, evertoken.TokenHandle)}


@dataclass(frozen=True)
class Question:
    """
    A question, its answer, and what proves the answer.

    Args:
        page: The page that is asked about, as `how-to/health`.
        ask: The question.
        answer: What a reader of the page should say.
        says: The passage of the page that answers the question.
        holds: An expression that is true as long as the answer is true of the code, or nothing.
    """

    page: str
    ask: str
    answer: str
    says: str
    holds: str = ""


def pages() -> list[str]:
    """Return the pages that have questions: all guides, all explanation, the first steps, and the manager."""
    found = [path for folder in ("how-to", "explanation") for path in (DOCS / folder).glob("*.md")]
    found += [DOCS / "tutorial.md", DOCS / "testing.md", DOCS / "why.md", DOCS / "reference" / "manager.md"]
    return sorted(str(path.relative_to(DOCS).with_suffix("")) for path in found if path.stem != "index")


def questions(page: str) -> list[Question]:
    """Return the questions about *page*."""
    path = FOLDER / f"{page.replace('/', '-')}.toml"
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["question"]
    return [Question(page, **entry) for entry in entries]


def source_of(page: str) -> str:
    """Return the source of *page* as a reader sees it, with the signatures and docstrings that it shows."""
    texts = [_HIDDEN.sub("", (DOCS / f"{page}.md").read_text(encoding="utf-8"))]
    for shown in SHOWN.get(page, ()):
        members = [(name, member) for name, member in inspect.getmembers(shown) if not name.startswith("_")]
        for name, member in [(shown.__name__, shown), *members]:
            signature = inspect.signature(member) if inspect.isroutine(member) else ""
            texts.append(f"{name}{signature}: {inspect.getdoc(member)}")
    return "\n\n".join(texts)


def spaced(text: str) -> str:
    """Return *text* with single spaces between words."""
    return re.sub(r"\s+", " ", text).strip()


@cache
def text_of(page: str) -> str:
    """Return the source of *page* with single spaces between words."""
    return spaced(source_of(page))
