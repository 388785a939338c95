"""The value of a header field that neither `repr` nor a pickle shows. It imports no HTTP library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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


def hidden_authorization(token: Token) -> str:
    """Return what the Authorization field is set to for *token*."""
    return HiddenField(token.authorization)
