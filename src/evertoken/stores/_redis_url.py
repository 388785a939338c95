"""The URL of a Redis or Valkey server: a client for it, and a name for the place without its password."""

from __future__ import annotations

import socket
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["SOCKET_TIMEOUT", "client_of", "library", "place_of"]

#: Seconds that a connection, or an answer, is waited for: less than a manager waits for a store.
SOCKET_TIMEOUT: Final = 4.0


def library() -> Any:
    try:
        import redis.asyncio  # noqa: PLC0415 - needed for a URL alone
    except ImportError as error:
        msg = "evertoken.stores.RedisStore needs redis: pip install 'evertoken[redis]'"
        raise ImportError(msg) from error
    return redis


def client_of(library: Any, url: str) -> Any:
    return library.asyncio.Redis.from_url(
        url,
        # Bounded by how many steps are let through, and how many watches there are.
        max_connections=2**31,
        # With the third one redis-py 8 uses connections that the server has closed.
        protocol=2,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        # A script that has run must not run again unasked.
        retry=library.asyncio.retry.Retry(library.backoff.NoBackoff(), 0),
        # A socket of this host knows no such thing.
        **({} if url.startswith("unix:") else {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}),
    )


def _keepalive() -> dict[int, int]:
    # A connection that a router forgot is found out by the system. A PING before a step would cost a round trip.
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
        # The text of this error may hold a part of a password.
        parts = urlsplit("")
    if parts.scheme not in {"redis", "rediss", "unix"}:
        msg = "redis must be a URL that begins with redis://, rediss:// or unix:// (a password quoted), or a client"
        raise ValueError(msg)
    # Without what may be a password.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
