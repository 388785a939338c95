"""What may be the key of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_key", "is_key"]

# No value of one of these types is equal to a value of another of them.
_PLAIN: Final = frozenset({str, int, type(None)})


def is_key(key: object, /) -> bool:
    """
    Tell whether *key* is made of the types that a key may have, so that no other key is equal to it.

    Those are `str`, `int` and None, and tuples of these. The types are exact: True and 1.0 are equal to 1, and an
    object of another class may be equal to anything.
    """
    kind = type(key)
    return kind in _PLAIN or (kind is tuple and all(map(is_key, key)))  # type: ignore[call-overload]  # a tuple


def check_key(key: object, /) -> None:
    """
    Raise unless *key* may be the key of a token: a `str`, an `int`, or a tuple of these and of None.

    Different keys are then different entries of a dict, and have different names in a store.

    Raises:
        TypeError: It is or holds something else, such as a bool, a float, a member of an enum, or an object of a
            subclass.
        ValueError: A text has half a surrogate pair: written, two halves look like one character. Or it is too long or
            too deep to be written.
    """
    try:
        for part in _parts(key):
            if type(part) not in _PLAIN:
                where = "" if part is key else ", which is in a tuple"
                msg = (
                    f"a key must be a str, an int or a tuple of these, not a {type(part).__name__}{where}; a value of "
                    "another type may be equal to another key, as True is to 1: take str(key), or the value of an enum"
                )
                raise TypeError(msg)
            str(part).encode()
    except UnicodeEncodeError:
        msg = f"a key must be text that UTF-8 can write, and {key!r} has half a surrogate pair"
        raise ValueError(msg) from None
    except (ValueError, RecursionError) as error:
        msg = f"a key must be one that can be written: {error}"
        raise ValueError(msg) from None


def _parts(key: object) -> Iterator[object]:
    if type(key) is tuple:
        for part in key:
            yield from _parts(part)
    else:
        yield key
