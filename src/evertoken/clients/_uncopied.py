"""Objects that refer to a manager: what copies them with a client's options gets the same ones."""

from __future__ import annotations

from typing import NoReturn, Self

__all__ = ["Uncopied"]


class Uncopied:
    """An object whose copies are the object itself, and which cannot be pickled, because it refers to a manager."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        msg = f"{type(self).__name__} refers to a manager and cannot be pickled: make one in each process"
        raise TypeError(msg)
