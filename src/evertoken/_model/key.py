"""Checks what may be used as the key of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_key", "is_key"]

# Values of different types in this set are never equal.
_PLAIN: Final = frozenset({str, int, type(None)})


def is_key(key: object, /) -> bool:
    """
    Tell whether *key* is made of the allowed types, so that no other key is equal to it.

    These are `str`, `int` and None, and tuples of these. The types must match exactly: True and 1.0 are equal to 1, and
    an object of another class may be equal to anything.
    """
    kind = type(key)
    return kind in _PLAIN or (kind is tuple and all(map(is_key, key)))  # type: ignore[call-overload]  # a tuple


def check_key(key: object, /) -> None:
    """
    Raise an error if *key* cannot be the key of a token. A key is a `str`, an `int`, or a tuple of these and of None.

    Therefore different keys are different entries of a dict, and have different names in a store.

    Raises:
        TypeError: The key is or contains something else, such as a bool, a float, a member of an enum, or an object of
            a subclass.
        ValueError: A text contains half a surrogate pair, because two written halves look like one character. Or the
            key is too long or too deep to be written.
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
