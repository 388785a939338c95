"""The tokens that a client was given lately, so that a field which it sent can be told from a stranger's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from evertoken._model.token import Token

__all__ = ["Given"]

# A late refusal is of the token before this one, or of one before that.
_KEPT: Final = 8


@final
class Given:
    """The last tokens of one reader that a client was given. It can be used in any thread."""

    def __init__(self) -> None:
        self._tokens: tuple[Token, ...] = ()

    @property
    def last(self) -> Token | None:
        """The last one, if there was any."""
        return self._tokens[0] if self._tokens else None

    def note(self, token: Token) -> Token:
        """Remember *token*, and return it."""
        tokens = self._tokens
        if not tokens or tokens[0] is not token:
            self._tokens = (token, *(one for one in tokens if one is not token))[:_KEPT]
        return token

    def find(self, access_token: str) -> Token | None:
        """Return the token whose value is *access_token*, or None if no given token had this value."""
        return next((one for one in self._tokens if one.access_token == access_token), None)
