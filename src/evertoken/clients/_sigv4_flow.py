"""The flow of requests that are signed for AWS. It imports no HTTP library."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from evertoken._engine.clock import SystemClock
from evertoken._model.parsing import http_date
from evertoken._signing.sigv4 import CONTENT_HASH, OURS, KeyPair, SigV4
from evertoken.clients._aws_errors import BAD_KEYS
from evertoken.clients._bearer import BearerFlow
from evertoken.clients._origin import origin_in
from evertoken.clients._replayable import replayable
from evertoken.clients._withheld import check_withholding, withholding

if TYPE_CHECKING:
    from collections.abc import Container

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["SigV4Flow"]

# Codes for a wrong time of the signature, and codes that may mean a wrong time or another fault.
_WRONG_TIME: Final = re.compile(
    rb"\b(?:RequestTimeTooSkewed|RequestExpired|RequestInTheFuture)(?:Exception)?\b"
    rb"|\bSignature (?:expired|not yet current)\b"
)
_MAYBE_WRONG_TIME: Final = re.compile(rb"\b(?:AuthFailure|InvalidSignature|SignatureDoesNotMatch)(?:Exception)?\b")
# Services accept a signature that is at least 5 minutes off. One minute is kept for the way of the request.
_TOLERATED_SECONDS: Final = 240.0
# A machine without a battery may start in 1970. A Date that is further away is an error.
_MAX_SKEW: Final = 100 * 365 * 86_400.0


class SigV4Flow(BearerFlow):
    """
    Signs each request when it is sent, and heals a refusal of the credentials or of the time once.

    Args:
        tokens: A handle of a manager of AWS credentials.

        service: The name of the service in signatures, such as "execute-api" or "s3".

        region: The region of the service, such as "eu-west-1".

        origins:
            The origins that may receive the session token, such as "https://api.example.com". By default, only the
            first origin that it is used with.

        allow_http: Also send requests over plain http to hosts other than loopback.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An argument is invalid. The message names it.
        ImportError: The extra `aws` is not installed.
        RuntimeError: This release of the HTTP library would carry the session token to other origins.
    """

    requires_request_body = True
    telling: ClassVar[frozenset[int]] = frozenset({400, 401, 403})
    wanting: ClassVar[frozenset[int]] = telling
    noted: ClassVar[Container[int]] = telling
    #: The library's class for header fields.
    headers: ClassVar[Any]

    def __init__(
        self,
        tokens: TokenReader,
        *,
        service: str,
        region: str,
        origins: Iterable[str] = (),
        allow_http: bool = False,
        min_ttl: float | None = None,
    ) -> None:
        super().__init__(tokens, origins=origins, allow_http=allow_http, min_ttl=min_ttl)
        self._signer = SigV4(service, region)
        # Seconds by which the clock of the service is ahead of ours, learnt when it last refused a time.
        self._skew = 0.0
        check_withholding(self.headers, "X-Amz-Security-Token")

    async def _aread_body(self, request: Any) -> None:
        if self._is_to_be_read(request, AsyncIterable):
            await request.aread()
            _send_whole(request)

    def _read_body(self, request: Any) -> None:
        if self._is_to_be_read(request, Iterable):
            request.read()
            _send_whole(request)

    def _is_to_be_read(self, request: Any, kind: type) -> bool:
        # S3 also needs the length, and refuses a body in chunks.
        if not self._signer.hashes(request.headers.get(CONTENT_HASH, "")) and "content-length" in request.headers:
            return False
        if not isinstance(request.stream, kind):
            client, wanted = ("an async client", "async ") if kind is AsyncIterable else ("a sync client", "")
            msg = (
                f"the body is read before the request is signed, and {client} cannot read this one "
                f"({type(request.stream).__name__}); give bytes or an {wanted}iterable of bytes as content="
            )
            raise TypeError(msg)
        return True

    def _sign(self, request: Any, token: Token) -> None:
        if not hasattr(token, "secret_access_key"):
            msg = f"requests are signed with AWS credentials, and the manager gives {type(token).__name__}"
            raise TypeError(msg)
        # Earlier signatures, and fields that the caller set in their place, are removed.
        request.headers = withholding(request.headers, {})
        for name in OURS:
            request.headers.pop(name, None)
        request.url = _without_empty_parts(request.url)
        given = request.headers.get(CONTENT_HASH, "")
        signature = self._signer.sign_sent(
            cast("KeyPair", token),
            request.method,
            _target(request),
            request.headers.raw,
            request.read() if self._signer.hashes(given) else b"",
            skew=self._skew,
        )
        # The signature is only for this request, and a redirect must not take the session token elsewhere.
        request.headers = withholding(request.headers, signature)

    def _seen(self, request: Any, response: Any, token: Token) -> Any | None:
        again = super()._seen(request, response, token)
        last = response.request
        if again is not None or not self._blames_time(response) or not replayable(last):
            return again
        self._sign(last, token)
        return last

    def _blames_time(self, response: Any) -> bool:
        """Tell whether the answer refuses the time of the signature, and learn the clock skew from its Date."""
        # If a request has the field, it was signed here, and so was sent to an allowed origin.
        signed = response.request.headers.get("x-amz-date")
        date = http_date(response.headers.get("date", ""))
        if response.status_code not in self.telling or signed is None or date is None:
            return False
        said = _said(response)
        if not _WRONG_TIME.search(said):
            at = dt.datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()
            # The answer to a HEAD has no body.
            may_be = not said.strip() or _MAYBE_WRONG_TIME.search(said)
            if not may_be or abs(date - at) <= _TOLERATED_SECONDS:
                return False
        skew = date - SystemClock.time()
        if abs(skew) > _MAX_SKEW:
            return False
        self._skew = skew
        return True

    def _blames_token(self, response: Any) -> bool:
        if response.status_code not in self.telling or origin_in(response.request.url) not in self._origins:
            return False
        return BAD_KEYS.search(_said(response)) is not None


def _said(response: Any) -> bytes:
    content: bytes = response.content
    return str(response.headers.get("x-amzn-errortype", "")).encode() + b" " + content


def _target(request: Any) -> bytes:
    # httpcore sends this extension in place of path and query. This allows a key such as "/a/../b".
    target: bytes | str = request.extensions.get("target", request.url.raw_path)
    return target.encode() if isinstance(target, str) else target


def _without_empty_parts(url: Any) -> Any:
    """Return *url* without the empty parts of a query such as "a=1&&b=2", which implementations sign differently."""
    kept = b"&".join(part for part in url.query.split(b"&") if part)
    return url if kept == url.query else url.copy_with(query=kept or None)


def _send_whole(request: Any) -> None:
    """Send the body, which was read, with its length instead of in chunks."""
    chunked = "transfer-encoding" in request.headers
    if chunked:
        del request.headers["transfer-encoding"]
    if chunked or (request.content and "content-length" not in request.headers):
        request.headers["Content-Length"] = str(len(request.content))
