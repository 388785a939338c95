"""Taking secrets out of text that others wrote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["describe", "scrub"]

# Room for what a chain of sources says of each.
_LONGEST: Final = 1000

# A JWT, or a run of at least sixteen token characters (RFC 6750 section 2.1, without the dots and slashes of hosts
# and paths) that has both a digit and a letter.
_LOOKS_SECRET: Final = re.compile(
    r"eyJ[\w-]{5,}(?:\.[\w-]*)*|(?<![\w+~=-])(?=[\w+~=-]*\d)(?=[\w+~=-]*[A-Za-z])[\w+~=-]{16,}"
)
# What stands after a telling name and a colon or an equals sign (but not after a path that ends in /token), and what
# stands after the name of a scheme.
_NAMED_SECRET: Final = re.compile(
    r"((?<!/)\b\w*(?:token|secret|assertion|password|passwd|api[_-]?key|authorization)[\"']?\s*[=:]\s*[\"']?"
    r"(?:(?:bearer|basic|dpop)\s+)?|\b(?:bearer|basic|dpop)\s+)([^\s\"'&,;]+)",
    re.IGNORECASE,
)


def scrub(text: str, secrets: Iterable[str | None] = (), /) -> str:
    """Return *text* without the given secrets and without what looks like one, in at most 1,000 characters."""
    spelled = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
    for secret in sorted(spelled, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _NAMED_SECRET.sub(r"\1***", text)
    text = _LOOKS_SECRET.sub("***", text)
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def describe(error: BaseException, secrets: Iterable[str | None] = (), /) -> str:
    """Return the class of *error*, its scrubbed words and the place it was raised at: enough to find it by."""
    try:
        words = scrub(str(error), secrets)
    except Exception:  # noqa: BLE001 - an exception that cannot be printed is still to be named
        words = ""
    place = ""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is not None:
        code = frame.tb_frame.f_code
        filename = code.co_filename.replace("\\", "/").rsplit("/", 1)[-1]
        place = f" (at {filename}:{frame.tb_lineno} in {code.co_name})"
    return f"{type(error).__qualname__}{': ' if words else ''}{words}{place}"


def _spellings(secret: str) -> tuple[str, ...]:
    from urllib.parse import quote, quote_plus  # noqa: PLC0415 - for errors alone

    # As it is, and as a URL and a form spell it: servers echo what they were sent. And as Python spells it, for
    # clients quote the header field that they will not send.
    shown = repr(secret)[1:-1], repr(secret.encode(errors="surrogatepass"))[2:-1]
    return secret, quote(secret, safe="", errors="surrogatepass"), quote_plus(secret, errors="surrogatepass"), *shown
