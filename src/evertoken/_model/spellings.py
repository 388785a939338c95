"""
Find the places where a text contains a secret, in any spelling.

Servers echo a secret as JSON, HTML, a URL or a form spells it, once or twice over, in base64, in another charset or
case, wrapped over lines, or cut short. So the text is unescaped step by step, and each step is compared with the
secret. Each character of an unescaped text knows its place in the original text.
"""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["ORDINARY", "Reading", "Sought", "occurrences", "readings", "sought"]

# A secret that is shorter than this is only found as a separate word.
_SHORT: Final = 4
# A part of a secret that is found at its start or its end has at least this many characters.
_PART: Final = 8
# Shorter runs of base64, hexadecimal digits or a secret without its spaces may occur anywhere by chance.
_LEAST: Final = 6
# How often a text is unescaped.
_DEPTH: Final = 3

_ESCAPE: Final = re.compile(
    r"(?P<percent>(?:%[0-9A-Fa-f]{2})+)"
    r"|(?P<unicode>(?:\\u[0-9A-Fa-f]{4})+)"
    r"|(?P<byte>(?:\\x[0-9A-Fa-f]{2})+)"
    r"|\\(?P<character>[\\/\"'])"
    r"|(?P<entity>&(?:\#[0-9]{1,10}|\#[xX][0-9A-Fa-f]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});?)"
)
# The characters that are compared: all but spaces, plus signs (spaces in a form) and the ends of lines.
_COMPARED: Final = re.compile(r"[^\s+]+")
_URLSAFE: Final = str.maketrans("+/", "-_")
_OF_BASE64: Final = re.compile(r"[A-Za-z0-9+/_%-]*={0,2}")
_BEFORE_BASE64: Final = re.compile(r"[A-Za-z0-9+/_%-]*")

# Words at the start or end of secrets that people make up. Sentences about errors contain them too.
ORDINARY: Final = frozenset({
    "access_token", "algorithm", "application", "assertion", "audience", "authenticate", "authenticated",
    "authentication", "authorization", "authorized", "certificate", "client_id", "client_secret", "configuration",
    "configured", "connection", "credential", "credentials", "database", "description", "development", "endpoint",
    "environment", "expected", "expiration", "forbidden", "identifier", "identity", "incorrect",
    "internal", "mismatch", "parameter", "parameters", "passphrase", "password", "permission", "production", "provided",
    "provider", "received", "refresh_token", "requested", "required", "resource", "response", "security", "signature",
    "temporarily", "unauthorized", "unavailable", "unexpected", "username",
})  # fmt: skip


class Reading(NamedTuple):
    """
    A text after a number of unescaping steps.

    Args:
        text: The unescaped text.

        starts: The place in the original text where each character starts.

        ends: The place in the original text where each character ends.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def span(self, start: int, end: int, /) -> tuple[int, int]:
        """Return the place in the original text of the characters from *start* to before *end*."""
        return self.starts[start], self.ends[end - 1]


class Sought(NamedTuple):
    """
    A secret, in the forms in which it is searched.

    Args:
        secret: The secret itself.

        plain: The secret in the form in which texts are compared.

        head: The shortest start of the secret that is recognised, in the same form.

        tail: The shortest end of the secret that is recognised, in the same form.

        encoded: The secret in base64 and hexadecimal digits, in the same form.
    """

    secret: str
    plain: str
    head: str
    tail: str
    encoded: tuple[str, ...]


def readings(text: str, /) -> Iterator[Reading]:
    """Yield *text* as it is, and unescaped one to three times, as long as that changes it."""
    reading = Reading(text, range(len(text)), range(1, len(text) + 1))
    yield reading
    for _ in range(_DEPTH):
        once = _unescaped(reading)
        if once.text == reading.text:
            return
        reading = once
        yield reading


def sought(secret: str, /) -> Iterator[Sought]:
    """Yield the forms of *secret* to look for. A secret with escapes is unescaped together with the text."""
    for number, reading in enumerate(readings(secret)):
        found = _sought(reading.text)
        if number == 0 or len(found.plain) >= _SHORT:
            yield found
    for garbled in _garbled(secret):
        yield _sought(garbled)


def _garbled(secret: str) -> set[str]:
    """Return *secret* as it reads if its charset was taken for another, or lacks some of its characters."""
    if secret.isascii():
        return set()
    octets = secret.encode(errors="surrogatepass")
    found = {octets.decode("latin-1"), octets.decode("cp1252", "replace")}
    # A secret of signs alone would be found in many sentences.
    if sum(character.isascii() and character.isalnum() for character in secret) >= _SHORT:
        found |= {secret.encode("ascii", "replace").decode(), octets.decode("ascii", "replace")}
        found |= {secret.encode(charset, "replace").decode(errors="replace") for charset in ("latin-1", "cp1252")}
    return found


def _sought(secret: str) -> Sought:
    plain = _plain(secret)
    encoded = () if len(plain) < _SHORT else tuple(_encoded(secret))
    # A part may be a little shorter, because spaces do not count.
    head, tail = _plain(secret[:_PART]), _plain(secret[-_PART:])
    if plain.startswith(("http://", "https://")):
        # Every other URL starts in the same way.
        head = plain
    return Sought(
        secret,
        plain,
        head if len(head) >= _LEAST else plain[:_PART],
        tail if len(tail) >= _LEAST else plain[-_PART:],
        encoded,
    )


def occurrences(reading: Reading, secrets: Iterable[Sought], whole: str, /) -> Iterator[tuple[int, int]]:
    """
    Yield the places where *whole*, read as *reading*, contains one of *secrets* or a good part of it.

    A secret of fewer than four characters is only found as a separate word, because most words have such letters.
    """
    compared = _compared(reading)
    for secret, plain, head, tail, encoded in secrets:
        if len(plain) < _SHORT:
            for match in re.finditer(_alone(secret), reading.text):
                yield reading.span(*match.span())
            continue
        for start, end, complete in _parts(compared.text, plain, head, tail):
            span = compared.span(start, end)
            if not _is_inside_word(whole, *span, plain) and (complete or not _is_ordinary(whole, *span)):
                yield span
        for one in encoded:
            done = 0
            for start, end, _ in _parts(compared.text, one, one[:_PART], one[-_PART:]):
                first, last = compared.span(start, end)
                if last > done:
                    # The rest of the run belongs to the pair of name and secret that was encoded together.
                    first -= _run(_BEFORE_BASE64, whole[first - 1 :: -1] if first else "")
                    done = last + _run(_OF_BASE64, whole[last:])
                    yield first, done


def _run(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.match(text)
    return 0 if match is None else match.end()


def _alone(secret: str) -> str:
    # A secret that ends with a sign may touch any character. A single sign may not, because it is in most sentences.
    before, after = (len(secret) == 1 or edge.isalnum() for edge in (secret[0], secret[-1]))
    spelled = re.escape(secret).replace("\\ ", "[ +]")
    return (r"(?<![^\W_])" if before else "") + spelled + (r"(?![^\W_])" if after else "")


def _unescaped(reading: Reading) -> Reading:
    text, starts, ends = reading
    read: list[str] = []
    begins: list[int] = []
    stops: list[int] = []
    last = 0
    for match in _ESCAPE.finditer(text):
        at = match.start()
        read.append(text[last:at])
        begins += starts[last:at]
        stops += ends[last:at]
        for character, first, end in _characters(match):
            read.append(character)
            begins.append(starts[at + first])
            stops.append(ends[at + end - 1])
        last = match.end()
    read.append(text[last:])
    begins += starts[last:]
    stops += ends[last:]
    return Reading("".join(read), begins, stops)


def _characters(match: re.Match[str]) -> Iterator[tuple[str, int, int]]:
    """Yield the characters that an escape stands for, each with its part of the escape."""
    kind, whole = match.lastgroup, match[0]
    if kind == "entity":
        # Some entities stand for two characters. A text that is not an entity stands for itself.
        text = html.unescape(whole)
        own = text == whole
        yield from ((one, at if own else 0, at + 1 if own else len(whole)) for at, one in enumerate(text))
        return
    if kind == "character":
        yield match["character"], 0, len(whole)
        return
    if kind == "unicode":
        text = bytes.fromhex(whole.replace("\\u", "")).decode("utf-16-be", "surrogatepass")
        width, encoding = 6, "utf-16-be"
    else:
        width = 3 if kind == "percent" else 4
        octets = bytes.fromhex(whole.replace("%" if kind == "percent" else "\\x", ""))
        try:
            text, encoding = octets.decode(), "utf-8"
        except UnicodeDecodeError:
            text, encoding = octets.decode("latin-1"), "latin-1"
    unit = 2 if kind == "unicode" else 1
    at = 0
    for character in text:
        end = at + width * (len(character.encode(encoding, "surrogatepass")) // unit)
        yield character, at, end
        at = end


def _compared(reading: Reading) -> Reading:
    """Return *reading* in lower case, without characters that may be inserted or lost on the way."""
    text, starts, ends = reading
    read: list[str] = []
    begins: list[int] = []
    stops: list[int] = []
    for match in _COMPARED.finditer(text):
        start, end = match.span()
        part = match[0]
        if part.isascii() and part.isprintable():
            read.append(part.lower())
            begins += starts[start:end]
            stops += ends[start:end]
            continue
        for at, character in enumerate(part, start):
            if character.isprintable():
                # Some letters become two in the other case, such as the German sharp s.
                folded = character.casefold()
                read.append(folded)
                begins += [*starts[at : at + 1]] * len(folded)
                stops += [*ends[at : at + 1]] * len(folded)
    return Reading("".join(read), begins, stops)


def _parts(text: str, secret: str, head: str, tail: str) -> Iterator[tuple[int, int, bool]]:
    """
    Yield the places where *text* has *secret*, or a part with its *head* or *tail*, and whether it is the whole secret.
    """
    size = len(secret)
    at = text.find(head)
    while at >= 0:
        end = at + _common(text[at : at + size], secret)
        yield at, end, end - at == size
        at = text.find(head, end)
    at, floor = text.find(tail), 0
    while at >= 0:
        end = at + len(tail)
        first = end - _common(text[max(floor, end - size) : end][::-1], secret[::-1])
        yield first, end, end - first == size
        at, floor = text.find(tail, end), end


def _common(one: str, other: str) -> int:
    """Return the length of the common start of both texts."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _is_inside_word(text: str, start: int, end: int, secret: str) -> bool:
    """Tell whether a short secret of letters alone, such as "read", is in the middle of a word by chance."""
    letters = secret.isalpha() and len(secret) < _PART
    return letters and text[max(start - 1, 0) : start].isalpha() and text[end : end + 1].isalpha()


def _is_ordinary(text: str, start: int, end: int) -> bool:
    """Tell whether a part of a secret is a separate word of an ordinary sentence."""
    said = text[start:end].lower()
    if said in {"http://", "https://"}:
        return True
    alone = not text[max(start - 1, 0) : start].isalnum() and not text[end : end + 1].isalnum()
    return alone and said.rstrip(".,:!? ") in ORDINARY


def _encoded(secret: str) -> set[str]:
    """Return *secret* in hexadecimal digits and in base64, alone and as the end or the middle of a longer text."""
    plain = secret.encode(errors="surrogatepass")
    quoted = quote(secret, safe="", errors="surrogatepass"), quote_plus(secret, errors="surrogatepass")
    found = {plain.hex()}
    for octets in {plain, *(one.encode() for one in quoted), json.dumps(secret)[1:-1].encode()}:
        for before in range(3):
            # The text before and after shares bits with the first and the last character.
            bits = 8 * before
            whole = base64.b64encode(b"\0" * before + octets).decode()
            core = whole[-(-bits // 6) : (bits + 8 * len(octets)) // 6]
            found |= {core, core.translate(_URLSAFE)}
    return {compared for one in found if len(compared := _plain(one)) >= _LEAST}


def _plain(secret: str) -> str:
    return _compared(Reading(secret, (), ())).text
