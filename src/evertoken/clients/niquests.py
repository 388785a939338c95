"""A manager as the auth of niquests."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

try:
    from niquests.auth import AsyncAuthBase, AuthBase
    from niquests.exceptions import UnrewindableBodyError
    from niquests.utils import rewind_body
except ImportError as _error:
    msg = "evertoken.clients.niquests needs niquests: pip install 'evertoken[niquests]'"
    raise ImportError(msg) from _error

from evertoken.clients._requests_flow import RequestsFlow

if TYPE_CHECKING:
    from niquests.models import PreparedRequest

__all__ = ["AsyncBearerAuth", "BearerAuth"]


@final
class BearerAuth(RequestsFlow, AuthBase):
    """The auth of a `niquests.Session`. All else is as with `evertoken.clients.requests.BearerAuth`."""

    rewind = rewind_body
    unrewindable = UnrewindableBodyError

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the token into *request*, which is about to be sent."""
        signed: PreparedRequest = self.sign(request)
        return signed


@final
class AsyncBearerAuth(RequestsFlow, AsyncAuthBase):
    """
    The auth of a `niquests.AsyncSession`. All else is as with `evertoken.clients.requests.BearerAuth`.

    `BearerAuth` in such a session would block the loop, and raises RuntimeError where there is no valid token.
    """

    rewind = rewind_body
    unrewindable = UnrewindableBodyError

    async def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the token into *request*, which is about to be sent."""
        signed: PreparedRequest = await self.sign_async(request)
        return signed
