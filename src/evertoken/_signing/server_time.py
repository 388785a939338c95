"""
Learns the clock of each server, so that signatures carry the server's time.

The time comes from the Date of a refusal (RFC 9110 section 6.6.1). Only servers for which a signature was made are
remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final
from urllib.parse import urlsplit

from evertoken._engine.clock import SystemClock

__all__ = ["dated", "learn", "signatures", "skew"]

# Beyond this number of servers, the oldest one is forgotten.
_MOST: Final = 1000
# Date has whole seconds, and a request takes time, so smaller differences are noise. Signatures are back-dated by more.
_NOISE: Final = 2.0
_HALF: Final = 0.5


@final
@dataclass(slots=True)
class _Server:
    skew: float = 0.0
    signed: int = 0


_servers: dict[str, _Server] = {}


def dated(url: str, /) -> float:
    """Return the time (epoch seconds) of the server of *url*, to be used in a signature for it."""
    origin = _origin(url)
    server = _servers.pop(origin, None) or _Server()
    _servers[origin] = server
    while len(_servers) > _MOST:
        del _servers[next(iter(_servers))]
    server.signed += 1
    return SystemClock.time() + server.skew


def learn(url: str, date: float | None, /) -> bool:
    """
    Learn the time of the server of *url* from the Date of a refusal. Return whether it makes sense to sign again.

    That is so if a signature was made for the server, with a time that was wrong by more than two seconds.
    """
    server = _servers.get(_origin(url))
    if server is None or date is None:
        return False
    found = date + _HALF - SystemClock.time()
    if abs(found - server.skew) <= _NOISE:
        return False
    server.skew = found
    return True


def skew(url: str, /) -> float:
    """Return the seconds by which the clock of the server of *url* is known to be ahead of ours."""
    server = _servers.get(_origin(url))
    return 0.0 if server is None else server.skew


def signatures(url: str, /) -> int:
    """Return the number of signatures that were made for the server of *url*."""
    server = _servers.get(_origin(url))
    return 0 if server is None else server.signed


def _origin(url: str) -> str:
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{parts.netloc}"
