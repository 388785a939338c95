"""A manager as the auth of niquests."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

try:
    from niquests.adapters import AsyncBaseAdapter
    from niquests.auth import AsyncAuthBase, AuthBase
    from niquests.exceptions import UnrewindableBodyError
    from niquests.utils import arewind_body, rewind_body
except ImportError as _error:
    msg = "evertoken.clients.niquests needs niquests: pip install 'evertoken[niquests]'"
    raise ImportError(msg) from _error

from evertoken.clients._requests_flow import RequestsFlow

if TYPE_CHECKING:
    from niquests.models import PreparedRequest

__all__ = ["AsyncBearerAuth", "BearerAuth"]


@final
class BearerAuth(RequestsFlow, AuthBase):
    """
    The auth of a `niquests.Session` that sends the token of a `TokenManager`, and heals a 401 once.

    Made from a handle: `session.auth = BearerAuth(tokens.handle())`. It works in any number of threads, beside a
    manager that runs in another one; see `run_in_background`. A body that cannot be wound back is not sent again, and
    then the 401 is the caller's. So it is in a session with `multiplexed=True`: the token is replaced for the requests
    that follow. A redirect to another origin goes on without the token.

    Args:
        tokens: A handle of a manager.

        origins: The origins that may see the token. Without any, the first one it is used with.

        allow_http: Send it over plain http, and not to loopback alone.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An origin is not written as one, or is http outside loopback; or *min_ttl* is no number of seconds.
    """

    rewind = rewind_body
    unrewindable = UnrewindableBodyError
    of_coroutines = AsyncBaseAdapter

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """
        Put the token into *request*, which is about to be sent.

        Raises:
            OriginRefused: The request is addressed to another origin, or is http outside loopback. Nothing was sent.
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
            RuntimeError: There is no valid token, and this is the manager's own loop, which it would block; or the
                session is an `AsyncSession`.
        """
        signed: PreparedRequest = self.sign(request)
        return signed


@final
class AsyncBearerAuth(RequestsFlow, AsyncAuthBase):
    """
    The auth of a `niquests.AsyncSession`. All else is as with `BearerAuth`.

    Made from a handle: `session.auth = AsyncBearerAuth(tokens.handle())`.

    Args:
        tokens: A handle of a manager.

        origins: The origins that may see the token. Without any, the first one it is used with.

        allow_http: Send it over plain http, and not to loopback alone.

        min_ttl: The fewest seconds for which the token of each request is valid.

    Raises:
        ValueError: An origin is not written as one, or is http outside loopback; or *min_ttl* is no number of seconds.
    """

    rewind = rewind_body
    rewind_async = arewind_body
    unrewindable = UnrewindableBodyError

    async def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the token into *request*, which is about to be sent; raise as `BearerAuth` does."""
        signed: PreparedRequest = await self.sign_async(request)
        return signed
