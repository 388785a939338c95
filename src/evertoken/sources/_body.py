"""The body of an answer: bounded, unpacked, and read as fields."""

from __future__ import annotations

import html
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from evertoken._model.errors import TransientRefreshError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_BODY", "bounded_body", "error_in", "fields_of", "object_of", "text_of"]

#: The most that is read of an answer, in bytes, after decompression.
MAX_BODY: Final = 1024 * 1024

_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_FORM: Final = re.compile(r"\s*(?:[\w.~%+-]+=[^&\s<]*&)*(?:access_token|error)=[^\s<]*\s*\Z")
_MARKUP: Final = re.compile(r"\s*<[!?a-z]", re.IGNORECASE)
_TITLE: Final = re.compile(r"<title[^>]*>([^<]*)</title", re.IGNORECASE)
_INVISIBLE: Final = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^>]*>")


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
        msg = f"unreadable answer: content encoding {encoding!r}, though none was asked for"
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
        if kind != "application/x-www-form-urlencoded" and not _FORM.match(text):
            return None
        try:
            return dict(parse_qsl(text.strip(), max_num_fields=100)) or None
        except ValueError:
            return None
    return fields if isinstance(fields, dict) else None


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
    title = _TITLE.search(found)
    page = _INVISIBLE.sub(" ", found) if title is None or not title[1].strip() else title[1]
    return {"title": html.unescape(_TAG.sub(" ", page))}


def _decoded(body: bytes, content_type: str) -> str:
    declared = _CHARSET.search(content_type)
    # A mark at the start says more than a label (RFC 3629 section 6); JSON may be UTF-16 or UTF-32, too.
    encoding: str = json.detect_encoding(body[:4]) if body else "utf-8"
    if declared is not None and encoding == "utf-8":
        encoding = declared[1]
    try:
        return body.decode(encoding, errors="replace")
    except (LookupError, ValueError):
        # There is no such charset, or it is one that cannot leave anything out.
        return body.decode(errors="replace")


def object_of(form: Sequence[tuple[str, str]], /) -> dict[str, str | list[str]]:
    """Return the fields of *form* as a JSON object has them: what is there several times is a list."""
    several: dict[str, list[str]] = {}
    for name, value in form:
        several.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in several.items()}
