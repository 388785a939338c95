"""The body of an answer: bounded, unpacked, and read as fields."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from evertoken._model.errors import TransientRefreshError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_BODY", "bounded_body", "fields_of", "object_of", "text_of"]

#: The most that is read of an answer, in bytes, after decompression.
MAX_BODY: Final = 1024 * 1024


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
    """Return the fields of a JSON object, or of a form, that *body* is; None if it is neither."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        # GitHub, for one, answers a form unless asked otherwise.
        if "application/x-www-form-urlencoded" not in content_type:
            return None
        try:
            fields = dict(parse_qsl(body.decode(), max_num_fields=100))
        except ValueError:
            return None
    return fields if isinstance(fields, dict) else None


def text_of(body: bytes, content_type: str) -> dict[str, Any] | None:  # noqa: ARG001 - the protocol of readers
    """Return the plain text that *body* is, as the field `text`; None if there is none."""
    try:
        text = body.decode().strip()
    except ValueError:
        return None
    return {"text": text} if text else None


def object_of(form: Sequence[tuple[str, str]], /) -> dict[str, str | list[str]]:
    """Return the fields of *form* as a JSON object has them: what is there several times is a list."""
    several: dict[str, list[str]] = {}
    for name, value in form:
        several.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in several.items()}
