"""
Turns the answer of a token endpoint into a Token or into the error of the RFC.

All sources use this one parser. It decides the outcome of each unusual `expires_in`:

==========================================  ==========================================================
the answer says                             outcome
==========================================  ==========================================================
a positive int, float or numeric string     the lifetime in seconds, counted from the start of the request
zero or negative                            the access token is dead on arrival: a transient failure, and
                                            the refresh token of the answer is kept
missing, null, non-numeric, a boolean,      says nothing: `expires_at`, `expires_on`, then the JWT's `exp`,
NaN, infinite, more than ten years          then the configured default, then unknown (used until a 401)
==========================================  ==========================================================

Absolute instants (`expires_at`, `expires_on`, `refresh_on`, a JWT's `exp`) are in the server's clock. They are
corrected by the skew, which follows from the Date field of the same answer.

An answer that arrived may have spent the previous refresh token. So its own refresh token is always returned, even if
its access token cannot be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, final

from evertoken._model.answer import Answer
from evertoken._model.error_response import failure_from, is_error
from evertoken._model.errors import TransientRefreshError
from evertoken._model.grant_lifetime import (
    GRANT_CLOCK,
    GRANT_EXPIRES_AT,
    GRANT_ISSUED_AT,
    GRANT_USED_BY,
    OF_ONE_ANSWER,
    grant_clock,
    grant_lifetime,
)
from evertoken._model.lifetime import bounded, expiry_of, refresh_hint_of, skew_of
from evertoken._model.parsing import is_finite, is_token, number
from evertoken._model.redaction import scrub
from evertoken._model.token import KINDS, Token
from evertoken._model.token_fields import standard_fields
from evertoken._model.token_types import scheme_of

__all__ = ["GRANT_EXPIRES_AT", "GRANT_ISSUED_AT", "Response", "read_response"]

# A message repeats at most this many characters of a type.
_LONGEST_TYPE: Final = 60
# A message shows at most this many names of members of an answer.
_MOST_NAMES: Final = 10

# Fields that do not say when to refresh.
_PLAIN: Final = frozenset({"access_token", "token_type", "expires_in", "refresh_token", "scope"})
_KNOWN: Final = frozenset({
    "access_token", "token_type", "expires_in", "expires_at", "expires_on", "refresh_in", "refresh_on",
    "refresh_token", "scope",
})  # fmt: skip


@final
class Response(NamedTuple):
    """
    The result of an answer that arrived.

    Args:
        token: The token to keep. If there is a failure, it is not valid, and only its refresh token is useful.

        failure: Why the access token cannot be used, or None.
    """

    token: Token
    failure: TransientRefreshError | None


def read_response(
    answer: object,
    /,
    *,
    requested_at: float,
    received_at: float | None = None,
    current: Token | None = None,
    default_lifetime: float | None = None,
) -> Response:
    """
    Read the value that a source returned.

    A new refresh token is never dropped. If the access token beside it is expired or cannot be used, the response has
    both the failure and a token with that refresh token.

    Args:
        answer: A `Token`, an `Answer`, a mapping with the endpoint's answer, a pair of token and seconds, or a string.

        requested_at: The instant (epoch seconds) at which the request started. Lifetimes count from here.

        received_at: The instant at which the answer was complete, to compute the server's skew.

        current: The previous token. Its refresh token is kept if the answer omits one (RFC 6749 section 6).

        default_lifetime: The lifetime in seconds to assume if it is stated nowhere.

    Raises:
        TransientRefreshError: The answer cannot be read, and has no refresh token.
        GrantRejected: A mapping has a terminal `error` member.
    """
    received_at = requested_at if received_at is None else received_at
    fields: Mapping[str, Any] = {}
    if isinstance(answer, Token):
        token = answer
    else:
        given = _given(answer)
        fields = given.fields
        if is_error(fields):
            # Some providers send errors with status 200.
            raise failure_from(fields)
        try:
            token = _read(given, requested_at, received_at, current, default_lifetime)
        except TransientRefreshError as error:
            if _refresh_token(fields) is None:
                raise
            # The answer arrived, so nothing about it is ambiguous.
            failure = TransientRefreshError(str(error))
            return Response(_without_access_token(given, requested_at, current), failure)
    token = _keeping(token, current)
    if token.valid_at(max(requested_at, received_at)):
        return Response(token, None)
    if token.refresh_token is not None:
        # The token must stay expired if the clock is set back. Only its refresh token is kept.
        token = token.replace(access_token="", expires_at=token.issued_at, refresh_at=None)
    seconds = number(fields.get("expires_in"))
    said = "" if seconds is None else f": its expires_in is {seconds:g}"
    return Response(token, TransientRefreshError(f"the token in the answer is already expired{said}"))


def _given(answer: object) -> Answer:
    if isinstance(answer, Answer):
        return answer
    if isinstance(answer, Mapping):
        return Answer(standard_fields(answer))
    if isinstance(answer, tuple) and len(answer) == 2:  # noqa: PLR2004 - a pair
        return Answer({"access_token": answer[0], "expires_in": answer[1]})
    if isinstance(answer, str):
        return Answer({"access_token": answer})
    msg = (
        f"a source must return a Token, (token, seconds), a mapping as a token endpoint answers it, or a string; "
        f"this one returned {type(answer).__name__}"
    )
    raise TransientRefreshError(msg)


def _read(
    given: Answer, requested_at: float, received_at: float, current: Token | None, default_lifetime: float | None
) -> Token:
    fields = given.fields
    skew = skew_of(number(given.date), requested_at, received_at)
    access_token = _access_token(fields)
    token_type = _token_type(given, access_token)
    expires_at = expiry_of(fields, access_token, requested_at, skew)
    if expires_at is None:
        # The default of a source wins, because it knows its server better than a policy for all keys does.
        seconds = number(default_lifetime if given.default_lifetime is None else given.default_lifetime)
        expires_at = None if seconds is None else bounded(requested_at + seconds, requested_at)
    limit = number(given.not_after)
    not_after = None if limit is None else bounded(limit, requested_at)
    if not_after is not None:
        expires_at = not_after if expires_at is None else min(expires_at, not_after)
    try:
        return KINDS.get(token_type, Token)(
            access_token,
            token_type=token_type,
            issued_at=requested_at,
            expires_at=expires_at,
            refresh_at=_refresh_at(fields, requested_at, skew),
            refresh_token=_refresh_token(fields),
            scope=_granted(given, current),
            extra=_extra(fields, requested_at, current),
        )
    except ValueError as error:
        # A source may map a type to a word that is not a scheme. The message names the field, but quotes nothing.
        failure = TransientRefreshError(f"unreadable answer: {error}", ambiguous=True)
    raise failure


def _without_access_token(given: Answer, requested_at: float, current: Token | None) -> Token:
    fields = given.fields
    return Token(
        "",
        issued_at=requested_at,
        expires_at=requested_at,
        refresh_token=_refresh_token(fields),
        scope=_granted(given, current),
        extra=_extra(fields, requested_at, current),
    )


def _keeping(token: Token, current: Token | None) -> Token:
    if token.refresh_token is None and current is not None and current.refresh_token is not None:
        extra = dict(token.extra)
        for name in (GRANT_EXPIRES_AT, GRANT_ISSUED_AT):
            if name in current.extra:
                extra.setdefault(name, current.extra[name])
        return token.replace(refresh_token=current.refresh_token, extra=extra)
    return token


def _access_token(fields: Mapping[str, Any]) -> str:
    value = fields.get("access_token")
    if not isinstance(value, str) or not value:
        names = ", ".join(sorted(scrub(str(name))[:_LONGEST_TYPE] for name in fields)[:_MOST_NAMES])
        msg = f"unreadable answer: no access_token in it{', only ' if names else ''}{names}"
        raise TransientRefreshError(msg, ambiguous=True)
    if not is_token(value):
        msg = "unreadable answer: access_token has characters that RFC 6750 does not allow"
        raise TransientRefreshError(msg, ambiguous=True)
    return value


def _token_type(given: Answer, access_token: str) -> str:
    value = given.fields.get("token_type")
    value = value if isinstance(value, str) else ""
    scheme = scheme_of(value, given.token_types)
    if scheme is not None:
        return scheme
    if not value.isascii() or not value.isprintable():
        msg = "unreadable answer: token_type has characters that RFC 6749 does not allow"
    else:
        said = scrub(value, [access_token, _refresh_token(given.fields)])[:_LONGEST_TYPE]
        msg = f"the answer has a token of the type {said!r}, which is not known (RFC 6749 section 7.1)"
    raise TransientRefreshError(msg, ambiguous=True)


def _refresh_token(fields: Mapping[str, Any]) -> str | None:
    value = fields.get("refresh_token")
    return value if isinstance(value, str) and value else None


def _granted(given: Answer, current: Token | None) -> str | None:
    scope = _scope(given.fields.get("scope"))
    if scope is not None:
        return scope
    if given.requested_scope is not None:
        return given.requested_scope
    return None if current is None else current.scope


def _scope(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return " ".join(str(one) for one in value if isinstance(one, str) or is_finite(one))
    return None


def _extra(fields: Mapping[str, Any], requested_at: float, current: Token | None) -> dict[str, Any]:
    # Fields of the login stay valid for its grant, such as the URL of the user's instance. The instants of the grant
    # have their own rules. Without a grant, each answer stands alone.
    before = current.extra if current is not None and current.refresh_token is not None else {}
    kept = {name: value for name, value in before.items() if name not in OF_ONE_ANSWER}
    if fields.keys() <= _KNOWN:
        return kept
    # The two instants of the grant are our own fields. If the server uses these names, only numbers count.
    extra = {
        name: value
        for name, value in fields.items()
        if isinstance(name, str) and name not in _KNOWN and (name not in GRANT_CLOCK or is_finite(value))
    }
    return {**kept, **extra, **grant_clock(grant_lifetime(fields), requested_at, current)}


def _refresh_at(fields: Mapping[str, Any], requested_at: float, skew: float) -> float | None:
    if fields.keys() <= _PLAIN:
        return None
    hint, lives = refresh_hint_of(fields, requested_at, skew), grant_lifetime(fields)
    # If the grant expires before its access token is due, the refresh token must be used in time.
    lifetime = number(fields.get("expires_in"))
    if lives is None or (lifetime is not None and lifetime < lives):
        return hint
    in_time = requested_at + lives * GRANT_USED_BY
    return in_time if hint is None else min(hint, in_time)
