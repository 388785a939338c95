"""Credentials of google-auth, of any kind."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._engine.function_threads import threads_of
from evertoken._model.answer import Answer
from evertoken._model.error_body import codes_in
from evertoken._model.error_response import failure_from
from evertoken._model.errors import GrantRejected, TransientRefreshError
from evertoken._model.guarded import Guarded, Hidden
from evertoken._model.parsing import parse_retry_after
from evertoken._model.redaction import scrub

if TYPE_CHECKING:
    from evertoken._model.protocols import FetchRequest

__all__ = ["GoogleAuthCredentials"]

_PASSING: Final = frozenset({408, 429})
_SERVERS: Final = range(500, 600)
_ERRORS: Final = 400
# Errors that may go away, whatever the status of the answer.
_LATER: Final = frozenset({
    "ABORTED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "internal_failure",
    "rate_limit_exceeded", "server_error", "slow_down", "temporarily_unavailable",
})  # fmt: skip


@final
class GoogleAuthCredentials(Guarded):
    """
    Tokens by credentials of google-auth, for kinds of credentials that have no source of their own here.

    `GoogleAuthCredentials(google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])[0])`. Each
    fetch calls their `refresh`, in a thread, and takes no token that they have already. Nothing else should refresh
    them. A store needs a namespace, because google-auth does not tell whose credentials they are.

    Args:
        credentials: The credentials (`google.auth.credentials.Credentials`), with the scopes that they need.

        provider: Keys of one provider share its limits, its pauses and its outages. None: this source is alone.

    Raises:
        TypeError: They have no `refresh`, or it is asynchronous.
        ImportError: The extra `google` is not installed.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(self, credentials: Any, *, provider: str | None = None) -> None:
        try:
            from google.auth import exceptions  # noqa: PLC0415 - for this source alone, and not for its neighbours
            from google.auth.transport.requests import Request  # noqa: PLC0415
        except ImportError as error:
            msg = "GoogleAuthCredentials needs google-auth and requests: pip install 'evertoken[google]'"
            raise ImportError(msg) from error
        if not callable(getattr(credentials, "refresh", None)) or not hasattr(credentials, "expiry"):
            msg = f"credentials must be google.auth.credentials.Credentials, not {type(credentials).__name__}"
            raise TypeError(msg)
        self._credentials = credentials
        self._exceptions: Any = exceptions
        self._request_type: Any = Request
        self._threads = threads_of(self._refresh)
        self.provider = provider

    async def fetch(self, request: FetchRequest, /) -> Answer:
        """
        Call `refresh`, and take the token and its expiry.

        Raises:
            TransientRefreshError: Google could not be reached, or says that it may work later.
            GrantRejected: Google refuses the credentials, or they cannot be used as they are.
        """
        found: Hidden[Answer | Exception] = await self._threads.call((request.timeout,))
        if isinstance(found.value, Exception):
            raise found.value
        return found.value

    def _refresh(self, timeout: float) -> Hidden[Answer | Exception]:
        send = self._request_type()
        credentials = self._credentials
        # The last answer tells what google-auth does not: the status of an answer that is not JSON.
        answers: list[Any] = []

        def request(*args: Any, **options: Any) -> Any:
            answers.append(send(*args, **{"timeout": timeout, **options}))
            return answers[-1]

        try:
            credentials.refresh(request)
        except self._exceptions.GoogleAuthError as error:
            return Hidden(self._failure(error, answers[-1] if answers else None))
        finally:
            send.session.close()
        expiry, payer = credentials.expiry, credentials.quota_project_id
        fields = {
            "access_token": credentials.token,
            # google-auth has naive instants, in UTC.
            "expires_at": None if expiry is None else expiry.replace(tzinfo=expiry.tzinfo or dt.UTC).timestamp(),
            "quota_project_id": payer,
        }
        return Hidden(Answer({name: value for name, value in fields.items() if value is not None}))

    def _failure(self, error: Exception, answer: Any) -> GrantRejected | TransientRefreshError:
        known = self._exceptions
        secrets = [getattr(self._credentials, name, None) for name in ("token", "refresh_token", "client_secret")]
        passing = (known.TransportError, known.TimeoutError, known.ResponseError)
        fields, status = _said(error)
        page = False
        if answer is not None:
            body = _object(answer.data)
            # An answer without an error in JSON comes from a proxy, and says nothing about the credentials. After a
            # good answer, google-auth itself may refuse them.
            page = body is None or ("error" not in body and (answer.status >= _ERRORS or bool(fields)))
            fields = fields if "error" in fields else body or {}
            status = answer.status if status is None else status
        passes = isinstance(error, passing) or isinstance(error.__cause__, passing)
        passes = passes or getattr(error, "retryable", False) or status in _PASSING or status in _SERVERS
        if passes or page:
            words = scrub(f"{type(error).__name__}: {error}", secrets)
            wait = None if answer is None else parse_retry_after(answer.headers.get("retry-after"), None)
            return TransientRefreshError(f"google-auth: {words}", status=status, retry_after=wait)
        if "error" not in fields:
            # google-auth refuses the credentials itself.
            return GrantRejected("invalid_grant", scrub(f"google-auth: {error}", secrets))
        later = not _LATER.isdisjoint(codes_in(fields))
        return failure_from(fields, status=status, origin="google-auth", secrets=secrets, rejected=not later)

    def __repr__(self) -> str:
        return f"GoogleAuthCredentials({type(self._credentials).__name__})"


def _said(error: Exception) -> tuple[dict[str, Any], int | None]:
    """Return the fields of the answer that *error* has beside its words, and the status in them, if there is one."""
    fields: dict[str, Any] = next((found for one in error.args if (found := _object(one)) is not None), {})
    inner = fields.get("error")
    status = inner.get("code") if isinstance(inner, dict) else None
    return fields, status if isinstance(status, int) else None


def _object(value: Any) -> dict[str, Any] | None:
    """Return the JSON object that *value* is or contains, or None."""
    if not isinstance(value, dict):
        try:
            value = json.loads(value)
        except (TypeError, ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None
