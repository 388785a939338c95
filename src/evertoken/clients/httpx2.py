"""
An adapter for httpx2: `httpx2.Auth` classes that send the token of a manager.

httpx2 has the same interface as httpx, but each library refuses the class of the other.
"""

from __future__ import annotations

from typing import Any, ClassVar, final

try:
    import httpx2
except ImportError as _error:
    msg = "evertoken.clients.httpx2 needs httpx2: pip install 'evertoken[httpx2]'"
    raise ImportError(msg) from _error

from evertoken.clients._bearer import BearerFlow
from evertoken.clients._dpop_flow import DPoPFlow
from evertoken.clients._header_flow import HeaderFlow
from evertoken.clients._sigv4_flow import SigV4Flow

# For type checkers, `evertoken.clients.httpx.BearerAuth` is an httpx2.Auth too.
Auth = httpx2.Auth

__all__ = ["BearerAuth", "DPoPAuth", "HeaderAuth", "SigV4Auth"]


@final
class BearerAuth(BearerFlow, httpx2.Auth):
    """
    An `httpx2.Auth` that sends the token of a `TokenManager`, for `httpx2.AsyncClient` and `httpx2.Client`.

    Make it from a handle: `BearerAuth(manager.handle())`. Otherwise it works as `evertoken.clients.httpx.BearerAuth`.
    """


@final
class DPoPAuth(DPoPFlow, httpx2.Auth):
    """An `httpx2.Auth` for tokens that are bound to a key (RFC 9449). See `evertoken.clients.httpx.DPoPAuth`."""

    headers: ClassVar[Any] = httpx2.Headers


@final
class HeaderAuth(HeaderFlow, httpx2.Auth):
    """An `httpx2.Auth` that sends the token in a special field. See `evertoken.clients.httpx.HeaderAuth`."""

    headers: ClassVar[Any] = httpx2.Headers


@final
class SigV4Auth(SigV4Flow, httpx2.Auth):
    """An `httpx2.Auth` that signs requests with AWS credentials. See `evertoken.clients.httpx.SigV4Auth`."""

    headers: ClassVar[Any] = httpx2.Headers
