"""Checks the URLs to which secrets may be sent: https, or http to loopback, unless more is allowed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

from evertoken._model.hosts import Reach, reach_of
from evertoken._model.identity import digest_of
from evertoken._model.plain_text import readable, without_query
from evertoken._model.redaction import quoted

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["check_host", "check_name_in_path", "check_url", "is_near", "origin_of", "url_identity", "without_query"]

# Characters that a path takes unchanged, besides letters and digits.
_PLAIN: Final = "-._~"
# Labels begin and end with a letter or a digit. A port may follow.
_HOST: Final = re.compile(r"(?:[^\W_](?:[\w-]*[^\W_])?\.)*[^\W_](?:[\w-]*[^\W_])?(?::[0-9]{1,5})?")


def check_url(parameter: str, url: object, *, allow_http: bool | Reach) -> str:
    """
    Return *url* if it is an absolute https URL, or http to loopback.

    Args:
        parameter: The user's name for the URL.

        url: The URL.

        allow_http: How far http may go: only to loopback (False), anywhere (True), or as far as the given value.

    Raises:
        ValueError: The URL is not allowed. The message names *parameter*.
    """
    if not isinstance(url, str):
        msg = f"{parameter} must be an absolute URL, not a value of type {type(url).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake
    parts = readable(url)
    if parts is None or not _is_usable(parts, url):
        # The URL is not shown. If its parts are unclear, any of them may be a password.
        wrong = _wrong_in(url) if parts is None else "its scheme is not https, or its host is not a host name"
        msg = f"{parameter} must be an absolute URL such as 'https://as.example.com/token': {wrong}"
        raise ValueError(msg)
    if parts.username is not None or parts.password is not None:
        msg = f"{parameter} must not carry credentials in the URL"
        raise ValueError(msg)
    if "#" in url:
        msg = f"{parameter} must not have a fragment (RFC 6749 section 3.2)"
        raise ValueError(msg)
    limit = allow_http if isinstance(allow_http, Reach) else Reach.PUBLIC if allow_http else Reach.LOOPBACK
    if parts.scheme == "http" and reach_of(str(parts.hostname), strict=True) > limit:
        # Sources that ask the platform next to the machine have no such argument.
        unless = (
            "http is for the machine's own network" if limit is Reach.PRIVATE else "allow_http=True if this is intended"
        )
        msg = f"{parameter} must use https: {without_query(url)!r} would send secrets in the clear; {unless}"
        raise ValueError(msg)
    return url


def _wrong_in(url: str) -> str:
    """Return the reason why *url* is unreadable, without repeating it."""
    if not url.strip():
        return "it is empty"
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        return "it has a space, a backslash or a control character in it"
    if "://" not in url:
        return "it does not begin with https://"
    return (
        "its host or its port cannot be read. A user name or password in it is often why: they are given by parameters "
        "of their own. An @ in a path is written as %40"
    )


def _is_usable(parts: SplitResult, url: str) -> bool:
    if parts.scheme not in {"http", "https"}:
        return False
    try:
        # This library knows more rules, such as those of host names (IDNA).
        return "@" in parts.netloc or bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):
        return False


def is_near(url: str) -> bool:
    """Tell whether *url* leads to this machine or its own link, for which no proxy is used."""
    return reach_of(urlsplit(url).hostname or "") <= Reach.LINK_LOCAL


def origin_of(url: str) -> str:
    """Return scheme, host and port of *url* in a normal form."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port not in {None, {"http": 80, "https": 443}.get(parts.scheme)} else ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def check_name_in_path(parameter: str, name: object, *, also: str = "") -> str:
    """
    Return *name* if it can be one segment of a URL's path, with only letters, digits, "-._~" and *also*.

    Raises:
        ValueError: It is empty, has a character with a meaning in URLs, or begins or ends with a dot.
    """
    if not isinstance(name, str) or not name or name != name.strip("."):
        plain = False
    else:
        plain = all(letter.isalnum() or letter in _PLAIN or letter in also for letter in name)
    if not plain:
        msg = f"{parameter} must be a plain name of letters, digits and any of {_PLAIN}{also}, without a dot at either "
        msg += f"end, not {quoted(name)}"
        raise ValueError(msg)
    return str(name)


def check_host(parameter: str, host: object) -> str:
    """
    Return *host* if it is the name of a host, with or without a port, such as "tenant.example.com:8443".

    Raises:
        ValueError: It is not. The message names *parameter*.
    """
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        msg = f"{parameter} must be a plain name, as in 'tenant.example.com', not {quoted(host)}"
        raise ValueError(msg)
    return host


def url_identity(url: str) -> str:
    """
    Return *url* in a normal form.

    Its query, and each parameter of its path, is replaced by a digest, because it may contain a key.
    """
    parts = urlsplit(url)
    query = f"?{digest_of(parts.query)}" if parts.query else ""
    path = re.sub(r";[^/]+", lambda match: f";{digest_of(match[0])}", parts.path)
    return f"{origin_of(url)}{path or '/'}{query}"
