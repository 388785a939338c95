"""Makes text from others fit for messages: one line of limited length, without invisible characters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["HIDDEN", "one_line", "printable", "public_uri", "readable", "without_query"]

# A message shows at most this many characters of an address.
_LONGEST_URL: Final = 500
#: Shown in place of a URL that cannot be read.
HIDDEN: Final = "..."

# Characters without width that Python counts as printable: fillers, joiners and variation selectors
# (Default_Ignorable_Code_Point of the Unicode Character Database, and the empty Braille pattern).
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# An error page may have a number, as those of Microsoft Entra have. Other parts of a query may be a token.
_NUMBERED: Final = re.compile(r"code=\d{1,10}", re.ASCII)
_URI: Final = re.compile(r"https?://[!-~]+", re.IGNORECASE)


def printable(text: str, /) -> str:
    """
    Return *text* as one line with the same words.

    Line ends, tabs and unusual spaces become spaces. Control characters, direction overrides, surrogates and characters
    without width are removed.
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
    """Return the parts of *url*, or None if they cannot be told apart for certain."""
    from urllib.parse import urlsplit  # noqa: PLC0415 - slow to import, and only needed for errors

    if not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not parts.scheme or not host:
        return None
    # Two addresses were joined: the host is itself a URL, or lacks the colon after its scheme.
    doubled = parts.netloc.endswith(":") or (parts.path.startswith("//") and re.search("[@:]", parts.path))
    # An unquoted slash or question mark ends a password early, so that the start of the password looks like a port.
    after = parts.path or parts.query
    named = "." in host or ":" in host or host == "localhost"
    return None if doubled or (port is not None and "@" in after and not named) else parts


def without_query(url: str, /) -> str:
    """
    Return *url* in a form that may be shown: without user information, query, fragment and path parameters.

    All of these may contain a password or a key. If the parts cannot be told apart for certain, nothing is shown.
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
    Return *uri*, a page about an error that a server names, in a form that may be shown.

    Only the number of the error stays in its query, because the rest may be a token. The result is None if *uri* is not
    an http or https URL.
    """
    if not isinstance(uri, str) or not _URI.match(uri):
        return None
    start = "".join(printable(uri[: 2 * _LONGEST_URL]).split())
    parts = readable(start)
    if parts is None:
        return None
    page = without_query(start)
    return f"{page}?{parts.query}" if _NUMBERED.fullmatch(parts.query) else page
