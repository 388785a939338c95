"""
What an endpoint says -> a Token, or the RFC's error.

The one parser for all sources. Each odd `expires_in` has one outcome, decided here:

==========================================  ==========================================================
the answer says                             outcome
==========================================  ==========================================================
a positive int, float or numeric string     the lifetime in seconds, counted from the start of the request
zero or negative                            the answer is dead on arrival: a transient failure
missing, null, non-numeric, a boolean,      says nothing: `expires_at`, `expires_on`, then the JWT's `exp`,
NaN, infinite, more than ten years          then the configured default, then unknown (used until a 401)
==========================================  ==========================================================

Absolute instants (`expires_at`, `expires_on`, `refresh_on`, a JWT's `exp`) are the server's clock; they are
corrected by the skew learnt from the Date field of the same answer.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, final

from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.parsing import instant, number
from evertoken._model.token import Token

__all__ = ["GRANT_EXPIRES_AT", "GRANT_ISSUED_AT", "REJECTIONS", "Answer", "failure_from", "token_from"]

MAX_LIFETIME: Final = 10 * 365 * 86_400.0
# Date has whole seconds: less than this is noise, not skew.
_SKEW_NOISE: Final = 2.0

#: Error codes that no retry cures (RFC 6749 sections 4.1.2.1 and 5.2, RFC 8707 section 2, OpenID Connect Core 3.1.2.6).
REJECTIONS: Final = frozenset({
    "access_denied",
    "consent_required",
    "interaction_required",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "login_required",
    "unauthorized_client",
    "unsupported_grant_type",
})  # fmt: skip

#: The extra field of a token that says when its grant dies (epoch seconds): the refresh token, and all that it brings.
GRANT_EXPIRES_AT: Final = "refresh_token_expires_at"
#: The one that says since when it is so (epoch seconds): an answer that puts its death off counts anew.
GRANT_ISSUED_AT: Final = "refresh_token_issued_at"

# How servers say for how many seconds a refresh token lives: Keycloak; GitHub, LinkedIn and Google; Intuit. Keycloak
# says 0 for one that lives for ever.
_GRANT_LIFETIMES: Final = ("refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in")
_GRANT_USED_BY: Final = 0.8

_KNOWN: Final = frozenset({
    "access_token", "token_type", "expires_in", "expires_at", "expires_on", "refresh_in", "refresh_on",
    "refresh_token", "scope",
})  # fmt: skip


@final
@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """
    A successful answer of a token endpoint (RFC 6749 section 5.1).

    Args:
        fields: The members of the JSON object.

        date: The server's own time when it answered (epoch seconds, from the Date field), if known.

        default_lifetime: Seconds that such a token lives where neither the answer nor the token tells, if known.

        not_after: The instant (epoch seconds) that it does not outlive, whatever it says of itself.
    """

    fields: Mapping[str, Any]
    date: float | None = None
    default_lifetime: float | None = None
    not_after: float = math.inf

    def __repr__(self) -> str:
        return f"Answer(fields={sorted(map(str, self.fields))}, date={self.date!r})"

    def __reduce__(self) -> NoReturn:
        msg = "an Answer carries tokens, and is not pickled"
        raise TypeError(msg)


def token_from(
    answer: object,
    /,
    *,
    requested_at: float,
    received_at: float | None = None,
    current: Token | None = None,
    default_lifetime: float | None = None,
) -> Token:
    """
    Make a `Token` of whatever a source returned.

    Args:
        answer: A `Token`, an `Answer`, a mapping as the endpoint answers it, a pair of token and seconds, or a string.

        requested_at: The instant (epoch seconds) at which the request started; lifetimes count from here.

        received_at: The instant at which the answer was complete, to learn the server's skew.

        current: The token before; its refresh token is kept where the answer omits one (RFC 6749 section 6).

        default_lifetime: Seconds to assume where nothing tells.

    Raises:
        TransientRefreshError: The answer is unreadable, or the token in it is already expired.
        GrantRejected: A mapping with a terminal `error` member.
    """
    if isinstance(answer, Token):
        if not answer.valid_at(max(requested_at, received_at or requested_at)):
            msg = "the token that was answered is already expired"
            raise TransientRefreshError(msg, ambiguous=True)
        return _keeping(answer, current)
    not_after = math.inf
    if isinstance(answer, Answer):
        fields, date, not_after = answer.fields, answer.date, answer.not_after
        # Who asked knows the server better than a policy for all keys.
        default_lifetime = default_lifetime if answer.default_lifetime is None else answer.default_lifetime
    elif isinstance(answer, Mapping):
        fields, date = answer, None
    elif isinstance(answer, tuple) and len(answer) == 2:  # noqa: PLR2004 - a pair
        fields, date = {"access_token": answer[0], "expires_in": answer[1]}, None
    elif isinstance(answer, str):
        fields, date = {"access_token": answer}, None
    else:
        msg = (
            f"a source must return a Token, (token, seconds), a mapping as a token endpoint answers it, or a string; "
            f"this one returned {type(answer).__name__}"
        )
        raise TransientRefreshError(msg)
    if fields.get("error") and not fields.get("access_token"):
        # Some providers answer errors with status 200.
        raise failure_from(fields)
    skew = _skew(date, requested_at, requested_at if received_at is None else received_at)
    access_token = _access_token(fields)
    expires_at = _expires_at(fields, access_token, requested_at, skew)
    grant_lifetime = _first_number(fields, _GRANT_LIFETIMES)
    if expires_at is None and default_lifetime is not None:
        expires_at = requested_at + default_lifetime
    if not_after < math.inf:
        expires_at = not_after if expires_at is None else min(expires_at, not_after)
    if expires_at is not None and expires_at <= max(requested_at, received_at or requested_at):
        msg = "the token in the answer is already expired"
        raise TransientRefreshError(msg, ambiguous=True)
    refresh_token = fields.get("refresh_token")
    token = Token(
        access_token,
        token_type=_token_type(fields.get("token_type")),
        issued_at=requested_at,
        expires_at=expires_at,
        refresh_at=_refresh_at(fields, requested_at, skew, grant_lifetime),
        refresh_token=refresh_token if isinstance(refresh_token, str) and refresh_token else None,
        scope=_scope(fields.get("scope")),
        extra={
            **{str(name): value for name, value in fields.items() if name not in _KNOWN},
            **_grant_clock(grant_lifetime, requested_at, current),
        },
    )
    return _keeping(token, current)


def failure_from(
    fields: Mapping[str, Any],
    /,
    *,
    status: int | None = None,
    retry_after: float | None = None,
    codes: Collection[str] = (),
) -> TransientRefreshError | GrantRejected:
    """
    Make the error of an error answer (RFC 6749 section 5.2).

    A status of 429 or 5xx is transient whatever the body says; so is a code that is not in `REJECTIONS`, nor in those
    *codes* that the server is known for, as providers throttle with 400 and 403 too.
    """
    code = fields.get("error")
    code = code if isinstance(code, str) and code else None
    passing = status is not None and (status == 429 or status >= 500)  # noqa: PLR2004 - RFC 6585, RFC 9110
    if code is not None and (code in REJECTIONS or code in codes) and not passing:
        return GrantRejected(code, _text(fields.get("error_description")), _text(fields.get("error_uri")))
    said = " ".join(str(part) for part in ("the token endpoint answered", status, code) if part is not None)
    # 503 and 429 mean "not done"; behind a gateway, 500, 502 and 504 may come after the work was done.
    ambiguous = status is not None and status >= 500 and status != 503  # noqa: PLR2004 - RFC 9110
    return TransientRefreshError(_text(said) or said, retry_after=retry_after, ambiguous=ambiguous)


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
        msg = "unreadable answer: no access_token in it"
        raise TransientRefreshError(msg, ambiguous=True)
    # A line break would end the header field it is sent in; RFC 6750 section 2.1 allows no space either.
    if not value.isascii() or not value.isprintable() or " " in value:
        msg = "unreadable answer: access_token has characters that RFC 6750 does not allow"
        raise TransientRefreshError(msg, ambiguous=True)
    return value


def _token_type(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        return "Bearer"
    if not value.isascii() or not value.isprintable() or len(value.split()) > 1:
        msg = "unreadable answer: token_type has characters that RFC 6749 does not allow"
        raise TransientRefreshError(msg, ambiguous=True)
    # Apigee says BearerToken. The type is case-insensitive (RFC 6749 section 5.1); resource servers are often not.
    return "Bearer" if value.strip().lower() in {"bearer", "bearertoken"} else value.strip()


def _scope(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return None


def _expires_at(fields: Mapping[str, Any], access_token: str, requested_at: float, skew: float) -> float | None:
    lifetime = number(fields.get("expires_in"))
    if lifetime is not None and lifetime <= MAX_LIFETIME:
        return requested_at + lifetime
    for name in ("expires_at", "expires_on"):
        at = instant(fields.get(name))
        if at is not None and at - skew <= requested_at + MAX_LIFETIME:
            return at - skew
    at = number(_jwt_claims(access_token).get("exp"))
    if at is not None and at - skew <= requested_at + MAX_LIFETIME:
        return at - skew
    return None


def _refresh_at(
    fields: Mapping[str, Any], requested_at: float, skew: float, grant_lifetime: float | None
) -> float | None:
    hint = _hint(fields, requested_at, skew)
    # Where the grant dies before its access token would be due, the refresh token is to be used in time.
    lifetime = number(fields.get("expires_in"))
    if grant_lifetime is None or (lifetime is not None and lifetime < grant_lifetime):
        return hint
    in_time = requested_at + grant_lifetime * _GRANT_USED_BY
    return in_time if hint is None else min(hint, in_time)


def _grant_clock(lifetime: float | None, requested_at: float, current: Token | None) -> dict[str, float]:
    if lifetime is None:
        return {}
    dies, before = requested_at + lifetime, {} if current is None else current.extra
    put_off = dies > before.get(GRANT_EXPIRES_AT, -math.inf) + _SKEW_NOISE
    since = requested_at if put_off else before.get(GRANT_ISSUED_AT, requested_at)
    return {GRANT_EXPIRES_AT: dies, GRANT_ISSUED_AT: since}


def _first_number(fields: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    found = (number(fields.get(name)) for name in names)
    return next((seconds for seconds in found if seconds is not None and 0.0 < seconds <= MAX_LIFETIME), None)


def _hint(fields: Mapping[str, Any], requested_at: float, skew: float) -> float | None:
    seconds = number(fields.get("refresh_in"))
    if seconds is not None and 0.0 < seconds <= MAX_LIFETIME:
        return requested_at + seconds
    at = instant(fields.get("refresh_on"))
    return None if at is None or at - skew <= requested_at else at - skew


def _skew(date: float | None, requested_at: float, received_at: float) -> float:
    if date is None:
        return 0.0
    skew = date - (requested_at + received_at) / 2.0
    return 0.0 if abs(skew) <= _SKEW_NOISE + (received_at - requested_at) else skew


def _jwt_claims(access_token: str) -> Mapping[str, Any]:
    # Read, not verified: the claim only schedules our own refresh (RFC 7519 section 4.1.4).
    parts = access_token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return "".join(character if character.isprintable() else " " for character in value)[:200]
