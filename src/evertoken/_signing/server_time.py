"""
What time it is for a server, so that what is signed for it is dated by its clock and not by ours.

The Date of a refusal tells (RFC 9110 section 6.6.1). Only the servers are remembered for which something was signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final
from urllib.parse import urlsplit

from evertoken._engine.clock import SystemClock

__all__ = ["dated", "learn", "signatures", "skew"]

# More servers than this, and the one that was asked first is forgotten.
_MOST: Final = 1000
# Date has whole seconds, and a request takes time: less than this is noise. Signatures are dated back by more.
_NOISE: Final = 2.0
_HALF: Final = 0.5


@final
@dataclass(slots=True)
class _Server:
    skew: float = 0.0
    signed: int = 0


_servers: dict[str, _Server] = {}


def dated(url: str, /) -> float:
    """Return the time (epoch seconds) by the clock of the server of *url*, for something that is signed for it now."""
    origin = _origin(url)
    server = _servers.pop(origin, None) or _Server()
    _servers[origin] = server
    while len(_servers) > _MOST:
        del _servers[next(iter(_servers))]
    server.signed += 1
    return SystemClock.time() + server.skew


def learn(url: str, date: float | None, /) -> bool:
    """
    Learn the time of the server of *url* from the Date of a refusal, and tell whether it is worth signing anew.

    It is where something was signed for it, and by a clock that was off by more than two seconds.
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
    """Return by how many seconds the clock of the server of *url* is known to be ahead of ours."""
    server = _servers.get(_origin(url))
    return 0.0 if server is None else server.skew


def signatures(url: str, /) -> int:
    """Return how much was signed for the server of *url* so far."""
    server = _servers.get(_origin(url))
    return 0 if server is None else server.signed


def _origin(url: str) -> str:
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{parts.netloc}"
