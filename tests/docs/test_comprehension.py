"""
A reader of one page finds the answers to five factual questions on it.

People answer the questions, with `python -m tests.docs.comprehension PAGE`. These tests keep question, page and code
together: an answer stays on its page, and stays true.
"""

from __future__ import annotations

import importlib
import inspect

import pytest
from tests.docs.comprehension.questions import FOLDER, Question, pages, questions, spaced, text_of

import evertoken

ALL = [question for page in pages() for question in questions(page)]


def name(question: Question) -> str:
    """Return a name for the test of *question*."""
    return f"{question.page}: {question.ask}"


def test_every_page_has_five_questions():
    """Each guide, each page of explanation and the manager's reference is asked about, and no page that is gone."""
    assert {page: len({one.ask for one in questions(page)}) for page in pages()} == dict.fromkeys(pages(), 5)
    assert {path.stem for path in FOLDER.glob("*.toml")} == {page.replace("/", "-") for page in pages()}


@pytest.mark.parametrize("question", ALL, ids=name)
def test_the_page_has_the_answer(question: Question):
    """The passage that answers a question stands on its page."""
    assert spaced(question.says) in text_of(question.page)


@pytest.mark.parametrize("question", [one for one in ALL if one.holds], ids=name)
def test_the_answer_is_true(question: Question):
    """The answer is true of the code."""
    names = {"evertoken": evertoken, "importlib": importlib, "inspect": inspect}
    assert eval(question.holds, names)
