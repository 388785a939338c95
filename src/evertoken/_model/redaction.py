"""Removes secrets from text that others wrote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from evertoken._model.guarded import place_of
from evertoken._model.plain_text import HIDDEN, printable, without_query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["describe", "is_about_url", "named_secrets", "quoted", "quoted_url", "scrub"]

# The longest scrubbed text. It has room for the messages of a chain of sources.
_LONGEST: Final = 1000

# At most this many characters of a text are examined. Long secrets may come before the useful words.
_WINDOW: Final = 8192
# This many characters at the end are hidden if the text continues. A secret that is cut there has too few characters to
# be recognised, and each of them may be written as a dozen characters or more.
_MARGIN: Final = 256

# A JWT, or a run of at least sixteen token characters that contains both a digit and a letter (RFC 6750 section 2.1,
# but without the dots and slashes of hosts and paths).
_LOOKS_SECRET: Final = re.compile(
    r"eyJ[\w-]{5,}(?:\.[\w-]*)*|(?<![\w+~=-])(?=[\w+~=-]*\d)(?=[\w+~=-]*[A-Za-z])[\w+~=-]{16,}"
)
# Text that looks like a name or an id and not like a token, perhaps after "client_id=": a UUID (RFC 9562), also joined
# to others, and words and numbers between hyphens, such as the name of a deployment.
_NO_SECRET: Final = re.compile(
    r"(?:(?:client|app|tenant|key|request|trace|correlation)_id=|kid=)?"
    r"(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|(?:[a-z]{1,20}|[A-Z]{1,20}|\d{1,12})(?:[-_](?:[a-z]{1,20}|[A-Z]{1,20}|\d{1,12}|[a-z]{1,8}\d{1,3}))+)",
    re.ASCII,
)
# The text after a telling name with a colon or an equals sign (but not after a path that ends in /token), and the text
# after the name of a scheme.
_NAMED_SECRET: Final = re.compile(
    r"((?<!/)\b(?P<prose>[a-z]+ (?=token|assertion))?"
    r"\w*(?:token|secret|assertion|password|passwd|api[_-]?key|authorization)[\"']?\s*"
    r"[=:]\s*[\"']?(?:(?:bearer|basic|dpop)\s+)?|\b(?:bearer|basic|dpop)\s+)(?P<value>[^\s\"'&,;]+)",
    re.IGNORECASE,
)
# Words that may follow such a name in a sentence. They are never secrets.
_WORDS: Final = frozenset({
    "a", "absent", "access", "already", "an", "and", "are", "aud", "audience", "auth", "authentication",
    "authorization", "bad", "been", "blacklisted", "blocked", "cannot", "challenge", "challenges", "client",
    "could", "credential", "credentials", "deleted", "denied", "disabled", "does", "empty", "error", "errors",
    "expired", "failed", "file", "for", "from", "has", "have", "header", "headers", "inactive", "incorrect",
    "invalid", "is", "issuer", "it", "locked", "malformed", "mismatch", "missing", "must", "no", "none", "not",
    "null", "or", "proof", "proofs", "provided", "reached", "rejected", "required", "revoked", "scheme", "schemes",
    "should", "spent", "suspended", "the", "this", "token", "tokens", "type", "unauthorized", "undefined",
    "unknown", "unsupported", "unverified", "used", "was", "with", "wrong", "your",
})  # fmt: skip
_PLAIN_WORD: Final = re.compile(r"[A-Za-z]?[a-z]{1,19}[.!?:)]?", re.ASCII)


# User information of a URL, even if it contains an unquoted slash and so looks like a port.
_USER_INFO: Final = re.compile(
    r"://(?P<value>[^\s/?#@'\"<>]{1,300}|[^\s/?#@:'\"<>]{0,100}:(?!\d{1,5}(?:[/?#]|\Z))[^\s@'\"<>]{0,300})@"
)
# The message of URL parsers about such a port. A number is shown.
_ODD_PORT: Final = re.compile(
    r"\bport\b[^'\"\n]{0,60}(?P<quote>['\"])(?!\d*(?P=quote))(?P<value>[^'\"]+)", re.IGNORECASE
)
# These errors of HTTP libraries quote the part of a URL that they cannot read. It may be a password.
_ABOUT_URLS: Final = frozenset({
    "InvalidProxyURL", "InvalidURL", "InvalidUrlClientError", "InvalidUrlRedirectClientError", "LocationParseError",
})  # fmt: skip

# Names of fields whose values are secrets, and the least length of such values. Shorter ones are words of a sentence.
_OF_SECRETS: Final = re.compile(
    r"(?![\w-]*(?:details|type|use|method|mode|uri|url|key[_-]?id)\Z)"
    r"[\w-]*(?:assertion|auth|cookie|credential|key|pass|pwd|secret|session|token)[\w-]*",
    re.IGNORECASE,
)
_LEAST_NAMED: Final = 8

# A message repeats at most this many characters of a value.
_LONGEST_VALUE: Final = 60
_PLAIN_VALUE: Final = re.compile(r"[\w.-]*", re.ASCII)
# Python refuses to print very large numbers.
_LARGE: Final = 10**20


def scrub(text: str, secrets: Iterable[str | None] = (), /) -> str:
    """
    Return *text* as one line of at most 1,000 characters, without the given secrets and without text like secrets.

    Words, names and ids stay, because a person needs them to find the fault. A secret is found in all forms in which
    servers echo it: escaped for JSON, HTML, a URL or a form, in base64, in other case, wrapped over lines, and cut to
    its first or last eight characters or more. Only the first 8,192 characters of a text are examined.
    """
    from evertoken._model.spellings import occurrences, readings, sought  # noqa: PLC0415 - only needed for errors

    cut = len(text) > _WINDOW
    line = printable(text[:_WINDOW])
    known = [found for secret in {secret for secret in secrets if secret} for found in sought(secret)]
    hidden: list[tuple[int, int]] = []
    for reading in readings(line):
        hidden += (reading.span(start, end) for start, end in _telling(reading.text) if end > start)
        hidden += occurrences(reading, known, line)
    shown = _without(line, hidden, len(line) - _MARGIN if cut else len(line))
    if len(shown) > _LONGEST or cut:
        shown = f"{shown[: _LONGEST - 3]}..."
    return shown


def named_secrets(fields: Iterable[tuple[str, str]], /) -> list[str]:
    """Return the values of those *fields* of a form or a header whose names are typical for secrets."""
    return [value for name, value in fields if len(value) >= _LEAST_NAMED and _OF_SECRETS.fullmatch(name)]


def quoted(value: object, /) -> str:
    """
    Return *value*, which a user gave in the wrong place or form, in a form that a message may show.

    Plain names and numbers are shown, and the name of a function or class. Any other text may be a URL with a password,
    so only its length is shown.
    """
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < _LARGE):
        return repr(value)
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return f"{type(value).__name__} {name}"
    if not isinstance(value, str):
        return f"a value of type {type(value).__name__}"
    if len(value) <= _LONGEST_VALUE and _PLAIN_VALUE.fullmatch(value):
        return repr(scrub(value))
    return f"a text of {len(value)} characters that is not shown, as it may hold a secret"


def quoted_url(value: object, /) -> str:
    """Return *value*, which should have been another URL, in a form that a message may show."""
    shown = without_query(value) if isinstance(value, str) else HIDDEN
    # If a URL has an @ anywhere, another part of it may be a password.
    return quoted(value) if shown == HIDDEN or "@" in str(value) else repr(shown)


def _without(text: str, spans: list[tuple[int, int]], most: int) -> str:
    """Return the first *most* characters of *text*, with stars in place of *spans*."""
    kept: list[str] = []
    last = 0
    covered = -1
    for start, end in sorted(spans):
        if start >= most:
            break
        if start > covered:
            kept += (text[last:start], "***")
        last = covered = max(covered, end)
    return "".join([*kept, text[last:most]])


def _telling(text: str) -> Iterator[tuple[int, int]]:
    """Yield the places where *text* has something that looks like a secret, or that stands in the place of one."""
    for match in _NAMED_SECRET.finditer(text):
        if not _is_word(match):
            yield match.span("value")
    for match in _LOOKS_SECRET.finditer(text):
        if not _NO_SECRET.fullmatch(match[0]):
            yield match.span()
    for pattern in (_USER_INFO, _ODD_PORT):
        yield from (match.span("value") for match in pattern.finditer(text))


def _is_word(match: re.Match[str]) -> bool:
    """Tell whether the text after a telling name belongs to a sentence."""
    value: str = match["value"]
    if value.rstrip(".!?:)").lower() in _WORDS:
        return True
    # "Refresh token: gone" is a sentence, but "refresh_token: gone" is not.
    return bool(match["prose"]) and "=" not in match[1] and _PLAIN_WORD.fullmatch(value) is not None


def is_about_url(error: BaseException, /) -> bool:
    """
    Tell whether an HTTP library could not read a URL. Its message quotes a part of the URL, which may be a password.
    """
    return any(kind.__name__ in _ABOUT_URLS for kind in type(error).__mro__)


def describe(error: BaseException, secrets: Iterable[str | None] = (), /) -> str:
    """Return the class of *error*, its message without secrets, and the place where it was raised."""
    try:
        words = "" if is_about_url(error) else scrub(str(error), secrets)
    except Exception:  # noqa: BLE001 - an exception that cannot be printed must still be named
        words = ""
    place = place_of(error)
    at = "" if place is None else f" (at {place})"
    return f"{type(error).__qualname__}{': ' if words else ''}{words}{at}"
