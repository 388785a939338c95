"""
Read an error answer of any shape: its code, its description, and the ids that the server's support asks for.

RFC 6749 section 5.2 puts the code into `error` and the description into `error_description`. Servers, and the gateways
in front of them, also send objects in `error`, lists of errors, problem details (RFC 9457), and other field names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from evertoken._model.plain_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["at", "codes_in", "is_number", "read_words", "standard_code"]

# Limits of the search: how deep it goes, and how many members of each level it looks at.
_DEEPEST: Final = 4
_MOST: Final = 32
# A message repeats at most this many characters of the server's words.
_LONGEST: Final = 600
# A message shows this many texts of one answer. Servers that list errors often list a single one.
_TEXTS: Final = 3
_LONGEST_ID: Final = 100
# Limits of one object: how many members are looked at, besides the names of RFC 6749, and how many ids are shown.
_MEMBERS: Final = 200
_MOST_IDS: Final = 10
# This many texts of an answer are examined. Most of them repeat an earlier one.
_TRIED: Final = 10
# The code is looked for in this many characters at the start of a text.
_START: Final = 1000
# Codes and ids are smaller than this number.
_LARGE: Final = 10**20

# Names of members in lower case, without separators: first those for codes, then for words. The best names come first.
_CODES: Final = ("error", "errorcode", "code", "errortype", "type", "status", "reason")
_WORDS: Final = (
    "errordescription", "errormessage", "errorsummary", "errormsg", "detail", "message", "msg", "details",
    "description", "faultstring", "developermessage", "usermessage", "reason", "text", "title", "error",
)  # fmt: skip
# Microsoft, Google and gateways put further details into these members.
_IDS: Final = (
    "suberror", "errorsubtype", "errorcodes", "traceid", "correlationid", "requestid", "debugid", "trackingid",
    "errorid",
)  # fmt: skip

# The names of RFC 6749 section 5.2.
_RFC: Final = ("error", "error_description")

_STANDARD: Final = (
    "consent_required", "interaction_required", "invalid_client", "invalid_grant", "invalid_scope", "invalid_target",
    "login_required", "unauthorized_client", "unsupported_grant_type",
)  # fmt: skip
# Other software uses these codes for other purposes, so they count only as an exact error code.
_COMMON: Final = ("access_denied", "invalid_request")
_IN_WORDS: Final = re.compile(rf"\s*\W?({'|'.join(_STANDARD)})\b", re.IGNORECASE)
_IN_CODE: Final = re.compile(rf"(?<![a-z0-9_])({'|'.join(_STANDARD)})(?![a-z0-9_])", re.IGNORECASE)
_CODE_LIKE: Final = re.compile(r"[\w.:/#-]{1,100}", re.ASCII)
# These values say that there is an error, but not which one.
_NO_CODE: Final = frozenset({"about:blank", "error", "fail", "failed", "failure", "false", "null", "true"})


def at(fields: object, place: str, /) -> object:
    """Return the value in *fields* at *place*, for example "error.code". Return None if it is missing."""
    if isinstance(fields, Mapping) and place in fields:
        return fields[place]
    name, _, rest = place.partition(".")
    if not rest or not isinstance(fields, Mapping):
        return None
    return at(fields.get(name), rest)


def standard_code(fields: Mapping[str, Any], /) -> str | None:
    """
    Return the error code of the RFCs in *fields*, as the RFCs spell it, or None.

    The code is found in any case and spelling, within a sentence, in objects and in lists of errors.
    """
    for level, node in _nodes(fields):
        for name, value in _named(node, _CODES):
            text = str(value).strip() if isinstance(value, str) else ""
            found = _code_in(text, common=name == "error" or level > 0)
            if found is not None:
                return found
    for _, node in _nodes(fields):
        for _, value in _named(node, _WORDS):
            match = _IN_WORDS.match(value[:_START]) if isinstance(value, str) else None
            if match is not None:
                return match[1].lower()
    return None


def codes_in(fields: Mapping[str, Any], /) -> Iterator[str]:
    """Yield candidates for the error code of *fields*, the most likely first."""
    for _, node in _nodes(fields):
        for name, value in _named(node, _CODES):
            if is_number(value) and name != "status" and _says_which(str(value)):
                yield str(value)
            elif isinstance(value, str) and _CODE_LIKE.fullmatch(value.strip()) and _says_which(value):
                yield value.strip()


def read_words(fields: Mapping[str, Any], clean: Callable[[str], str], places: tuple[str, ...] = (), /) -> str | None:
    """
    Return the description in *fields* and the ids beside it as one line of at most 600 characters, or None.

    Args:
        fields: The members of the answer.

        clean: Removes secrets from a text. It receives each text whole, because it could not find half a secret.

        places: Where this server puts its description, if known.
    """
    texts: list[str] = []
    tried: set[str] = set()
    ids: dict[str, str] = {}

    def add(text: str | None) -> None:
        if text is None or text in tried or len(tried) >= _TRIED or len(texts) >= _TEXTS:
            return
        tried.add(text)
        said = _one_line(clean(text))
        if said and len(texts) < _TEXTS and not any(said in one or one in said for one in texts):
            texts.append(said)

    for place in places:
        value = at(fields, place)
        add(value if isinstance(value, str) else None)
    for _, node in _nodes(fields):
        add(next((text for name, value in _named(node, _WORDS) if (text := _words_of(name, value))), None))
        ids |= {name: _shown_id(value) for name, value in _members(node) if _is_id(name, value)}
    said = "; ".join(texts)
    told = [(name, value) for name, value in ids.items() if value not in said][:_MOST_IDS]
    more = ", ".join(f"{_one_line(clean(name))} {_one_line(clean(value))}" for name, value in told)
    said = f"{said} ({more})" if said and more else said or more
    return (said if len(said) <= _LONGEST else said[: _LONGEST - 3] + "...") or None


def _nodes(fields: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the objects of an answer with their depth, the outer ones first."""
    left: list[tuple[int, object]] = [(0, fields)]
    # The list grows during the loop, but only as far as it is read.
    for level, node in left:
        inner: Iterable[object] = ()
        if isinstance(node, Mapping):
            yield level, node
            inner = (value for _, value in _members(node))
        elif isinstance(node, list):
            inner = node[:_MEMBERS]
            for one in node[:_TEXTS]:
                if isinstance(one, str):
                    yield level, {"message" if _code_in(one, common=False) is None else "error": one}
        if level < _DEEPEST:
            more = ((level + 1, one) for one in inner if isinstance(one, Mapping | list))
            left += islice(more, _MOST - len(left))


def _named(node: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    plain = {_plain(name): value for name, value in _members(node)}
    return ((name, plain[name]) for name in names if name in plain)


def _members(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the members of an object to look at. The names of RFC 6749 come last, so that they win."""
    yield from islice(node.items(), _MEMBERS)
    if len(node) > _MEMBERS:
        yield from ((name, node[name]) for name in _RFC if name in node)


def _plain(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name)[:_LONGEST_ID].lower())


def _code_in(text: str, *, common: bool) -> str | None:
    text = text[:_START]
    lower = text.lower()
    if common and lower in _COMMON:
        return lower
    head = re.split(r"[:;,\s(]", lower, maxsplit=1)[0]
    if common and head in _COMMON and text[len(head) : len(head) + 1] == ":":
        return head
    match = _IN_CODE.search(text)
    if match is not None:
        return match[1].lower()
    # Spellings such as InvalidGrant, invalid-grant and "Invalid grant", and the last part of a type that is a URI.
    last = re.split(r"[/#:]", text)[-1] if re.match(r"(?:https?|urn|tag):", lower) else text
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]+", "_", last).lower()
    return snake if snake in _STANDARD else None


def _says_which(value: str) -> bool:
    text = value.strip().lower()
    return text not in _NO_CODE and not re.fullmatch(r"[1-5]\d\d", text)


def _words_of(name: str, value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    # A text that is only a code is reported as the code.
    return None if name in {"error", "reason"} and _CODE_LIKE.fullmatch(value.strip()) else value.strip()


def _is_id(name: object, value: object) -> bool:
    if len(str(name)) > _LONGEST_ID or _plain(name) not in _IDS:
        return False
    several = value if isinstance(value, list) else [value]
    return 0 < len(several) <= _TEXTS and all(
        is_number(one) or (isinstance(one, str) and 0 < len(one) <= _LONGEST_ID) for one in several
    )


def is_number(value: object, /) -> bool:
    """
    Tell whether *value* is a whole number that may be a code or an id. Python refuses to print very large numbers.
    """
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGE


def _shown_id(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())
