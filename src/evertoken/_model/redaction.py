"""Taking secrets out of text that others wrote."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from evertoken._model.guarded import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["describe", "scrub"]

# Shorter secrets than this are taken out where they stand alone.
_SHORT: Final = 4

# Room for what a chain of sources says of each.
_LONGEST: Final = 1000

# A JWT, or a run of at least sixteen token characters (RFC 6750 section 2.1, without the dots and slashes of hosts
# and paths) that has both a digit and a letter.
_LOOKS_SECRET: Final = re.compile(
    r"eyJ[\w-]{5,}(?:\.[\w-]*)*|(?<![\w+~=-])(?=[\w+~=-]*\d)(?=[\w+~=-]*[A-Za-z])[\w+~=-]{16,}"
)
# What has the form of a name or an id, and not of a token: a UUID (RFC 9562), with what joins it to others, and
# words and numbers between hyphens, such as the name of a deployment.
_NO_SECRET: Final = re.compile(
    r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|(?:[a-z]{1,20}|[A-Z]{1,20}|\d{1,12})(?:[-_](?:[a-z]{1,20}|[A-Z]{1,20}|\d{1,12}|[a-z]{1,8}\d{1,3}))+",
    re.ASCII,
)
# What stands after a telling name and a colon or an equals sign (but not after a path that ends in /token), and what
# stands after the name of a scheme.
_NAMED_SECRET: Final = re.compile(
    r"((?<!/)\b(?P<prose>[a-z]+ (?=token|assertion))?"
    r"\w*(?:token|secret|assertion|password|passwd|api[_-]?key|authorization)[\"']?\s*"
    r"[=:]\s*[\"']?(?:(?:bearer|basic|dpop)\s+)?|\b(?:bearer|basic|dpop)\s+)(?P<value>[^\s\"'&,;]+)",
    re.IGNORECASE,
)
# What follows such a name in a sentence. No secret is one of these.
_WORDS: Final = frozenset({
    "a", "absent", "access", "already", "an", "and", "are", "auth", "authentication", "authorization", "bad",
    "been", "blacklisted", "blocked", "cannot", "challenge", "challenges", "client", "could", "credential",
    "credentials", "deleted", "denied", "disabled", "does", "empty", "error", "errors", "expired", "failed",
    "file", "for", "from", "has", "have", "header", "headers", "inactive", "invalid", "is", "it", "locked",
    "malformed", "mismatch", "missing", "must", "no", "none", "not", "null", "or", "proof", "proofs",
    "provided", "reached", "rejected", "required", "revoked", "scheme", "schemes", "should", "spent",
    "suspended", "the", "this", "token", "tokens", "type", "unauthorized", "undefined", "unknown",
    "unsupported", "unverified", "used", "was", "with", "wrong", "your",
})  # fmt: skip
_PLAIN_WORD: Final = re.compile(r"[A-Za-z]?[a-z]{1,19}[.!?:)]?", re.ASCII)


def scrub(text: str, secrets: Iterable[str | None] = (), /) -> str:
    """
    Return *text* without the given secrets and without what looks like one, in at most 1,000 characters.

    Words, names and ids stay: a person needs them to find out what is wrong.
    """
    spelled = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
    for secret in sorted(spelled, key=len, reverse=True):
        text = text.replace(secret, "***") if len(secret) >= _SHORT else _without_word(text, secret)
    text = _NAMED_SECRET.sub(_without_value, text)
    text = _LOOKS_SECRET.sub(lambda match: match[0] if _NO_SECRET.fullmatch(match[0]) else "***", text)
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _without_word(text: str, secret: str) -> str:
    # One or two letters stand in most words, which would be told as stars.
    return re.sub(rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])", "***", text)


def _without_value(match: re.Match[str]) -> str:
    value: str = match["value"]
    word = value.rstrip(".!?:)").lower() in _WORDS
    # "Refresh token: gone" is a sentence, and "refresh_token: gone" is not.
    sentence = bool(match["prose"]) and "=" not in match[1] and _PLAIN_WORD.fullmatch(value)
    return match[0] if word or sentence else f"{match[1]}***"


def describe(error: BaseException, secrets: Iterable[str | None] = (), /) -> str:
    """Return the class of *error*, its scrubbed words and the place it was raised at: enough to find it by."""
    try:
        words = scrub(str(error), secrets)
    except Exception:  # noqa: BLE001 - an exception that cannot be printed is still to be named
        words = ""
    place = place_of(error)
    at = "" if place is None else f" (at {place})"
    return f"{type(error).__qualname__}{': ' if words else ''}{words}{at}"


def _spellings(secret: str) -> tuple[str, ...]:
    from urllib.parse import quote, quote_plus  # noqa: PLC0415 - for errors alone

    # As it is, and as a URL, a form, JSON and markup spell it: servers echo what they were sent. And as Python spells
    # it, for clients quote the header field that they will not send.
    shown = repr(secret)[1:-1], repr(secret.encode(errors="surrogatepass"))[2:-1]
    quoted = quote(secret, safe="", errors="surrogatepass"), quote_plus(secret, errors="surrogatepass")
    written = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]
    marked = secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    quotes = marked.replace('"', "&quot;"), marked.replace('"', "&quot;").replace("'", "&#x27;")
    return secret, *quoted, *shown, *written, written[0].replace("/", "\\/"), marked, *quotes
