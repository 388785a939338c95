"""
The flow of a token in a field of its own, such as X-Api-Key. It imports no HTTP library.

A client that follows a redirect copies all fields to the new request, and takes out Authorization alone where the
origin is another. So the field is not among those that are copied: each request shows it to whoever sends it, and
keeps it from whoever makes a request of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from evertoken.clients._bearer import BearerFlow, origin_in, replayable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evertoken._contracts import TokenReader
    from evertoken._token import Token

__all__ = ["HeaderFlow"]

# RFC 9110 section 5.6.2.
_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TAKEN: Final = frozenset({"connection", "content-length", "content-type", "cookie", "host", "transfer-encoding"})
_UNAUTHORIZED: Final = 401

_kinds: dict[type, type] = {}


class HeaderFlow(BearerFlow):
    """
    Sends the token in a field of its own to the origins it is bound to, and heals a 401 once.

    A redirect to another origin goes on without the token, and one within the origin with it.

    Args:
        tokens: A handle of a manager.

        header: The field's name, such as "X-Api-Key".

        scheme: What stands before the token in it, if anything.

        origins:
            The origins that may see the token, as in "https://api.example.com". Without any, the first one it is
            used with.

    Raises:
        ValueError: An argument makes no sense; the message names it.
        RuntimeError: This release of the HTTP library would carry the field to other origins.
    """

    #: The library's class of header fields.
    headers: ClassVar[Any]

    def __init__(self, tokens: TokenReader, header: str, *, scheme: str = "", origins: Iterable[str] = ()) -> None:
        super().__init__(tokens, origins=origins)
        if not isinstance(header, str) or not _FIELD_NAME.fullmatch(header) or header.lower() in _TAKEN:
            msg = f"header must be the name of a header field that is free for a token, not {header!r}"
            raise ValueError(msg)
        self.field: str = header.lower()
        self._name = header
        self._scheme = scheme
        fields = _withholding(self.headers({"a": "b"}), header, "token")
        copied = self.headers(fields)
        if header in copied or "a" not in copied or (header.encode(), b"token") not in fields.raw:
            msg = f"this release of {self.headers.__module__} would carry {header} to other origins; use Authorization"
            raise RuntimeError(msg)

    def _sign(self, request: Any, token: Token) -> None:
        value = f"{self._scheme} {token.access_token}" if self._scheme else token.access_token
        request.headers = _withholding(request.headers, self._name, value)

    def _seen(self, request: Any, response: Any) -> Any | None:
        last = response.request
        if response.status_code != _UNAUTHORIZED or last is request or self.field in last.headers:
            return None
        # A redirect within the origin lost the token on its way.
        again = replayable(last) or (last.stream is request.stream and replayable(request))
        if origin_in(last.url) not in self._origins or not again:
            return None
        last.headers = _withholding(last.headers, self._name, request.headers[self._name])
        return last


class _Withheld:
    """
    Header fields with one more, which no copy has.
    """

    withheld: tuple[str, str]

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        name, value = self.withheld
        found: list[tuple[bytes, bytes]] = super().raw  # type: ignore[misc]  # of the library's class beside this one
        return [*found, (name.encode(), value.encode())]

    def __getitem__(self, key: str) -> str:
        name, value = self.withheld
        found: str = value if key.lower() == name.lower() else super().__getitem__(key)  # type: ignore[misc]
        return found

    def __contains__(self, key: object) -> bool:
        return (isinstance(key, str) and key.lower() == self.withheld[0].lower()) or super().__contains__(key)  # type: ignore[misc]


def _withholding(headers: Any, name: str, value: str) -> Any:
    """
    Return *headers* with one field more, which no copy has.
    """
    kind = type(headers)
    if not issubclass(kind, _Withheld):
        headers.pop(name, None)
        if kind not in _kinds:
            _kinds[kind] = type("Headers", (_Withheld, kind), {})
        headers = _kinds[kind](headers)
    headers.withheld = (name, value)
    return headers
