"""The kinds of sentences that readers stumble over, each with a name that says what it does to a reader."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Pattern(NamedTuple):
    """
    One kind of sentence.

    Args:
        name: What it does to a reader.

        regex: Finds it in one sentence.
    """

    name: str
    regex: re.Pattern[str]


PATTERNS: Final = (
    Pattern(
        # "Whoever reads it waits." The same words may begin a question.
        "hides the subject in a clause at the start",
        re.compile(r"^(?:Who|Whoever|Whom|Whose|What|Whatever|Which|Whichever)\b(?!.*\?$)"),
    ),
    Pattern(
        # "Nor does it close." "Those that fail end it." "Of these, one is kept."
        "starts without saying what it is about",
        re.compile(r"^(?:One (?:that|who|which)|Those|Nor|Neither|Nobody|None|Of)\b"),
    ),
    Pattern(
        # "Only then does it close." "Had it failed, ..." "A second one waits, and so does the third."
        "puts the verb before the subject",
        re.compile(
            r"^(?:Only (?:then|now|here|so)|Never|Seldom|Rarely|Not (?:until|only|once)|Nowhere) "
            r"(?:is|are|was|were|do|does|did|has|have|had|can|may|must|will)\b"
            r"|^(?:Had|Were|Should) (?:it|they|the|a|an|this|that|one|nobody|somebody|anybody)\b(?!.*\?$)"
            r"|\b(?:nor|neither) (?:is|are|was|were|do|does|did|has|have|had|can|may|must|will)\b"
        ),
    ),
    Pattern(
        # "It waits, for the store is down." A reader expects a purpose: "a token for the store".
        "gives a reason as if it were a purpose",
        re.compile(
            r", for (?:it|they|we|he|the|a|an|that|this|these|there|nobody|nothing|what|some|many|callers|others"
            r"|each|every|no)\b"
        ),
    ),
    Pattern(
        # "The lock is to be held." Who must hold it?
        "does not say who must act",
        re.compile(r"\b(?:is|are|was|were) (?:not |never |still |yet )?to (?:be|have|go|come|wait|see|stay|stand)\b"),
    ),
    Pattern(
        # "It keeps what is left." What is it that is left?
        "uses a clause where a noun would name the thing",
        re.compile(
            r"\b(?:whoever|whatever|whichever|what (?:is|are|was|were|came|comes|has|had|it|they)"
            r"|who (?:is|has|asks|waits|holds)|that which)\b"
        ),
    ),
    Pattern(
        # "There is none." "It closes of its own accord." "As Auth0 has it."
        "uses a phrase that is old or rare",
        re.compile(
            r"\b(?:be it|all the same|at that|no more\b(?! than)|(?:is|are|was|were) none|none is|of its own accord"
            r"|as it were|as (?:\w+ ){1,2}(?:has|have) it|lest|whereupon|thereupon|therein|thereof|whence|wherein"
            r"|whereby|henceforth|albeit|notwithstanding|hitherto|forthwith|naught|save for|by and by)\b"
        ),
    ),
)


def stumbles(sentence: str) -> list[str]:
    """Return the names of the patterns that *sentence* matches."""
    return [pattern.name for pattern in PATTERNS if pattern.regex.search(sentence)]
