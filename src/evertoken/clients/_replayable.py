"""Decides whether a request can be sent twice. It imports no HTTP library, because httpx and httpx2 share it."""

from __future__ import annotations

from typing import Any

__all__ = ["replayable"]


def replayable(request: Any) -> bool:
    """Tell whether the body of *request* can be sent again."""
    try:
        request.content  # noqa: B018 - it raises if the body was not read
    except RuntimeError:
        return _replayable_multipart(request.stream)
    return True


def _replayable_multipart(stream: Any) -> bool:
    # A multipart body is written again for each attempt. Its files are rewound, if that is possible.
    fields = getattr(stream, "fields", None)
    if not isinstance(fields, list) or not fields:
        return False
    return all(_replayable_file(getattr(field, "file", b"")) for field in fields)


def _replayable_file(file: Any) -> bool:
    if isinstance(file, str | bytes):
        return True
    if getattr(file, "closed", False):
        return False
    seekable = getattr(file, "seekable", None)
    return seekable is not None and bool(seekable())
