"""The lifetime of the grant behind a token, if the server states it. The refresh token must be used before it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from evertoken._model.lifetime import MAX_LIFETIME
from evertoken._model.parsing import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evertoken._model.token import Token

__all__ = [
    "GRANT_CLOCK",
    "GRANT_EXPIRES_AT",
    "GRANT_ISSUED_AT",
    "GRANT_REJECTED",
    "GRANT_USED_BY",
    "OF_ONE_ANSWER",
    "grant_clock",
    "grant_lifetime",
]

# If the end of a grant moves by less than this, in seconds, the refresh did not extend the grant.
_NOISE: Final = 2.0

#: The extra field of a token with the instant (epoch seconds) at which its grant, and so its refresh token, expires.
GRANT_EXPIRES_AT: Final = "refresh_token_expires_at"
#: The extra field with the instant from which the end was known. An answer that extends the grant sets it anew.
GRANT_ISSUED_AT: Final = "refresh_token_issued_at"
#: The extra field for a rejected refresh token: when ("at"), the error ("error"), and which token it was ("of").
GRANT_REJECTED: Final = "refresh_token_rejected"
#: The names of the two fields with instants.
GRANT_CLOCK: Final = frozenset({GRANT_EXPIRES_AT, GRANT_ISSUED_AT})

# Names under which servers state the lifetime of a refresh token in seconds: Keycloak; GitHub, LinkedIn and Google;
# Intuit. Keycloak sends 0 for a refresh token that never expires.
_LIFETIMES: Final = ("refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in")
#: The part of a grant's life after which its refresh token is used at the latest.
GRANT_USED_BY: Final = 0.8

#: Fields that belong to one answer only. Later answers do not inherit them.
OF_ONE_ANSWER: Final = GRANT_CLOCK.union(_LIFETIMES, {GRANT_REJECTED})


def grant_clock(lifetime: float | None, requested_at: float, current: Token | None, /) -> dict[str, float]:
    """Return the two extra fields of a grant that lives for *lifetime* seconds, or nothing if that is not known."""
    if lifetime is None:
        return {}
    before = {} if current is None else current.extra
    dies, died, since = requested_at + lifetime, number(before.get(GRANT_EXPIRES_AT)), before.get(GRANT_ISSUED_AT)
    put_off = died is None or dies > died + _NOISE
    since = None if put_off else number(since)
    return {GRANT_EXPIRES_AT: dies, GRANT_ISSUED_AT: requested_at if since is None else since}


def grant_lifetime(fields: Mapping[str, Any], /) -> float | None:
    """Return the lifetime of the refresh token in an answer, in seconds, if the answer states it."""
    for name in _LIFETIMES:
        seconds = number(fields.get(name))
        if seconds is not None and 0.0 < seconds <= MAX_LIFETIME:
            return seconds
    return None
