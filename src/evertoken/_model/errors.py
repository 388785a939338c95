"""
What can go wrong, one class for each answer a caller can give.

    TokenError
    ├── TransientRefreshError   a fetch failed and is worth trying again
    ├── GrantRejected           the authorization server said no: a person must act
    ├── TokenUnavailable        get() has nothing valid to give
    ├── OriginRefused           a token was about to go where it does not belong
    └── ManagerClosed           the manager is closed, or closing

Misuse (not started, another process, an unknown key) is a RuntimeError, LookupError, ValueError or TypeError
that names the remedy, and never a TokenError.

Errors carry scalars alone. They hold no request, response, client or foreign exception, for those hold secrets. What a
server said in them is one line of a bounded length, without control characters and direction overrides.
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

# More of a message, of a description and of a code than this is not kept, in characters.
_LONGEST: Final = 2000
_LONGEST_DESCRIPTION: Final = 1000
_LONGEST_CODE: Final = 200


class TokenError(Exception):
    """The base of all errors of this library. Never raised itself."""


@final
class TransientRefreshError(TokenError):
    """
    A fetch failed for a reason that passes: DNS, connect, timeout, 5xx, 429, an unreadable answer.

    Sources raise it; the manager tries again by its retry schedule.

    Args:
        message: What happened, without secrets.

        retry_after: Seconds the server asked to wait (the Retry-After field, RFC 9110 section 10.2.3).

        ambiguous:
            True where the request was sent and its outcome is unknown, so that a rotating refresh token may or
            may not have been spent.

        status:
            The status of the answer, if there was one. 429 and 503 slow down all keys of the provider; another one of
            400 to 499 concerns its key alone (RFC 9110 section 15.5).

    Raises:
        TypeError: *retry_after* is no number of seconds.
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

        error_description: The server's words for the developer, if any.

        error_uri: A page about the error, if any. It is kept if it is an http or https URL, and without its query,
            which may hold a token; of that, only the number of an error stays, as in "?code=700016".

        origin: The scheme and host of the server that said so, if it was a server.

        status: The status of its answer, if known.
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
        """Return the same as another exception, for another caller to raise."""
        return GrantRejected(self.error, self.error_description, self.error_uri, origin=self.origin, status=self.status)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_rejected, (self.error, self.error_description, self.error_uri, self.origin, self.status)


@final
class TokenUnavailable(TokenError):
    """
    There is no valid token and none could be fetched now. The failure is attached as the cause.

    Args:
        message: Which key, and why.

        retry_at:
            The instant (epoch seconds) of the next attempt; None where no attempt is planned. Until then callers
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
    A request went to an origin (scheme, host, port) its auth object is not bound to, or over plain http.

    Nothing was sent.
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
