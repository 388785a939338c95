"""Where secrets may be sent: https, or http to loopback, unless more was allowed."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

import httpx

from evertoken._model.identity import digest_of

__all__ = ["check_url", "url_identity", "without_query"]


def without_query(url: str) -> str:
    """Return *url* as it may be shown: a query may hold a key, and user information a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0].partition("#")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def check_url(parameter: str, url: object, *, allow_http: bool) -> str:
    """
    Return *url* if it is an absolute https URL, or http to loopback.

    Raises:
        ValueError: It is not; the message names *parameter*.
    """
    if not isinstance(url, str) or not url.strip():
        msg = f"{parameter} must be an absolute URL, not {url!r}"
        raise ValueError(msg)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        if "@" not in parts.netloc and (" " in url or not httpx.URL(url).host):
            host = None
    except (ValueError, httpx.InvalidURL):
        host, parts = None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host:
        msg = f"{parameter} must be an absolute URL such as 'https://as.example.com/token', not {without_query(url)!r}"
        raise ValueError(msg)
    if parts.username is not None or parts.password is not None:
        msg = f"{parameter} must not carry credentials in the URL"
        raise ValueError(msg)
    if "#" in url:
        msg = f"{parameter} must not have a fragment (RFC 6749 section 3.2)"
        raise ValueError(msg)
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        msg = f"{parameter} must use https: {without_query(url)!r} would send secrets in the clear; "
        msg += "allow_http=True if that is meant"
        raise ValueError(msg)
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def url_identity(url: str) -> str:
    """Return *url* as every spelling of it is written, and a digest in place of its query, which may hold a key."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port not in {None, {"http": 80, "https": 443}.get(parts.scheme)} else ""
    query = f"?{digest_of(parts.query)}" if parts.query else ""
    return f"{parts.scheme}://{host}{port}{parts.path or '/'}{query}"
