"""The URL of a Redis or Valkey server: makes a client for it, and a display name without its password."""

from __future__ import annotations

import inspect
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["SOCKET_TIMEOUT", "client_of", "library", "place_of", "unverified"]

#: Seconds to wait for a connection or an answer. A manager waits longer than this for a store.
SOCKET_TIMEOUT: Final = 4.0

#: Patterns for a plausible host with a port, the number of a database, and the path of a socket. A password that was
#: not quoted does not match them.
_HOST: Final = re.compile(r"(?:[\w.-]+|\[[\w.:%-]+\])?(?::\d{1,5})?")
_DATABASE: Final = re.compile(r"/?\d{0,9}/?")
_SOCKET: Final = re.compile(r"[^@?#]+")

#: Values that tell the libraries not to check the certificate, and values that they read as no.
_UNSEEN: Final = {"none", None, ssl.CERT_NONE}
_NO: Final = {"0", "f", "false", "n", "no", False}


def library() -> Any:
    try:
        import redis.asyncio  # noqa: PLC0415 - only needed for a URL
    except ImportError as error:
        msg = "evertoken.stores.RedisStore needs redis: pip install 'evertoken[redis]'"
        raise ImportError(msg) from error
    return redis


def client_of(library: Any, url: str) -> Any:
    scheme = urlsplit(url).scheme
    return library.asyncio.Redis.from_url(
        url,
        # The limits are the number of steps and the number of watches.
        max_connections=2**31,
        # With protocol 3, redis-py 8 uses connections that the server has closed.
        protocol=2,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        # A script that has already run must not be repeated automatically.
        retry=library.asyncio.retry.Retry(library.backoff.NoBackoff(), 0),
        # redis-py before 6, and valkey-py, accept any certificate from a trusted authority.
        **({"ssl_check_hostname": True} if scheme == "rediss" and _reads_certificate(url) else {}),
        # A socket of this host does not have these options.
        **({} if scheme == "unix" else {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}),
    )


def _keepalive() -> dict[int, int]:
    # The system detects connections that a router forgot. A PING before each step would cost a round trip.
    wanted = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def place_of(redis: Any) -> str:
    if not isinstance(redis, str):
        if isinstance(redis, type) or not all(hasattr(redis, name) for name in ("execute_command", "pubsub")):
            msg = f"redis must be a URL or an asyncio client, not {type(redis).__name__}"
            if "Cluster" in type(redis).__name__:
                msg += " of this release, which cannot subscribe: a cluster needs redis-py 8"
            raise TypeError(msg)
        return type(redis).__name__
    try:
        parts = urlsplit(redis)
        _ = parts.port
    except ValueError:
        # The message of this error may contain a part of a password.
        parts = urlsplit("")
    if parts.scheme not in {"redis", "rediss", "unix"}:
        msg = "redis must be a URL that begins with redis://, rediss:// or unix:// (a password quoted), or a client"
        raise ValueError(msg)
    if not _is_plain(parts):
        msg = (
            "redis is a URL with an invalid host, path or query: quote special characters in its password, as %2F for"
            " '/', %3F for '?', %23 for '#' and %40 for '@'"
        )
        raise ValueError(msg)
    # The part that may be a password is removed.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def unverified(redis: Any) -> bool:
    """Tell whether *redis*, a URL or a client, uses TLS to a server whose name is not verified."""
    if isinstance(redis, str):
        return urlsplit(redis).scheme == "rediss" and not (_reads_certificate(redis) and _checks_name(redis))
    pool = getattr(redis, "connection_pool", redis)
    options = getattr(pool, "connection_kwargs", None)
    if not isinstance(options, dict):
        return False
    kinds = getattr(getattr(pool, "connection_class", options.get("connection_class")), "__mro__", ())
    for kind in kinds:
        wanted = inspect.signature(kind.__init__).parameters.get("ssl_check_hostname")
        if wanted is not None:
            checks = options.get("ssl_check_hostname", wanted.default) not in _NO
            return not checks or options.get("ssl_cert_reqs", "required") in _UNSEEN
    return False


def _is_plain(parts: SplitResult) -> bool:
    # If a password was not quoted, its @ is in another part.
    if parts.fragment or "@" in parts.query or (parts.query and "=" not in parts.query):
        return False
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "unix":
        return not host and _SOCKET.fullmatch(parts.path) is not None
    # A port without a host is the rest of a password.
    return not host.startswith(":") and bool(_HOST.fullmatch(host) and _DATABASE.fullmatch(parts.path))


def _asked(url: str, option: str, default: str) -> str:
    return parse_qs(urlsplit(url).query).get(option, [default])[0].lower()


def _reads_certificate(url: str) -> bool:
    return _asked(url, "ssl_cert_reqs", "required") not in _UNSEEN


def _checks_name(url: str) -> bool:
    return _asked(url, "ssl_check_hostname", "true") not in _NO
