"""Generic base classes, over the type of a credential and of a key. At run time they are plain classes."""

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
        """A class that is generic over the type of a credential."""

        __slots__ = ()

    class OfTokenAndKey(Generic[TokenT, KeyT]):
        """A class that is generic over the types of a credential and of a key."""

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
