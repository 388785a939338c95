"""Where secrets may be sent: https, or http to loopback, unless more was allowed."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from evertoken._model.identity import digest_of
from evertoken._model.plain_text import readable, without_query

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["check_url", "url_identity", "without_query"]


def check_url(parameter: str, url: object, *, allow_http: bool) -> str:
    """
    Return *url* if it is an absolute https URL, or http to loopback.

    Raises:
        ValueError: It is not; the message names *parameter*.
    """
    if not isinstance(url, str):
        msg = f"{parameter} must be an absolute URL, not a value of type {type(url).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake
    parts = readable(url)
    if parts is None or not _is_usable(parts, url):
        # It is not shown: where it is not plain which part is which, a password may stand anywhere in it.
        wrong = _wrong_in(url) if parts is None else "its scheme is not https, or its host is no host name"
        msg = f"{parameter} must be an absolute URL such as 'https://as.example.com/token': {wrong}"
        raise ValueError(msg)
    if parts.username is not None or parts.password is not None:
        msg = f"{parameter} must not carry credentials in the URL"
        raise ValueError(msg)
    if "#" in url:
        msg = f"{parameter} must not have a fragment (RFC 6749 section 3.2)"
        raise ValueError(msg)
    if parts.scheme == "http" and not allow_http and not _is_loopback(str(parts.hostname)):
        msg = f"{parameter} must use https: {without_query(url)!r} would send secrets in the clear; "
        msg += "allow_http=True if that is meant"
        raise ValueError(msg)
    return url


def _wrong_in(url: str) -> str:
    """Return what makes *url* unreadable, without repeating it."""
    if not url.strip():
        return "it is empty"
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        return "it has a space, a backslash or a control character in it"
    if "://" not in url:
        return "it has no https:// in front"
    return (
        "its host or its port cannot be read. A user name or password in it is often why: they are given by parameters "
        "of their own. An @ in a path is written as %40"
    )


def _is_usable(parts: SplitResult, url: str) -> bool:
    if parts.scheme not in {"http", "https"}:
        return False
    try:
        # It knows more rules, such as those of host names (IDNA).
        return "@" in parts.netloc or bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def url_identity(url: str) -> str:
    """
    Return *url* as every spelling of it is written.

    A digest stands in place of its query and of each parameter of its path, which may hold a key.
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port not in {None, {"http": 80, "https": 443}.get(parts.scheme)} else ""
    query = f"?{digest_of(parts.query)}" if parts.query else ""
    path = re.sub(r";[^/]+", lambda match: f";{digest_of(match[0])}", parts.path)
    return f"{parts.scheme}://{host}{port}{path or '/'}{query}"
