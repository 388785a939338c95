"""
A manager as an `httpx.Auth`.
"""

from __future__ import annotations

from typing import final

import httpx

from evertoken.clients._bearer import BearerFlow

__all__ = ["BearerAuth"]


@final
class BearerAuth(BearerFlow, httpx.Auth):
    """
    An `httpx.Auth` that sends the token of a `TokenManager`, for `httpx.AsyncClient` and `httpx.Client`.

    Made by `TokenManager.auth`. It sets Authorization (RFC 6750 section 2.1). On a 401 it reports that very token,
    and tries once more with another; a body that cannot be sent twice is not, and then the 401 is the caller's.
    """
