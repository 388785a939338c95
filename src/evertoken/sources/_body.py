"""The body of an answer: limited in size, decompressed, and read as fields."""

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

#: The largest number of bytes that is read of an answer, after decompression.
MAX_BODY: Final = 1024 * 1024

_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_FORM_NAME: Final = re.compile(r"[\w.~%+-]+")
_NO_FORM: Final = re.compile(r"[\s<]")
_FORM_FIELDS: Final = 100
# If a body cannot be decoded completely, and decoding is slow, this many bytes are read.
_LONGEST_WIDE: Final = 262_144
# No form has more characters than this, because a token must fit into a header field.
_LONGEST_FORM: Final = 262_144
_MARKUP: Final = re.compile(r"\s*<[!?a-z]", re.IGNORECASE)
# Each of these patterns reads a text only once: a tag ends where the next one starts, and a script at the page's end.
_TITLE: Final = re.compile(r"<title[^<>]*>([^<]*)</title", re.IGNORECASE)
# Entities as `html` reads them, except numbers that Python would refuse to read.
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,10}|#[xX][0-9A-Fa-f]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});?")
_INVISIBLE: Final = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1[^<>]*>?|\Z)", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^<>]*>")
# At most this many characters of a page are read, and at most this many of its words are shown.
_PAGE: Final = 65_536
_SAID: Final = 8192

# Charsets of Python that are slow for some texts, or that are not used on the web.
_NO_CHARSETS: Final = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"})


async def bounded_body(response: Any) -> bytes:
    """
    Return the decompressed body of a streamed response.

    Raises:
        TransientRefreshError: It is longer than `MAX_BODY`, with or without compression, or has an unknown encoding.
    """
    if response.is_stream_consumed:
        # The transport answers from memory, as in tests.
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
    # A few compressed bytes can become gigabytes, so decompression stops at the limit.
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
    Return the fields of *body*, which may be a JSON object or a form, or None if it is neither.

    The declared charset counts. If it is missing or wrong, characters that cannot be decoded are replaced (RFC
    8259 section 8.1 requires UTF-8). A form is recognised by its type or by its content, because some servers declare
    it as text, or declare nothing.
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
    """Tell whether *text* is a form that contains a token or an error."""
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
    """Return the plain text in *body* as the field `text`, or None if it is empty or not text."""
    text = _decoded(body, content_type).strip()
    return {"text": text} if text and "\ufffd" not in text else None


def error_in(body: bytes, content_type: str) -> dict[str, Any]:
    """
    Return the error in an answer that is not a JSON object or form: a list, a string, text or markup.

    For an HTML page, this is the title, or else the text.
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
    # A byte order mark is more reliable than a label (RFC 3629 section 6). JSON may also be UTF-16 or UTF-32.
    encoding: str = json.detect_encoding(body[:4]) if body else "utf-8"
    if declared is not None and encoding == "utf-8":
        encoding = declared[1]
    with contextlib.suppress(LookupError):
        if codecs.lookup(encoding).name.replace("_", "-") in _NO_CHARSETS:
            encoding = "utf-8"
    try:
        return body.decode(encoding)
    except (LookupError, ValueError):
        # Most charsets are slow in replacing unknown characters. The names and signs of JSON are the same in all
        # charsets but these two.
        wide = encoding.startswith(("utf-16", "utf-32"))
        return body[:_LONGEST_WIDE].decode(encoding, errors="replace") if wide else body.decode(errors="replace")


def object_of(form: Sequence[tuple[str, str]], /) -> dict[str, str | list[str]]:
    """Return the fields of *form* as a JSON object. A repeated field becomes a list."""
    several: dict[str, list[str]] = {}
    for name, value in form:
        several.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in several.items()}
