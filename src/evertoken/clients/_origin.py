"""Origins: scheme, host and port (RFC 6454). It imports no HTTP library."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final
from urllib.parse import urlsplit

import idna

from evertoken._model.hosts import Reach, reach_of
from evertoken._model.redaction import quoted_url

__all__ = ["PORTS", "Origin", "as_http", "in_the_clear", "origin_in", "origin_in_text", "origin_of", "written"]

Origin = tuple[str, str, int]

#: The supported schemes and their default ports.
PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_OPENED_BY: Final = {"ws": "http", "wss": "https"}

_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?|wss?)://(?P<host>\[[0-9a-f:.]+\]|[^/:?#@*%\s\[\]]+)(?::(?P<port>[1-9][0-9]{0,4}))?/?"
)
_MAX_PORT: Final = 65_535


def origin_of(text: str, /) -> Origin:
    """
    Return the origin (scheme, host, port) of a text such as "https://api.example.com:8443".

    Raises:
        ValueError: The text is not an origin. The message shows an example of one.
    """
    match = _ORIGIN.fullmatch(text.lower()) if isinstance(text, str) else None
    host = None if match is None else _host(match["host"].strip("[]"))
    port = 0 if match is None else int(match["port"] or PORTS[match["scheme"]])
    if match is None or host is None or port > _MAX_PORT:
        given = quoted_url(text)
        msg = f"origins must be written as in 'https://api.example.com' or 'http://localhost:8000', not {given}"
        raise ValueError(msg)
    return match["scheme"], host, port


def in_the_clear(origin: Origin) -> bool:
    """Tell whether data for *origin* can be read on the way: there is no TLS, and the data leaves the machine."""
    return origin[0] in {"http", "ws"} and reach_of(origin[1], strict=True) is not Reach.LOOPBACK


def origin_in(url: Any) -> Origin:
    """Return the origin of *url*, a URL object of an HTTP library."""
    scheme, host, port = url.scheme, url.raw_host.decode("ascii"), url.port
    return scheme, _host(host) or host, PORTS.get(scheme, 0) if port is None else port


def origin_in_text(url: str, /) -> Origin:
    """Return the origin of *url* as `as_http` does. A URL that cannot be parsed gets an origin without a host."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        return "", "", 0
    return as_http((scheme, _host(host) or host, PORTS.get(scheme, 0) if port is None else port))


def as_http(origin: Origin) -> Origin:
    """Return *origin*. For a WebSocket, return that of the HTTP request which opens it (RFC 6455 section 4.1)."""
    scheme, host, port = origin
    return _OPENED_BY.get(scheme, scheme), host, port


def _host(host: str) -> str | None:
    """Return the normal form of *host* (IDNA in ASCII, IPv6 compressed), or None if it is not a host."""
    try:
        if ":" in host:
            return str(ipaddress.IPv6Address(host))
        return host if host.isascii() else idna.encode(host).decode("ascii")
    except ValueError:
        return None


def written(origin: Origin) -> str:
    """Return *origin* as users write it."""
    scheme, host, port = origin
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" if PORTS.get(scheme) == port else f"{scheme}://{host}:{port}"
