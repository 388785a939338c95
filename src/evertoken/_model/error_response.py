"""Error answers of a token endpoint (RFC 6749 section 5.2) -> one of the two failures."""

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


# Members of an answer that are secrets.
_SECRET: Final = ("access_token", "refresh_token", "id_token", "client_secret", "device_code", "assertion", "password")

# More of a text than this is not compared with a pattern, in characters.
_LONGEST: Final = 1000


def passes(words: object, /) -> bool:
    """Tell whether an error description says that the failure passes, whatever its code says."""
    return isinstance(words, str) and _PASSING.search(words) is not None


@final
@dataclass(frozen=True, slots=True)
class Rejection:
    """
    An error answer by which a server says that a person must act, where it does not use the codes of RFC 6749.

    Args:
        pattern: A regular expression for what stands at *at*. It is looked for without regard to case.

        at: Where the server has its code, as in "status" or "error.code".

        description_at: Where its words are, as in "message".

    Raises:
        ValueError: *pattern* is no regular expression.
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
        # The pattern is the user's, and may be slow on a long text.
        return text if text and re.search(self.pattern, text[:_LONGEST], re.IGNORECASE) else None


def is_error(fields: Mapping[str, Any], codes: Collection[str | Rejection] = (), /) -> bool:
    """
    Tell whether *fields* say that there is an error, whatever the status. Some servers send 200 with it.

    Args:
        fields: The members of the answer. With an access token it is no error.

        codes: As `failure_from` takes them.
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

    A status of 429 or 5xx is transient, also if the body names a terminal error. So is a code that is neither in
    `REJECTIONS` nor in *codes*, the codes that the server is known for: providers throttle with 400 and 403 too. So is
    any code whose description `passes`. The code is found in every shape that servers give it, not only in the one of
    RFC 6749 section 5.2.

    Args:
        fields: The members of the answer.

        status: Its status.

        retry_after: Seconds that the server asks to wait.

        codes: Codes, and whole answers, by which this server rejects.

        origin: Who answered, for the message.

        secrets: What must not be seen in the error.

        rejected: Whether the status alone says that a person must act.
    """
    # Some servers say back in words what they send beside them.
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
        # It was said in one text.
        words = words[len(shown) + 1 :].strip() or None
    if ((code is not None and not passing) or rejected) and not passes(words):
        uri = fields.get("error_uri")
        page = public_uri(uri)
        uri = None if page is None else scrub(page, hidden)
        return GrantRejected(shown or "invalid_client", words, uri, origin=origin, status=status)
    said = " ".join(str(one) for one in (origin or "the token endpoint", "answered", status) if one is not None)
    # 503 and 429 mean "not done"; behind a gateway, 500, 502 and 504 may come after the work was done.
    ambiguous = status is not None and status >= 500 and status != 503  # noqa: PLR2004 - RFC 9110
    message = f"{said}{f' {shown}' if shown else ''}{f': {words}' if words else ''}"
    return TransientRefreshError(message, retry_after=retry_after, ambiguous=ambiguous, status=status)


def _rejecting(fields: Mapping[str, Any], codes: Collection[str | Rejection]) -> str | None:
    """Return the code by which *fields* reject, or None."""
    for one in codes:
        found = one.code_in(fields) if isinstance(one, Rejection) else None
        if found is not None:
            # What matched may be a sentence.
            return found if re.fullmatch(r"[\w.-]{1,100}", found) else standard_code(fields) or "invalid_grant"
    standard = standard_code(fields)
    if standard is not None:
        return standard
    own = {one.lower(): one for one in codes if isinstance(one, str)}
    return next((own[code.lower()] for code in codes_in(fields) if code.lower() in own), None)
