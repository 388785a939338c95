"""Shared by the credentials for google-auth. It does not import google-auth."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

from evertoken._model.guarded import guarded
from evertoken._model.protocols import TokenReader
from evertoken.clients._hidden_field import HiddenField, hidden_authorization
from evertoken.clients._uncopied import Uncopied

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from evertoken._model.token import Token


__all__ = ["GoogleFlow", "Reader", "check_unset", "put_other"]

_FIELD: Final = "authorization"
_PAYER: Final = "x-goog-user-project"

# The token that was given last in this thread or task, and by which credentials.
_GIVEN: ContextVar[tuple[object, Token] | None] = ContextVar("evertoken_google_given", default=None)


class Reader(TokenReader, Protocol):
    """The methods of a manager that the credentials need: a handle has them."""

    def peek(self) -> Token | None:
        """Return the valid token or None."""


class GoogleFlow(Uncopied):
    """
    Puts the token of a reader into header fields, and remembers which one it gave.

    google-auth calls `refresh` after a 401, and does not say which token was refused.
    """

    def __init__(self, tokens: Reader) -> None:
        # It sets the token to None, among other things.
        super().__init__()
        self._tokens = tokens
        self._authorization_of = hidden_authorization()
        self._last: Token | None = None

    def _noted(self, token: Token) -> Token:
        self._last = token
        _GIVEN.set((self, token))
        return token

    def _refused(self) -> Token | None:
        """Return the token that `refresh` is about: the last one of this thread or task, or else of any; or None."""
        if self._tokens.peek() is None:
            # It is about the lack of one.
            return None
        given = _GIVEN.get()
        return given[1] if given is not None and given[0] is self else self._last

    def _put(self, headers: MutableMapping[str, str], token: Token) -> None:
        headers[_FIELD] = self._authorization_of(token)
        payer = token.extra.get("quota_project_id")
        if isinstance(payer, str) and payer:
            headers[_PAYER] = payer


def put_other(headers: MutableMapping[str, str], token: str) -> None:
    """Put a token that the caller has of its own into *headers*."""
    headers[_FIELD] = HiddenField(f"Bearer {token}")


@guarded
def check_unset(value: str | None) -> None:
    """
    Raise unless *value* is None, which the base classes set.

    Raises:
        AttributeError: It is a token.
    """
    if value is not None:
        msg = "the token is the manager's, and cannot be set here: use TokenManager.put"
        raise AttributeError(msg)
