"""Turn the exception that a fetch raised into one of the two failures, without any secret in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.lifetime import MAX_LIFETIME
from evertoken._model.redaction import describe, scrub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evertoken._model.fetch_request import FetchRequest
    from evertoken._model.token import Token

__all__ = ["Overdue", "failure_of", "held_back", "is_sign_out", "signed_out"]

# Secrets are at least this long, and few words are longer.
_LONG: Final = 16
# The messages of this many failures in a group are shown.
_TOLD: Final = 10


@final
class Overdue(Exception):
    """A bounded call did not end in time. It was cancelled, and nobody waits for it any longer."""


_OURS: Final = (GrantRejected, TransientRefreshError, Overdue)


def signed_out() -> GrantRejected:
    """Return the error for callers of a key that was signed out."""
    return GrantRejected("revoked", "the key was signed out; refresh() begins anew")


def held_back() -> TransientRefreshError:
    """Return the error for callers while a token is held back because the store has not kept it."""
    return TransientRefreshError("the store did not keep the token, which is held back")


def is_sign_out(error: BaseException | None, /) -> bool:
    """Tell whether *error* says that a key was signed out."""
    return isinstance(error, GrantRejected) and error.error == "revoked"


def failure_of(error: BaseException, request: FetchRequest, /) -> TransientRefreshError | GrantRejected:
    """
    Return a new error for the exception that the source raised, without its context, traceback and secrets.

    A foreign exception is transient, because a short disturbance must not log anybody out. It is ambiguous if the
    request was already sent. An error of this library counts as raised if it is in an exception group, or is the cause
    of a foreign exception. Among several errors a rejection wins. Otherwise the longest `retry_after` counts, and one
    ambiguous failure makes the result ambiguous.

    Raises:
        KeyboardInterrupt: A group contains it, so the process should end.
        SystemExit: A group contains it, so the process should end.
    """
    found = list(_inside(error))
    ending = next((one for one in found if isinstance(one, KeyboardInterrupt | SystemExit)), None)
    if ending is not None:
        raise ending
    secrets = _secrets_of(request.current)
    rejected = next((one for one in found if isinstance(one, GrantRejected)), None)
    if rejected is not None:
        said = None if rejected.error_description is None else scrub(rejected.error_description, secrets)
        code = scrub(rejected.error, secrets)
        uri = None if rejected.error_uri is None else scrub(rejected.error_uri, secrets)
        return GrantRejected(code, said, uri, origin=rejected.origin, status=rejected.status)
    ours = [one for one in found if isinstance(one, TransientRefreshError)]
    # A foreign exception does not say whether its request was answered.
    ambiguous = any(one.ambiguous for one in ours) or (len(ours) < len(found) and request.sent)
    words = "; ".join(_words(one, request, secrets) for one in (ours or found)[:_TOLD])
    status = _status(found)
    return TransientRefreshError(scrub(words), retry_after=_longest(ours), ambiguous=ambiguous, status=status)


def _words(error: BaseException, request: FetchRequest, secrets: Iterable[str | None]) -> str:
    if isinstance(error, TransientRefreshError):
        return scrub(str(error), secrets)
    if isinstance(error, Overdue):
        return f"no answer within {request.timeout:g} s"
    return describe(error, secrets)


def _longest(failures: Iterable[TransientRefreshError]) -> float | None:
    # NaN is not a wait, and an int may be too large for arithmetic.
    asked = (one.retry_after for one in failures)
    waits = [min(max(seconds, 0.0), MAX_LIFETIME) for seconds in asked if seconds is not None and seconds == seconds]  # noqa: PLR0124
    return max(waits, default=None)


def _status(found: Iterable[BaseException]) -> int | None:
    # Failures without a status and pauses concern all keys of a provider. They win over failures that concern one key.
    seen = [one.status if isinstance(one, TransientRefreshError) else None for one in found]
    known = [status for status in seen if status is not None]
    return max(known, default=None) if len(known) == len(seen) else None


def _inside(error: BaseException) -> Iterator[BaseException]:
    """
    Yield the errors inside *error*: the members of groups, and a cause of ours in place of the exception it caused.
    """
    # Each is paired with the foreign exception that it caused. A loop is used because groups may be nested deeply.
    left: list[tuple[BaseException, BaseException | None]] = [(error, None)]
    seen, told = set[int](), set[int]()
    while left:
        one, outer = left.pop()
        again = id(one) in seen
        seen.add(id(one))
        if isinstance(one, BaseExceptionGroup) and not again:
            left += [(member, outer) for member in reversed(one.exceptions)]
            continue
        ours = isinstance(one, _OURS)
        if not ours and one.__cause__ is not None and not again:
            left.append((one.__cause__, outer or one))
            continue
        leaf = one if ours or outer is None else outer
        if id(leaf) not in told:
            told.add(id(leaf))
            yield leaf


def _secrets_of(token: Token | None) -> list[str | None]:
    if token is None:
        return []
    # Its other fields may hold secrets too, such as a key that signs.
    more = (value for value in token.extra.values() if isinstance(value, str) and len(value) >= _LONG)
    return [token.access_token, token.refresh_token, *more]
