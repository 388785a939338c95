"""A manager as the auth of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

try:
    from requests.auth import AuthBase
    from requests.exceptions import UnrewindableBodyError
    from requests.utils import rewind_body
except ImportError as _error:
    msg = "evertoken.clients.requests needs requests: pip install 'evertoken[requests]'"
    raise ImportError(msg) from _error

from evertoken.clients._requests_flow import RequestsFlow

if TYPE_CHECKING:
    from requests.models import PreparedRequest

__all__ = ["BearerAuth"]


@final
class BearerAuth(RequestsFlow, AuthBase):
    """
    The auth of a `requests.Session` that sends the token of a `TokenManager`, and heals a 401 once.

    Made from a handle: `session.auth = BearerAuth(tokens.handle())`. It works in any number of threads, beside a
    manager that runs in another one; see `run_in_background`. A body that cannot be wound back is not sent again, and
    then the 401 is the caller's. A redirect to another origin goes on without the token.

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

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """
        Put the token into *request*, which is about to be sent.

        Raises:
            OriginRefused: The request is addressed to another origin, or is http outside loopback. Nothing was sent.
            TokenUnavailable: There is no valid token and none can be fetched now.
            GrantRejected: There is no valid token and the grant is rejected.
            RuntimeError: There is no valid token, and this is the manager's own loop, which it would block.
        """
        signed: PreparedRequest = self.sign(request)
        return signed
