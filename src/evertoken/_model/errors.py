"""
The exceptions of this library, one class for each reaction of a caller.

    TokenError
    ├── TransientRefreshError   a fetch failed and is worth trying again
    ├── GrantRejected           the authorization server said no: a person must act
    ├── TokenUnavailable        get() has no valid token to return
    ├── OriginRefused           a token was about to go to the wrong origin
    └── ManagerClosed           the manager is closed, or closing

Misuse (a manager that is not started, another process, an unknown key) raises a RuntimeError, LookupError, ValueError
or TypeError whose message names the remedy. It never raises a TokenError.

Errors hold only text and numbers. They hold no request, response, client or foreign exception, because those contain
secrets. A server's words are kept as one line of limited length, without control characters and direction overrides.
"""

from __future__ import annotations

from typing import Final, final

from evertoken._model.plain_text import one_line, public_uri

__all__ = [
    "GrantRejected",
    "ManagerClosed",
    "OriginRefused",
    "TokenError",
    "TokenUnavailable",
    "TransientRefreshError",
]

# Messages, descriptions and codes are cut to these lengths, in characters.
_LONGEST: Final = 2000
_LONGEST_DESCRIPTION: Final = 1000
_LONGEST_CODE: Final = 200


class TokenError(Exception):
    """The base class of all errors of this library. It is never raised itself."""


@final
class TransientRefreshError(TokenError):
    """
    A fetch failed for a temporary reason: DNS, connect, timeout, 5xx, 429, or an unreadable answer.

    Sources raise it, and the manager tries again by its retry schedule.

    Args:
        message: A description of the failure, without secrets.

        retry_after: The seconds that the server asked to wait (the Retry-After field, RFC 9110 section 10.2.3).

        ambiguous:
            Whether the request was sent and its outcome is unknown, so that a rotating refresh token may have been
            spent.

        status:
            The status of the answer, if there was one. 429 and 503 slow down all keys of the provider. Any other status
            from 400 to 499 concerns only its own key (RFC 9110 section 15.5).

    Raises:
        TypeError: *retry_after* is not a number of seconds.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, ambiguous: bool = False, status: int | None = None
    ) -> None:
        super().__init__(one_line(message, _LONGEST))
        if retry_after is not None and (isinstance(retry_after, bool) or not isinstance(retry_after, int | float)):
            msg = f"retry_after must be a number of seconds or None, not {type(retry_after).__name__}"
            raise TypeError(msg)
        self.retry_after = retry_after
        self.ambiguous = ambiguous
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_transient, (str(self), self.retry_after, self.ambiguous, self.status)


@final
class GrantRejected(TokenError):
    """
    The authorization server rejected the grant or the client (RFC 6749 section 5.2): a person must act.

    Args:
        error: The error code, for example "invalid_grant".

        error_description: The server's explanation for developers, if any.

        error_uri: A page about the error, if any. Only an http or https URL is kept. Its query is removed, because it
            may hold a token, except for an error number such as "?code=700016".

        origin: The scheme and host of the server that rejected, if a server did.

        status: The status of the server's answer, if known.
    """

    def __init__(
        self,
        error: str,
        error_description: str | None = None,
        error_uri: str | None = None,
        *,
        origin: str | None = None,
        status: int | None = None,
    ) -> None:
        error = one_line(error, _LONGEST_CODE)
        if error_description is not None:
            error_description = one_line(error_description, _LONGEST_DESCRIPTION)
        if origin is not None:
            origin = one_line(origin, _LONGEST_CODE)
        said = error if error_description is None else f"{error}: {error_description}"
        by = "" if origin is None else f" ({origin} answered{'' if status is None else f' {status}'})"
        super().__init__(said + by)
        self.error = error
        self.error_description = error_description
        self.error_uri: str | None = public_uri(error_uri)
        self.origin = origin
        self.status = status

    def again(self) -> GrantRejected:
        """Return an equal exception, for another caller to raise."""
        return GrantRejected(self.error, self.error_description, self.error_uri, origin=self.origin, status=self.status)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_rejected, (self.error, self.error_description, self.error_uri, self.origin, self.status)


@final
class TokenUnavailable(TokenError):
    """
    There is no valid token and none could be fetched now. The failure is attached as the cause.

    Args:
        message: The key and the reason.

        retry_at:
            The instant (epoch seconds) of the next attempt. It is None if no attempt is planned. Until then callers
            start no fetch.
    """

    def __init__(self, message: str, *, retry_at: float | None = None) -> None:
        super().__init__(one_line(message, _LONGEST))
        self.retry_at = retry_at

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_unavailable, (str(self), self.retry_at)


@final
class OriginRefused(TokenError):
    """
    A request was about to go over plain http, or to an origin that its auth object is not bound to.

    An origin is scheme, host and port. The request was not sent.
    """


@final
class ManagerClosed(TokenError):
    """The manager is closed or closing. Enter it again to use it again."""


def _rebuild_transient(
    message: str,
    retry_after: float | None,
    ambiguous: bool,  # noqa: FBT001 - pickle passes by position
    status: int | None,
) -> TransientRefreshError:
    return TransientRefreshError(message, retry_after=retry_after, ambiguous=ambiguous, status=status)


def _rebuild_rejected(
    error: str, error_description: str | None, error_uri: str | None, origin: str | None, status: int | None
) -> GrantRejected:
    return GrantRejected(error, error_description, error_uri, origin=origin, status=status)


def _rebuild_unavailable(message: str, retry_at: float | None) -> TokenUnavailable:
    return TokenUnavailable(message, retry_at=retry_at)
