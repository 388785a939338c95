"""The value of a header field that is not shown by `repr` or a pickle. This module imports no HTTP library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from evertoken._model.token import Token

__all__ = ["HiddenField", "hidden_authorization", "made_once"]

T = TypeVar("T")

_SHOWN: Final = "[secure]"


class HiddenField(str):
    """The value of a field with a token. A pickled request contains no token."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_SHOWN)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (_SHOWN,)


def hidden_authorization(kind: Callable[[str], str] = HiddenField) -> Callable[[Token], str]:
    """Return a function that makes the Authorization field of a token, as a value of *kind*, once for a token."""
    return made_once(lambda token: kind(token.authorization))


def made_once(make: Callable[[Token], T]) -> Callable[[Token], T]:
    """Return *make*, which then keeps its result for the last token, because many requests have the same token."""
    # It is in a closure, because an attribute would be visible.
    last: tuple[Token, T] | None = None

    def made(token: Token) -> T:
        nonlocal last
        known = last
        if known is None or known[0] is not token:
            last = known = token, make(token)
        return known[1]

    return made
