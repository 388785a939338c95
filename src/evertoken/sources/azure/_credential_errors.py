"""Turns the exceptions of azure-core and azure-identity into the two failures. It knows their classes by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from evertoken._model.error_response import failure_from, passes
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.parsing import parse_retry_after
from evertoken._model.redaction import scrub
from evertoken.sources._url import origin_of

__all__ = ["failure_of", "reached"]

# No answer came (azure.core.exceptions).
_NETWORK: Final = frozenset({"ServiceRequestError", "ServiceResponseError", "OSError"})
# The number that Entra puts before its words ("Microsoft Entra authentication and authorization error codes").
_ENTRA: Final = re.compile(r"\bAADSTS\d+")


def reached(error: BaseException) -> bool:
    """Tell whether a server answered, or was asked in vain: *error* is not of the credential alone."""
    return any(_status(one) is not None or _kinds(one) & _NETWORK for one in _chain(error))


def failure_of(error: Exception) -> Exception:
    """
    Return the exception to raise in place of *error*.

    An answer is judged as that of a token endpoint. A failure without one is transient, unless Entra's words with it,
    or its class, say that a person must act. An exception of another library is returned unchanged.
    """
    for one in _chain(error):
        status = _status(one)
        if status is not None:
            response = getattr(one, "response", None)
            after = parse_retry_after(_headers(response).get("Retry-After"), None)
            url = str(getattr(getattr(response, "request", None), "url", ""))
            origin = origin_of(url) if "://" in url else None
            return failure_from(_body(response), status=status, retry_after=after, origin=origin)
    said = scrub(str(getattr(error, "message", None) or error))
    if reached(error):
        return TransientRefreshError(f"the credential did not reach its server: {said}")
    return _unanswered(_kinds(error), said) or error


def _unanswered(kinds: set[str], said: str) -> Exception | None:
    """Return the failure that no answer is known of, or None for an error that is not of Azure's SDK."""
    code = _ENTRA.search(said)
    if "AuthenticationRequiredError" in kinds:
        return GrantRejected("interaction_required", said)
    if "ClientAuthenticationError" in kinds and code is not None and not passes(said):
        return GrantRejected(code[0], said)
    return TransientRefreshError(f"the credential gave no token: {said}") if "AzureError" in kinds else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """
    Yield *error* and its causes: azure-identity raises ClientAuthenticationError from the exception that happened.
    """
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _headers(response: Any) -> Mapping[str, str]:
    headers = getattr(response, "headers", None)
    return headers if isinstance(headers, Mapping) else {}


def _body(response: Any) -> Mapping[str, Any]:
    """Return the members of the answer, as far as it was read and is JSON."""
    try:
        fields = json.loads(response.text())
    except Exception:  # noqa: BLE001 - each transport has its own for a body that was not read
        return {}
    return fields if isinstance(fields, dict) else {}
