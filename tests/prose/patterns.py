"""The kinds of sentences that readers stumble over, each named by its effect on a reader."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Pattern(NamedTuple):
    """
    One kind of sentence.

    Args:
        name: Its effect on a reader.

        regex: Finds it in one sentence.
    """

    name: str
    regex: re.Pattern[str]


#: `test_patterns.py` has examples of each.
PATTERNS: Final = (
    Pattern(
        "hides the subject in a clause at the start",
        # The same words may begin a question.
        re.compile(r"^(?:Who|Whoever|Whom|Whose|What|Whatever|Which|Whichever)\b(?!.*\?$)"),
    ),
    Pattern(
        "starts without saying what it is about",
        re.compile(r"^(?:One (?:that|who|which)|Those|Nor|Neither|Nobody|None|Of)\b"),
    ),
    Pattern(
        "puts the verb before the subject",
        re.compile(
            r"^(?:Only (?:then|now|here|so)|Never|Seldom|Rarely|Not (?:until|only|once)|Nowhere) "
            r"(?:is|are|was|were|do|does|did|has|have|had|can|may|must|will)\b"
            r"|^(?:Had|Were|Should) (?:it|they|the|a|an|this|that|one|nobody|somebody|anybody)\b(?!.*\?$)"
            r"|\bnor (?:is|are|was|were|do|does|did|has|have|had|can|may|must|will)\b"
        ),
    ),
    Pattern(
        "gives a reason as if it were a purpose",
        re.compile(
            r", for (?:it|they|we|he|the|a|an|that|this|these|there|nobody|nothing|what|some|many|callers|others|no)\b"
        ),
    ),
    Pattern(
        "does not say who must act",
        re.compile(r"\b(?:is|are|was|were) (?:not |never |still |yet )?to (?:be|have|go|come|wait|see|stay|stand)\b"),
    ),
    Pattern(
        "uses a clause where a noun would name the thing",
        re.compile(
            r"\b(?:whoever|whatever|whichever|that which"
            r"|what (?:is|are|was|were|came|comes|has|had|it|they)"
            # Behind the noun that it belongs to, as in "somebody who has logged in", the clause is plain.
            r"|(?:tells?|says?|knows?|shows?|for|to|by|of|from|and|or|if|where) who (?:is|has|asks|waits|holds))\b"
            r"|(?:^|[,;:] )who (?:is|has|asks|waits|holds)\b"
        ),
    ),
    Pattern(
        "uses a phrase that is old or rare",
        re.compile(
            r"\b(?:be it|all the same|at that(?= ?[.,;:]|$)|no more\b(?!(?: \w+)? than)|(?:is|are|was|were) none"
            r"|none is|of its own accord|as it were|as (?:\w+ ){1,2}(?:has|have) it|lest|whereupon|thereupon|therein"
            r"|thereof|whence|wherein|whereby|henceforth|albeit|notwithstanding|hitherto|forthwith|naught|save for"
            r"|by and by)\b"
        ),
    ),
)

_CODE: Final = re.compile(r"`[^`]*`")


def stumbles(sentence: str) -> list[str]:
    """Return the names of the patterns that *sentence* matches. Code between backticks counts as one unknown word."""
    sentence = _CODE.sub("CODE", sentence)
    return [pattern.name for pattern in PATTERNS if pattern.regex.search(sentence)]
