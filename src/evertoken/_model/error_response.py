"""Error answers of a token endpoint (RFC 6749 section 5.2) -> one of the two failures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from evertoken._model.errors import GrantRejected, TransientRefreshError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["REJECTIONS", "failure_from", "passes"]

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

# Failures that pass under codes that reject, by the number that Microsoft Entra puts first ("Microsoft Entra
# authentication and authorization error codes"), and an assertion whose times do not fit the server's clock.
_PASSING: Final = re.compile(
    r"AADSTS(?:40010|50196|700024|90006|90024|90033|90055|90090)\b"
    r"|(?:issued|too far) in the future|not yet valid|valid time range|reasonable timeframe|clock skew"
    r"|claim \('(?:iat|exp|nbf)'\)",
    re.IGNORECASE,
)


def passes(words: object, /) -> bool:
    """Tell whether an error description says that the failure passes, whatever its code says."""
    return isinstance(words, str) and _PASSING.search(words) is not None


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

    A status of 429 or 5xx is transient, also if the body names a terminal error. So is a code that is neither in
    `REJECTIONS` nor in *codes*, the codes that the server is known for: providers throttle with 400 and 403 too. So is
    any code whose description `passes`.
    """
    code = fields.get("error")
    code = code if isinstance(code, str) and code else None
    passing = status is not None and (status == 429 or status >= 500)  # noqa: PLR2004 - RFC 6585, RFC 9110
    excused = passes(fields.get("error_description"))
    if code is not None and (code in REJECTIONS or code in codes) and not passing and not excused:
        return GrantRejected(code, _text(fields.get("error_description")), _text(fields.get("error_uri")))
    said = " ".join(str(part) for part in ("the token endpoint answered", status, code) if part is not None)
    said = f"{said}: {fields['error_description']}" if excused else said
    # 503 and 429 mean "not done"; behind a gateway, 500, 502 and 504 may come after the work was done.
    ambiguous = status is not None and status >= 500 and status != 503  # noqa: PLR2004 - RFC 9110
    return TransientRefreshError(_text(said) or said, retry_after=retry_after, ambiguous=ambiguous)


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return "".join(character if character.isprintable() else " " for character in value)[:200]
