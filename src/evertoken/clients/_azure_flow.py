"""
Finds the token that a request of azure-core carries, and whether the server refused it. It imports no library of Azure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast, final

from evertoken.clients._given import Given
from evertoken.clients._hidden_field import hidden_authorization
from evertoken.clients._refusal import NOTED, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from evertoken._model.protocols import TokenReader
    from evertoken._model.token import Token

__all__ = ["FIELD", "HandleMaker", "Scope", "Scopes", "place_of", "rewound"]

FIELD: Final = "Authorization"

_SCHEME: Final = "Bearer "
_WHOLE: Final = (str, bytes, bytearray, dict, list, tuple)


class HandleMaker(Protocol):
    """A manager, as far as a credential needs it."""

    def handle(self, key: Hashable = None, /) -> TokenReader:
        """Return one key."""


@final
class Scope:
    """The token of one scope, and what a client was given of it."""

    def __init__(self, reader: TokenReader) -> None:
        self.reader = reader
        self.given = Given()
        self.authorization_of = hidden_authorization()
        self._made: tuple[Token, Any] | None = None

    def give(self, token: Token, make: Callable[[Token], Any]) -> Any:
        """Return what *make* makes of *token*, once for a token, and take note that it was given."""
        made = self._made
        if made is None or made[0] is not token:
            self._made = made = self.given.note(token), make(token)
        return made[1]


@final
class Scopes:
    """
    The scopes of a credential.

    Args:
        tokens: A handle, which serves any scope; or a manager, whose keys are scopes.
    """

    def __init__(self, tokens: TokenReader | HandleMaker) -> None:
        self._tokens = cast("Any", tokens)
        self._known: dict[str, Scope] = {}
        self._only: Scope | None = None
        if not hasattr(tokens, "handle"):
            self._only = self._known[""] = Scope(self._tokens)

    def of(self, scopes: tuple[str, ...]) -> Scope:
        """
        Return the one of *scopes*.

        Raises:
            LookupError: The manager has no such key.
        """
        if self._only is not None:
            return self._only
        key = " ".join(scopes)
        found = self._known.get(key)
        if found is None:
            found = self._known.setdefault(key, Scope(self._tokens.handle(key)))
        return found

    def refused(self, request: Any, response: Any) -> tuple[Scope, Token] | None:
        """Return the token that *response* refuses, if it is one that was given by these."""
        if response.status_code not in NOTED:
            return None
        field = request.headers.get(FIELD, "")
        if not field.startswith(_SCHEME):
            return None
        for scope in tuple(self._known.values()):
            token = scope.given.find(field.removeprefix(_SCHEME))
            if token is not None:
                challenge = response.headers.get("WWW-Authenticate", "")
                return (scope, token) if is_refusal(response.status_code, challenge, token) else None
        return None


def place_of(request: Any) -> int | None:
    """Return where the body of *request* stands before it is sent, if it can be wound back to there."""
    try:
        # The older kind of requests has no content.
        body = request.content
    except AttributeError:
        body = request.data
    if body is None or isinstance(body, _WHOLE):
        return None
    try:
        place: int = body.tell()
    except (AttributeError, OSError, ValueError):
        return None
    return place


def rewound(request: Any, place: int | None) -> bool:
    """Tell whether *request* can be sent again, and wind its body back to *place*."""
    if request.files:
        return False
    if request.data is None or isinstance(request.data, _WHOLE):
        return True
    if place is None:
        return False
    try:
        request.data.seek(place)
    except (OSError, ValueError):
        return False
    return True
