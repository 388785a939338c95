"""The glossary has the words that readers bring, and those that this documentation uses."""

from __future__ import annotations

import re

from tests.docs.files import ROOT

PAGE = "glossary.md"
OURS = [
    "token",
    "source",
    "fetch",
    "flight",
    "policy",
    "supervisor",
    "session",
    "store",
    "record",
    "lease",
    "fence",
    "mark",
    "tombstone",
    "key",
    "identity",
    "provider",
    "lead",
    "cool-down",
    "refused",
    "rejected",
    "revoked",
]
THEIRS = ("leeway", "skew", "buffer", "early expiry", "expiry delta", "refresh-ahead", "single-flight")


def terms() -> list[str]:
    text = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")
    glossaries = re.findall(r"^```\{glossary\}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"^(\w[^\n]*)\n  \S", "\n".join(glossaries), re.MULTILINE)


def test_words():
    """A reader finds each word of ours, and each word that another library uses for the same thing."""
    found = terms()
    assert len(found) == len(set(found))
    assert {*OURS, *THEIRS} <= set(found)
