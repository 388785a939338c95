"""The flow of requests that are signed for AWS. It imports no HTTP library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from evertoken._signing.sigv4 import KeyPair, SigV4
from evertoken.clients._bearer import BearerFlow, origin_in
from evertoken.clients._withheld import check_withholding, withholding

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["SigV4Flow"]

# What AWS says of credentials that it does not, or no longer, accept. Whoever may not do what was asked is told
# otherwise, with the same status.
_NOT_GOOD: Final = re.compile(
    rb"\b(?:ExpiredToken|InvalidClientTokenId|InvalidToken|InvalidAccessKeyId|UnrecognizedClient)(?:Exception)?\b"
)


class SigV4Flow(BearerFlow):
    """
    Signs each request, and heals the refusal of its credentials once.

    Args:
        tokens: A handle of a manager of AWS credentials.

        service: The service's name in signatures, such as "execute-api" or "s3".

        region: Its region, such as "eu-west-1".

        origins:
            The origins that may see the session token, as in "https://api.example.com". Without any, the first one it
            is used with.

    Raises:
        ValueError: An argument makes no sense; the message names it.
        ImportError: The extra `aws` is not installed.
        RuntimeError: This release of the HTTP library would carry the session token to other origins.
    """

    requires_request_body = True
    telling: ClassVar[frozenset[int]] = frozenset({400, 401, 403})
    wanting: ClassVar[frozenset[int]] = telling
    noted: ClassVar[Container[int]] = telling
    #: The library's class of header fields.
    headers: ClassVar[Any]

    def __init__(self, tokens: TokenReader, *, service: str, region: str, origins: Iterable[str] = ()) -> None:
        super().__init__(tokens, origins=origins)
        self._signer = SigV4(service, region)
        check_withholding(self.headers, "X-Amz-Security-Token")

    def _sign(self, request: Any, token: Token) -> None:
        if not hasattr(token, "secret_access_key"):
            msg = f"requests are signed with AWS credentials, and the manager gives {type(token).__name__}"
            raise TypeError(msg)
        signature = self._signer.sign(
            cast("KeyPair", token), request.method, str(request.url), request.headers, request.read()
        )
        # It is of this request alone, and a redirect must not take the session token elsewhere.
        request.headers = withholding(request.headers, signature)

    def _blames_token(self, response: Any) -> bool:
        if response.status_code not in self.telling or origin_in(response.request.url) not in self._origins:
            return False
        said = response.headers.get("x-amzn-errortype", "").encode() + b" " + response.content
        return _NOT_GOOD.search(said) is not None
