"""Decides what an HTTP answer means: a success with its fields, or one of the two failures with the server's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urljoin

from evertoken._model.answer import Answer
from evertoken._model.error_body import read_words, standard_code
from evertoken._model.error_response import failure_from, is_error
from evertoken._model.errors import TransientRefreshError
from evertoken._model.parsing import http_date, parse_retry_after
from evertoken._model.redaction import scrub
from evertoken._model.token_fields import standard_fields
from evertoken.sources._body import error_in
from evertoken.sources._url import without_query

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from evertoken._model.error_response import Rejection

__all__ = ["Judge"]

_OK: Final = 200
_MULTIPLE_CHOICES: Final = 300
_BAD_REQUEST: Final = 400


@final
@dataclass(frozen=True, slots=True, repr=False)
class Judge:
    """
    How the answers to one request are judged.

    Args:
        url: The URL of the server that answers.

        secrets: Texts that must not appear in an error.

        rejections: Status codes that reject the client, even if the body does not say so.

        codes: Codes and answers that reject, besides those of the RFCs. It is None if the answer is not from OAuth.

        requested_scope: The requested scope, if any.
    """

    url: str
    origin: str
    secrets: Sequence[str]
    rejections: Collection[int] = ()
    codes: Collection[str | Rejection] | None = None
    requested_scope: str | None = None

    def answer(self, status: int, headers: Any, fields: Mapping[str, Any] | None, body: bytes) -> Answer:
        """
        Return the answer.

        Args:
            status: The status of the answer.

            headers: The header fields of the answer.

            fields: The fields that were read from the body, if any.

            body: The body itself.

        Raises:
            TransientRefreshError: The answer is not a success, but the failure is temporary.
            GrantRejected: The server rejected the request.
        """
        date = headers.get("date")
        date_at = None if date is None else http_date(date)
        if fields is not None and self.codes is not None:
            fields = standard_fields(fields)
        kind = headers.get("content-type", "")
        good = _OK <= status < _MULTIPLE_CHOICES and fields is not None
        if good and not (self.codes is not None and is_error(fields or {}, self.codes)):
            return Answer(fields or {}, date=date_at, requested_scope=self.requested_scope)
        said = fields if fields is not None else error_in(body, kind)
        refused = self.codes is not None and standard_code(said) is not None
        if _OK <= status < _BAD_REQUEST and not good and not refused:
            raise self._unreadable(status, headers, said)
        raise failure_from(
            said,
            status=status,
            retry_after=parse_retry_after(headers.get("retry-after"), date_at),
            codes=self.codes or (),
            origin=self.origin,
            secrets=self.secrets,
            rejected=status in self.rejections,
        )

    def _unreadable(self, status: int, headers: Any, said: Mapping[str, Any]) -> TransientRefreshError:
        if status >= _MULTIPLE_CHOICES:
            # The target of the redirect shows mistakes such as a missing slash at the end, or http instead of https.
            try:
                place = without_query(urljoin(self.url, headers.get("location") or ""))
            except ValueError:
                place = ""
            to = f" to {scrub(place, self.secrets)!r}" if place and headers.get("location") else ""
            return TransientRefreshError(f"{self.origin} answered {status} with a redirect{to}, which is not followed")
        # A web page contains no token, so its title can be shown. Any other text may be a token.
        words = read_words({"title": said.get("title")}, lambda text: scrub(text, self.secrets))
        words = "" if words is None else f": {words}"
        msg = f"{self.origin} answered {status} with a body that is not a JSON object{words}"
        return TransientRefreshError(msg, ambiguous=True)
