"""Classes of a credential's type, and of a key's: what type checkers see of it, and what is left of it at run time."""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING

__all__ = ["KeyT", "OfToken", "OfTokenAndKey", "TokenT"]

if TYPE_CHECKING:
    from typing import Any, Generic

    from typing_extensions import TypeVar

    from evertoken._model.token import Token

    TokenT = TypeVar("TokenT", bound=Token, default=Token)
    KeyT = TypeVar("KeyT", default=Any)

    class OfToken(Generic[TokenT]):
        """A class of one kind of credential."""

        __slots__ = ()

    class OfTokenAndKey(Generic[TokenT, KeyT]):
        """A class of one kind of credential and one of key."""

else:
    from typing import TypeVar

    TokenT = TypeVar("TokenT")
    KeyT = TypeVar("KeyT")

    # Before Python 3.13 type variables have no defaults, and a subscript would have to name them all.
    class OfToken:
        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)

    class OfTokenAndKey(OfToken):
        __slots__ = ()
