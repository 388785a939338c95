"""The flow of a token in a field of its own, such as X-Api-Key. It imports no HTTP library."""

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

# Vault and OpenBao say 403 of a token that has ended (HTTP API, "Status codes"), and never 401.
_REFUSED_BY: Final = {"x-vault-token": frozenset({403})}


class HeaderFlow(BearerFlow):
    """
    Sends the token in a field of its own to the origins it is bound to, and heals a 401 once.

    In the field X-Vault-Token a 403 is healed as well. It may also mean that a policy forbids the path. The cool-down
    of refused tokens bounds what that costs.

    A redirect to another origin goes on without the token, and one within the origin with it.

    Args:
        tokens: A handle of a manager.

        header: The field's name, such as "X-Api-Key".

        scheme: What stands before the token in it, if anything.

        origins:
            The origins that may see the token, as in "https://api.example.com". Without any, the first one it is
            used with.

        allow_http: Send it over plain http, and not to loopback alone.

        min_ttl:
            The fewest seconds for which the token of each request is valid, as a long upload or stream needs. If None,
            any valid token will do. It works with handles only.

    Raises:
        ValueError: An argument makes no sense; the message names it.
        RuntimeError: This release of the HTTP library would carry the field to other origins.
    """

    #: The library's class of header fields.
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
