"""The value of a header field that neither `repr` nor a pickle shows. It imports no HTTP library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.token import Token

__all__ = ["HiddenField", "hidden_authorization"]

_SHOWN: Final = "[secure]"


class HiddenField(str):
    """The value of a field that holds a token. A pickled request has none."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_SHOWN)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (_SHOWN,)


def hidden_authorization(kind: Callable[[str], str] = HiddenField) -> Callable[[Token], str]:
    """
    Return a function that makes the Authorization field of a token, as a value of *kind*.

    It makes one value for a token, because many requests have the same.
    """
    # In a cell, and not in an attribute, where it would be seen.
    last: tuple[Token, str] | None = None

    def authorization_of(token: Token) -> str:
        nonlocal last
        known = last
        if known is None or known[0] is not token:
            last = known = token, kind(token.authorization)
        return known[1]

    return authorization_of
