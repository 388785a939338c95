"""Turn an error answer of a token endpoint (RFC 6749 section 5.2) into one of the two failures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.error_body import at, codes_in, is_number, read_words, standard_code
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.plain_text import public_uri
from evertoken._model.redaction import scrub

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["REJECTIONS", "Rejection", "failure_from", "is_error", "passes"]

#: Error codes that no retry fixes (RFC 6749 sections 4.1.2.1 and 5.2, RFC 8707 section 2, OpenID Connect Core 3.1.2.6).
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

# Temporary failures that servers report with a rejecting code: numbers of Microsoft Entra ("Microsoft Entra
# authentication and authorization error codes"), and assertions whose times do not match the server's clock.
_PASSING: Final = re.compile(
    r"AADSTS(?:40010|50196|700024|90006|90024|90033|90055|90090)\b"
    r"|(?:issued|too far) in the future|not yet valid|valid time range|reasonable timeframe|clock skew"
    r"|claim \('(?:iat|exp|nbf)'\)",
    re.IGNORECASE,
)


# Members of an answer that hold secrets.
_SECRET: Final = ("access_token", "refresh_token", "id_token", "client_secret", "device_code", "assertion", "password")

# A pattern is compared with at most this many characters of a text.
_LONGEST: Final = 1000


def passes(words: object, /) -> bool:
    """Tell whether an error description says that the failure is temporary. The code does not matter."""
    return isinstance(words, str) and _PASSING.search(words) is not None


@final
@dataclass(frozen=True, slots=True)
class Rejection:
    """
    An error answer of a server that does not use the codes of RFC 6749, and means that a person must act.

    Args:
        pattern: A regular expression that is searched in the value at *at*, without regard to case.

        at: Where the server puts its code, for example "status" or "error.code".

        description_at: Where the server puts its description, for example "message".

    Raises:
        ValueError: *pattern* is not a regular expression.
    """

    pattern: str
    at: str = "error"
    description_at: str = "error_description"

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            failure = ValueError(f"pattern must be a regular expression, and {self.pattern!r} is none: {error}")
        else:
            return
        raise failure

    def code_in(self, fields: Mapping[str, Any], /) -> str | None:
        """Return the server's code if *fields* are such an answer."""
        value = at(fields, self.at)
        text = value if isinstance(value, str) else str(value) if is_number(value) else ""
        # The pattern comes from the user, and may be slow on a long text.
        return text if text and re.search(self.pattern, text[:_LONGEST], re.IGNORECASE) else None


def is_error(fields: Mapping[str, Any], codes: Collection[str | Rejection] = (), /) -> bool:
    """
    Tell whether *fields* report an error. The status does not matter, because some servers send errors with 200.

    Args:
        fields: The members of the answer. An answer with an access token is not an error.

        codes: The same as for `failure_from`.
    """
    if fields.get("access_token"):
        return False
    if any(fields.get(name) for name in ("error", "errors", "error_code", "errorCode", "fault", "Error", "Fault")):
        return True
    if any(fields.get(name) is False for name in ("ok", "success")):
        return True
    return _rejecting(fields, codes) is not None


def failure_from(
    fields: Mapping[str, Any],
    /,
    *,
    status: int | None = None,
    retry_after: float | None = None,
    codes: Collection[str | Rejection] = (),
    origin: str | None = None,
    secrets: Iterable[str | None] = (),
    rejected: bool = False,
) -> TransientRefreshError | GrantRejected:
    """
    Make the error of an error answer.

    The result is transient in three cases. The status is 429 or 5xx, even if the body names a terminal error. The code
    is neither in `REJECTIONS` nor in *codes*, because providers throttle with 400 and 403 too. Or `passes` recognises
    the description. The code is found in all shapes that servers use, not only in the one of RFC 6749 section 5.2.

    Args:
        fields: The members of the answer.

        status: The status of the answer.

        retry_after: The seconds that the server asks to wait.

        codes: Codes, and whole answers, by which this server rejects a grant.

        origin: The server that answered. The message names it.

        secrets: Texts that must not appear in the error.

        rejected: Whether the status alone means that a person must act.
    """
    # Some servers repeat, in the description, secrets from other members of the answer.
    beside = (fields.get(name) for name in _SECRET)
    hidden = [secret for secret in (*secrets, *beside) if isinstance(secret, str) and secret]
    places = tuple(one.description_at for one in codes if isinstance(one, Rejection))
    words = read_words(fields, lambda text: scrub(text, hidden), places)
    passing = status is not None and (status == 429 or status >= 500)  # noqa: PLR2004 - RFC 6585, RFC 9110
    code = _rejecting(fields, codes)
    other = code or next(codes_in(fields), None)
    known = code is not None or any(other == one for one in codes)
    shown = other if known or other is None else scrub(other, hidden)
    if words is not None and shown is not None and words.lower().startswith(f"{shown.lower()}:"):
        # One text held both the code and the description.
        words = words[len(shown) + 1 :].strip() or None
    if ((code is not None and not passing) or rejected) and not passes(words):
        uri = fields.get("error_uri")
        page = public_uri(uri)
        uri = None if page is None else scrub(page, hidden)
        return GrantRejected(shown or "invalid_client", words, uri, origin=origin, status=status)
    said = " ".join(str(one) for one in (origin or "the token endpoint", "answered", status) if one is not None)
    # 503 and 429 mean "not done". A gateway may send 500, 502 and 504 after the work was done.
    ambiguous = status is not None and status >= 500 and status != 503  # noqa: PLR2004 - RFC 9110
    message = f"{said}{f' {shown}' if shown else ''}{f': {words}' if words else ''}"
    return TransientRefreshError(message, retry_after=retry_after, ambiguous=ambiguous, status=status)


def _rejecting(fields: Mapping[str, Any], codes: Collection[str | Rejection]) -> str | None:
    """Return the code by which *fields* reject the grant, or None."""
    for one in codes:
        found = one.code_in(fields) if isinstance(one, Rejection) else None
        if found is not None:
            # The match may be a whole sentence.
            return found if re.fullmatch(r"[\w.-]{1,100}", found) else standard_code(fields) or "invalid_grant"
    standard = standard_code(fields)
    if standard is not None:
        return standard
    own = {one.lower(): one for one in codes if isinstance(one, str)}
    return next((own[code.lower()] for code in codes_in(fields) if code.lower() in own), None)
