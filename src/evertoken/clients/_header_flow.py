"""The flow of a token in a special header field, such as X-Api-Key. It imports no HTTP library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from evertoken._model.redaction import quoted
from evertoken.clients._bearer import BearerFlow
from evertoken.clients._withheld import check_withholding, withholding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["HeaderFlow"]

# RFC 9110 section 5.6.2.
_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TAKEN: Final = frozenset({"connection", "content-length", "content-type", "cookie", "host", "transfer-encoding"})

# Vault and OpenBao answer 403, and never 401, if a token has ended (HTTP API, "Status codes").
_REFUSED_BY: Final = {"x-vault-token": frozenset({403})}


class HeaderFlow(BearerFlow):
    """
    Sends the token in a special field to the origins it is bound to, and heals a 401 once.

    In the field X-Vault-Token, a 403 is healed too. It may also mean that a policy forbids the path. In that case the
    cool-down of refused tokens limits the extra fetches.

    A redirect to another origin is followed without the token. A redirect within the origin carries the token.

    Args:
        tokens: A handle of a manager.

        header: The name of the field, such as "X-Api-Key".

        scheme: A word that comes before the token in the field, if any.

        origins:
            The origins that may receive the token, such as "https://api.example.com". By default, only the first origin
            that it is used with.

        allow_http: Also send the token over plain http to hosts other than loopback.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An argument is invalid. The message names it.
        RuntimeError: This release of the HTTP library would carry the field to other origins.
    """

    #: The library's class for header fields.
    headers: ClassVar[Any]

    def __init__(
        self,
        tokens: TokenReader,
        header: str,
        *,
        scheme: str = "",
        origins: Iterable[str] = (),
        allow_http: bool = False,
        min_ttl: float | None = None,
    ) -> None:
        super().__init__(tokens, origins=origins, allow_http=allow_http, min_ttl=min_ttl)
        if not isinstance(header, str) or not _FIELD_NAME.fullmatch(header) or header.lower() in _TAKEN:
            msg = f"header must be the name of a header field that is free for a token, not {quoted(header)}"
            raise ValueError(msg)
        self.field: str = header.lower()
        self._name = header
        self.refused_by: frozenset[int] = _REFUSED_BY.get(self.field, frozenset())
        self._scheme = scheme
        check_withholding(self.headers, header)

    def _sign(self, request: Any, token: Token) -> None:
        value = f"{self._scheme} {token.access_token}" if self._scheme else token.access_token
        request.headers = withholding(request.headers, {self._name: value})
