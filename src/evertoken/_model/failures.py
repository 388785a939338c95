"""
What one fetch raised -> one of the two failures, with nothing in it that holds a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.redaction import describe, scrub

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest

__all__ = ["Overdue", "failure_of", "is_sign_out", "signed_out"]

# No secret is shorter than this, and few words are longer.
_LONG: Final = 16


@final
class Overdue(Exception):
    """
    A bounded call did not end in time. It has been cancelled, and is no longer waited for.
    """


def signed_out() -> GrantRejected:
    """
    Return what callers are told of a key that was signed out.
    """
    return GrantRejected("revoked", "the key was signed out; refresh() begins anew")


def is_sign_out(error: BaseException | None, /) -> bool:
    """
    Tell whether *error* says that a key was signed out.
    """
    return isinstance(error, GrantRejected) and error.error == "revoked"


def failure_of(error: BaseException, request: FetchRequest, /) -> TransientRefreshError | GrantRejected:
    """
    Return a new error for whatever the source raised, without its context, traceback and secrets.

    A foreign exception is transient: a blip must not log anybody out. It is ambiguous if the request had been sent.
    """
    token = request.current
    secrets: list[str | None] = []
    if token is not None:
        # What came with it may be a secret as well, as a key that signs.
        more = (value for value in token.extra.values() if isinstance(value, str) and len(value) >= _LONG)
        secrets = [token.access_token, token.refresh_token, *more]
    if isinstance(error, GrantRejected):
        said = None if error.error_description is None else scrub(error.error_description, secrets)
        return GrantRejected(scrub(error.error, secrets), said, error.error_uri)
    if isinstance(error, TransientRefreshError):
        return TransientRefreshError(
            scrub(str(error), secrets), retry_after=error.retry_after, ambiguous=error.ambiguous
        )
    if isinstance(error, Overdue):
        return TransientRefreshError(f"no answer within {request.timeout:g} s", ambiguous=request.sent)
    return TransientRefreshError(describe(error, secrets), ambiguous=request.sent)
