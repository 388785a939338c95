"""The body of an answer: bounded, unpacked, and read as fields."""

from __future__ import annotations

import codecs
import contextlib
import html
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from evertoken._model.errors import TransientRefreshError
from evertoken._model.redaction import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_BODY", "bounded_body", "error_in", "fields_of", "object_of", "text_of"]

#: The most that is read of an answer, in bytes, after decompression.
MAX_BODY: Final = 1024 * 1024

_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_FORM_NAME: Final = re.compile(r"[\w.~%+-]+")
_NO_FORM: Final = re.compile(r"[\s<]")
_FORM_FIELDS: Final = 100
# So much is read of a body with parts that cannot be decoded, in bytes, where that takes long.
_LONGEST_WIDE: Final = 262_144
# No form is longer, in characters: a token has to fit into a header field.
_LONGEST_FORM: Final = 262_144
_MARKUP: Final = re.compile(r"\s*<[!?a-z]", re.IGNORECASE)
# Each of these reads any text once: a tag ends where the next one starts, and a script at the end of the page.
_TITLE: Final = re.compile(r"<title[^<>]*>([^<]*)</title", re.IGNORECASE)
# As `html` reads them, but for numbers that Python would refuse to read.
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,10}|#[xX][0-9A-Fa-f]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});?")
_INVISIBLE: Final = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1[^<>]*>?|\Z)", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^<>]*>")
# More of a page than this is not read for its words, in characters; nor does a message repeat more of them.
_PAGE: Final = 65_536
_SAID: Final = 8192

# Charsets of Python's own that take long for some texts, or that are no charsets of the web.
_NO_CHARSETS: Final = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"})


async def bounded_body(response: Any) -> bytes:
    """
    Return the body of a streamed response, unpacked.

    Raises:
        TransientRefreshError: It is longer than `MAX_BODY`, packed or unpacked, or packed in a way nobody asked for.
    """
    if response.is_stream_consumed:
        # A transport that answers from memory, as in tests.
        whole: bytes = await response.aread()
        if len(whole) > MAX_BODY:
            msg = f"unreadable answer: more than {MAX_BODY} bytes"
            raise TransientRefreshError(msg, ambiguous=True)
        return whole
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        msg = f"unreadable answer: content encoding {quoted(encoding)}, though none was asked for"
        raise TransientRefreshError(msg, ambiguous=True)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BODY:
            msg = f"unreadable answer: more than {MAX_BODY} bytes"
            raise TransientRefreshError(msg, ambiguous=True)
    if encoding in {"", "identity"}:
        return bytes(body)
    # A few compressed bytes can stand for gigabytes, so no more than the bound is ever unpacked.
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        unpacked = unpacker.decompress(bytes(body), MAX_BODY + 1)
    except zlib.error:
        unpacked = b""
    if len(unpacked) > MAX_BODY:
        msg = f"unreadable answer: more than {MAX_BODY} bytes once unpacked"
        raise TransientRefreshError(msg, ambiguous=True)
    return unpacked


def fields_of(body: bytes, content_type: str) -> dict[str, Any] | None:
    """
    Return the fields of a JSON object, or of a form, that *body* is; None if it is neither.

    The charset that is declared counts; where there is none, or another one was used, what cannot be decoded is
    replaced (RFC 8259 section 8.1 wants UTF-8). A form is one by its type, or by what is in it: some servers label it
    as text, or not at all.
    """
    text = _decoded(body, content_type)
    fields: object
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        kind = content_type.partition(";")[0].strip().lower()
        form = text.strip()
        if len(form) > _LONGEST_FORM or (kind != "application/x-www-form-urlencoded" and not _is_form(form)):
            return None
        try:
            return dict(parse_qsl(form, max_num_fields=_FORM_FIELDS)) or None
        except ValueError:
            return None
    return fields if isinstance(fields, dict) else None


def _is_form(text: str) -> bool:
    """Tell whether *text* is a form with a token or an error in it."""
    if _NO_FORM.search(text):
        return False
    for pair in text.split("&", _FORM_FIELDS):
        name, equals, _ = pair.partition("=")
        if not equals or not _FORM_NAME.fullmatch(name):
            return False
        if name in {"access_token", "error"}:
            return True
    return False


def text_of(body: bytes, content_type: str) -> dict[str, Any] | None:
    """Return the plain text that *body* is, as the field `text`; None if there is none."""
    text = _decoded(body, content_type).strip()
    return {"text": text} if text and "\ufffd" not in text else None


def error_in(body: bytes, content_type: str) -> dict[str, Any]:
    """
    Return what an answer that is neither a JSON object nor a form says of its error: a list, a string, text or markup.

    Of a page of HTML it is the title, or else the text.
    """
    text = _decoded(body, content_type)
    found: object
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text
    if isinstance(found, list):
        return {"errors": found}
    if not isinstance(found, str) or not found.strip():
        return {}
    if not _MARKUP.match(found):
        return {"error": found}
    found = found[:_PAGE]
    title = _TITLE.search(found)
    page = _INVISIBLE.sub(" ", found) if title is None or not title[1].strip() else title[1]
    words = " ".join(_TAG.sub(" ", page).split())[:_SAID]
    return {"title": _ENTITY.sub(lambda match: html.unescape(match[0]), words)}


def _decoded(body: bytes, content_type: str) -> str:
    declared = _CHARSET.search(content_type)
    # A mark at the start says more than a label (RFC 3629 section 6); JSON may be UTF-16 or UTF-32, too.
    encoding: str = json.detect_encoding(body[:4]) if body else "utf-8"
    if declared is not None and encoding == "utf-8":
        encoding = declared[1]
    with contextlib.suppress(LookupError):
        if codecs.lookup(encoding).name.replace("_", "-") in _NO_CHARSETS:
            encoding = "utf-8"
    try:
        return body.decode(encoding)
    except (LookupError, ValueError):
        # Most charsets take long to replace what they do not have. The names and signs of JSON are the same in all but
        # these two.
        wide = encoding.startswith(("utf-16", "utf-32"))
        return body[:_LONGEST_WIDE].decode(encoding, errors="replace") if wide else body.decode(errors="replace")


def object_of(form: Sequence[tuple[str, str]], /) -> dict[str, str | list[str]]:
    """Return the fields of *form* as a JSON object has them: what is there several times is a list."""
    several: dict[str, list[str]] = {}
    for name, value in form:
        several.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in several.items()}
