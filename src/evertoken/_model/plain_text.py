"""What others wrote, made fit to be shown: one line, without what is not seen, of a bounded length."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["HIDDEN", "one_line", "printable", "public_uri", "readable", "without_query"]

# More of an address than this is not repeated in a message, in characters.
_LONGEST_URL: Final = 500
#: What is shown of a URL that cannot be read.
HIDDEN: Final = "..."

# Characters that have no width, although Python counts them as printable: fillers, joiners and variation selectors
# (Default_Ignorable_Code_Point of the Unicode Character Database, and the empty Braille pattern).
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# An error page may have a number, as those of Microsoft Entra have. Anything else in a query may be a token.
_NUMBERED: Final = re.compile(r"code=\d{1,10}", re.ASCII)
_URI: Final = re.compile(r"https?://[!-~]+", re.IGNORECASE)


def printable(text: str, /) -> str:
    """
    Return *text* as one line, with as many words as before.

    Line ends, tabs and unusual spaces become spaces. Control characters, direction overrides, surrogates and what has
    no width are left out.
    """
    if text.isascii() and text.isprintable():
        return text
    kept = (character if character.isprintable() else " " if character.isspace() else "" for character in text)
    return _UNSEEN.sub("", "".join(kept))


def one_line(text: object, most: int, /) -> str:
    """Return *text* as one line of at most *most* characters."""
    said = str(text)
    line = printable(said[:most])
    return line if len(said) <= most else f"{line[: most - 3]}..."


def readable(url: str, /) -> SplitResult | None:
    """Return the parts of *url* if it is plain what each of them is; None otherwise."""
    from urllib.parse import urlsplit  # noqa: PLC0415 - slow to import, and for errors alone

    if not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not parts.scheme or not host:
        return None
    # Two addresses in one: what was given as a host is a URL, or has lost the colon of its scheme.
    doubled = parts.netloc.endswith(":") or (parts.path.startswith("//") and re.search("[@:]", parts.path))
    # A slash or question mark that is not quoted ends a password early: what stands before it is taken for the port.
    after = parts.path or parts.query
    named = "." in host or ":" in host or host == "localhost"
    return None if doubled or (port is not None and "@" in after and not named) else parts


def without_query(url: str, /) -> str:
    """
    Return *url* as it may be shown: without user information, query, fragment and parameters of the path.

    All of these may hold a password or a key. Where it is not plain which part is which, nothing of it is shown.
    """
    parts = readable(url)
    if parts is None:
        return HIDDEN
    host = parts.netloc.rpartition("@")[2]
    # A path with an @ may be the rest of a password.
    path = "/..." if "@" in parts.path else re.sub(r";[^/]*", "", parts.path)
    return one_line(f"{parts.scheme}://{host}{path}", _LONGEST_URL)


def public_uri(uri: object, /) -> str | None:
    """
    Return *uri*, a page about an error that a server names, as it may be shown; None if it is no http or https URL.

    Of its query only the number of the error stays: the rest may be a token.
    """
    if not isinstance(uri, str) or not _URI.match(uri):
        return None
    start = "".join(printable(uri[: 2 * _LONGEST_URL]).split())
    parts = readable(start)
    if parts is None:
        return None
    page = without_query(start)
    return f"{page}?{parts.query}" if _NUMBERED.fullmatch(parts.query) else page
