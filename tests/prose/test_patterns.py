"""The patterns find the sentences that they are meant for, and leave plain ones alone; each hit has its line."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

import pytest
from tests.prose.patterns import PATTERNS, stumbles
from tests.prose.sentences import Sentence, of_comments, of_docstrings, of_messages, of_page

HARD = {
    "hides the subject in a clause at the start": [
        "Whoever holds the lease fetches.",
        "What a fetch returned stays in memory.",
        "Who asks in the meantime waits with the others.",
        "Which of them wins is left to the store.",
    ],
    "starts without saying what it is about": [
        "Nobody waits for it.",
        "One that was spent is never sent again.",
        "Those that fail are tried again.",
        "Of these, the first one counts.",
        "Neither suspends.",
    ],
    "puts the verb before the subject": [
        "Only then does the manager close.",
        "Never is a spent token sent.",
        "Had the store failed, the token would stay in memory.",
        "It sends no token, nor does it read one.",
    ],
    "gives a reason as if it were a purpose": [
        "The caller waits, for the store is down.",
        "It is not sent, for nobody could answer.",
    ],
    "does not say who must act": [
        "The lock is not to be held across a fetch.",
        "Callers are to wait.",
    ],
    "uses a clause where a noun would name the thing": [
        "The store returns what was written.",
        "It serves whoever comes first.",
        "The manager tells who holds the lease.",
        "In a fleet, who holds the lease fetches.",
    ],
    "uses a phrase that is old or rare": [
        "It reads the record, of which there is none.",
        "The supervisor starts again of its own accord.",
        "The token is valid all the same.",
        "A fresh token, and a long one at that.",
        "It is sent no more.",
        "The endpoint is elsewhere, as Intuit has it.",
    ],
}

PLAIN = [
    "Callers that need a new token at the same time share one fetch.",
    "The manager closes after its last caller, because each caller may still need a token.",
    "If the store is down, the manager returns the token from memory.",
    "What does the server answer after a revocation?",
    "Which store should I use?",
    "The token is good for an hour, and for this server only.",
    "A refresh takes no more than two round trips.",
    "Two keys take no more room than one.",
    "The token is valid at that moment.",
    "The token belongs to a person who has logged in.",
    "`None` means that no lifetime is known.",
    "The next attempt starts in ten seconds.",
    "The file is never to blame.",
    "Only the holder of the lease may write.",
    "Should I keep the token?",
]


def test_every_pattern_has_sentences_that_it_must_find():
    """A pattern without an example would be untested."""
    assert set(HARD) == {pattern.name for pattern in PATTERNS}


@pytest.mark.parametrize(("name", "sentence"), [(name, text) for name, texts in HARD.items() for text in texts])
def test_hard_sentences_are_found(name, sentence):
    """Each example matches its pattern."""
    assert name in stumbles(sentence)


@pytest.mark.parametrize("sentence", PLAIN)
def test_plain_sentences_are_left_alone(sentence):
    """Plain sentences match no pattern, also if they share words with hard ones."""
    assert stumbles(sentence) == []


PAGE = """
    # What is it?

    The first sentence. What is second, in *two*
    lines, counts once.

    ```python
    # Whoever reads code is not checked.
    ```

    | what is in a table | is no sentence |
    | --- | --- |

    - An item with `None` of it.
    - [Whoever links](somewhere.md) is checked.

    :::{note}
    A note has sentences.
    :::

    <!-- Whatever is hidden, is not read. -->
    """

MODULE = '''
    """The first docstring. It has two."""

    # Two lines of
    # one comment.
    value = 1  # a third comment


    def function():
        """
        First line.

        Args:
            name: What is explained.
        """
        raise ValueError(f"the name {value} is not known")  # noqa: EM102 - it is short
    '''


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (
            of_page,
            PAGE,
            [
                (4, "The first sentence."),
                (4, "What is second, in two lines, counts once."),
                (14, "An item with `None` of it."),
                (15, "Whoever links is checked."),
                (18, "A note has sentences."),
            ],
        ),
        (
            of_docstrings,
            MODULE,
            [(2, "The first docstring."), (2, "It has two."), (14, "What is explained.")],
        ),
        (of_comments, MODULE, [(4, "Two lines of one comment."), (6, "a third comment"), (16, "it is short")]),
        (of_messages, MODULE, [(16, "the name {} is not known")]),
    ],
)
def test_sentences_are_found_with_their_lines(
    read: Callable[[str], Iterator[Sentence]], text: str, expected: list[tuple[int, str]]
):
    """Markup, code, tables and comments for tools are left out, and the lines are those of the file."""
    assert [(found.line, found.text) for found in read(textwrap.dedent(text))] == expected
