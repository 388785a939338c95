"""
A manager as an `httpx2.Auth`.

httpx2 has the same interface as httpx, and each library refuses the other's class.
"""

from __future__ import annotations

from typing import final

try:
    import httpx2
except ImportError as _error:
    msg = "evertoken.clients.httpx2 needs httpx2: pip install 'evertoken[httpx2]'"
    raise ImportError(msg) from _error

from evertoken.clients._bearer import BearerFlow

__all__ = ["BearerAuth"]


@final
class BearerAuth(BearerFlow, httpx2.Auth):
    """
    An `httpx2.Auth` that sends the token of a `TokenManager`, for `httpx2.AsyncClient` and `httpx2.Client`.

    Make it from a handle: `BearerAuth(manager.handle())`. All else is as with `evertoken.clients.httpx.BearerAuth`.
    """
