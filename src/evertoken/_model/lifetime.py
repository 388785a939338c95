"""The lifetime of an access token: turns the fields of an answer into absolute instants of our own clock."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, Final

from evertoken._model.parsing import instant, number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_LIFETIME", "bounded", "expiry_of", "refresh_hint_of", "skew_of"]

#: The longest lifetime of an access token that is believed, in seconds.
MAX_LIFETIME: Final = 10 * 365 * 86_400.0
# Date has whole seconds, so a difference below this is noise and not skew.
_SKEW_NOISE: Final = 2.0


def bounded(at: float, requested_at: float, /) -> float | None:
    """
    Return the instant *at*, or None if it is too far in the future to make sense.

    An instant that is too far in the past counts as ten years ago, so that each result can be used in arithmetic.
    """
    return None if at > requested_at + MAX_LIFETIME else max(at, requested_at - MAX_LIFETIME)


def expiry_of(fields: Mapping[str, Any], access_token: str, requested_at: float, skew: float, /) -> float | None:
    """Return when the access token expires (epoch seconds), or None if neither the answer nor the token states it."""
    lifetime = number(fields.get("expires_in"))
    if lifetime is not None and lifetime <= MAX_LIFETIME:
        return bounded(requested_at + lifetime, requested_at)
    for name in ("expires_at", "expires_on"):
        at = instant(fields.get(name))
        found = None if at is None else bounded(at - skew, requested_at)
        if found is not None:
            return found
    at = number(_jwt_claims(access_token).get("exp"))
    return None if at is None else bounded(at - skew, requested_at)


def refresh_hint_of(fields: Mapping[str, Any], requested_at: float, skew: float, /) -> float | None:
    """Return when the server wants the token replaced (epoch seconds), if it says so."""
    seconds = number(fields.get("refresh_in"))
    if seconds is not None and 0.0 < seconds <= MAX_LIFETIME:
        return requested_at + seconds
    at = instant(fields.get("refresh_on"))
    found = None if at is None else bounded(at - skew, requested_at)
    return None if found is None or found <= requested_at else found


def skew_of(date: float | None, requested_at: float, received_at: float, /) -> float:
    """Return the number of seconds by which the server's clock is ahead of ours, from the Date field of its answer."""
    if date is None:
        return 0.0
    skew = date - (requested_at + received_at) / 2.0
    return 0.0 if abs(skew) <= _SKEW_NOISE + (received_at - requested_at) else skew


def _jwt_claims(access_token: str) -> Mapping[str, Any]:
    # The claim is not verified, because it only schedules our own refresh (RFC 7519 section 4.1.4).
    parts = access_token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
