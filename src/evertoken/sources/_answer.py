"""What an HTTP answer means: a success, with its fields, or one of the two failures, with what the server said."""

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
        url: Who answers.

        secrets: What must not be seen in any error.

        rejections: Status codes that reject the client where the body does not say so.

        codes: Codes and answers that reject, besides those of the RFCs; None where the answer is not one of OAuth.

        requested_scope: The scope that was asked for, if one was.
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
            status: Its status.

            headers: Its header fields.

            fields: What was read of its body, if anything.

            body: The body itself.

        Raises:
            TransientRefreshError: It is none, or a failure that passes.
            GrantRejected: The server said no.
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
            # A missing slash at the end, or http for https, is seen from where it leads to.
            try:
                place = without_query(urljoin(self.url, headers.get("location") or ""))
            except ValueError:
                place = ""
            to = f" to {scrub(place, self.secrets)!r}" if place and headers.get("location") else ""
            return TransientRefreshError(f"{self.origin} answered {status} with a redirect{to}, which is not followed")
        # A page has no token in it. Any other text may be one.
        words = read_words({"title": said.get("title")}, lambda text: scrub(text, self.secrets))
        words = "" if words is None else f": {words}"
        msg = f"{self.origin} answered {status} with an answer that is no JSON object{words}"
        return TransientRefreshError(msg, ambiguous=True)
