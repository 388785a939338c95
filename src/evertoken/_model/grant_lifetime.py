"""How long the grant behind a token lives, where the server tells: until then its refresh token is to be used."""

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

# A grant whose death moves by less than this was not put off.
_NOISE: Final = 2.0

#: The extra field of a token that says when its grant dies (epoch seconds): the refresh token, and all that it brings.
GRANT_EXPIRES_AT: Final = "refresh_token_expires_at"
#: The one that says since when it is so (epoch seconds): an answer that puts its death off counts anew.
GRANT_ISSUED_AT: Final = "refresh_token_issued_at"
#: The extra field that says that the refresh token was rejected: when ("at"), how ("error"), and which it was ("of").
GRANT_REJECTED: Final = "refresh_token_rejected"
#: The two instants.
GRANT_CLOCK: Final = frozenset({GRANT_EXPIRES_AT, GRANT_ISSUED_AT})

# How servers say for how many seconds a refresh token lives: Keycloak; GitHub, LinkedIn and Google; Intuit. Keycloak
# says 0 for one that lives for ever.
_LIFETIMES: Final = ("refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in")
#: The part of a grant's life by which its refresh token is used at the latest.
GRANT_USED_BY: Final = 0.8

#: Fields that are about the answer that has them, and about no later one.
OF_ONE_ANSWER: Final = GRANT_CLOCK.union(_LIFETIMES, {GRANT_REJECTED})


def grant_clock(lifetime: float | None, requested_at: float, current: Token | None, /) -> dict[str, float]:
    """Return the two extra fields of a grant that lives for *lifetime* seconds; nothing where that is not known."""
    if lifetime is None:
        return {}
    before = {} if current is None else current.extra
    dies, died, since = requested_at + lifetime, number(before.get(GRANT_EXPIRES_AT)), before.get(GRANT_ISSUED_AT)
    put_off = died is None or dies > died + _NOISE
    since = None if put_off else number(since)
    return {GRANT_EXPIRES_AT: dies, GRANT_ISSUED_AT: requested_at if since is None else since}


def grant_lifetime(fields: Mapping[str, Any], /) -> float | None:
    """Return for how many seconds the refresh token of an answer lives, if it says so."""
    for name in _LIFETIMES:
        seconds = number(fields.get(name))
        if seconds is not None and 0.0 < seconds <= MAX_LIFETIME:
            return seconds
    return None
